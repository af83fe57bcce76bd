"""Reports are emailed over real SMTP: unencrypted, with STARTTLS, with TLS from the start, and with a password."""

from __future__ import annotations

import csv
import email
import email.policy
import io
import re
import socket
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from structlog.testing import capture_logs

from reports.delivery.email import refusals
from reports.delivery.sender import SendCounts
from reports.presentation.email_report import email_report
from reports.presentation.masking import Masking
from reports.presentation.slack_report import slack_report
from sandbox import Sandbox
from sync.store import outbox
from tests.harness.certificates import server_context, write_certificate
from tests.harness.html import text_of
from tests.harness.reconciliations import Clock, OpenApp, kept
from tests.harness.results import made_result

RECEIVERS = "governor@example.org,dps@example.org"


class Mailbox:
    """A mail server's handler, which accepts senders, recipients and messages, or refuses them as a test says."""

    def __init__(self) -> None:
        """Starts empty."""
        self.messages: list[tuple[str, EmailMessage]] = []
        self.replies: dict[str, list[str]] = {}
        self.sender_replies: list[str] = []
        self.data_replies: dict[str, list[str]] = {}

    async def handle_MAIL(  # noqa: N802 - the library's name
        self, _server: Any, _session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accepts or refuses the sender."""
        if self.sender_replies:
            return self.sender_replies.pop(0)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any
    ) -> str:
        """Accepts or refuses one recipient."""
        waiting = self.replies.get(address)
        if waiting:
            return waiting.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802
        """Stores the message once for each recipient, or refuses the message."""
        for address in envelope.rcpt_tos:
            if self.data_replies.get(address):
                return self.data_replies[address].pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.messages += [(address, message) for address in envelope.rcpt_tos]
        return "250 OK"


Serve = Callable[..., tuple[Mailbox, int]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A function that starts a mail server, and returns its mailbox and its port. The servers stop after the test."""
    controllers: list[Controller] = []

    def start(**options: Any) -> tuple[Mailbox, int]:
        mailbox = Mailbox()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
        controller.start()
        controllers.append(controller)
        return mailbox, port

    yield start
    for controller in controllers:
        controller.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a self-signed certificate for 127.0.0.1 and its private key."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    write_certificate(path)
    return path


def login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: LoginPassword) -> AuthResult:
    """Accepts only the credentials of one user."""
    known = data.login == b"report@er" and data.password == b"pass/word"
    return AuthResult(success=known, handled=False)


def test_each_receiver_gets_text_html_and_csv_once(upstream: Sandbox, open_app: OpenApp, serve: Serve) -> None:
    """Each recipient gets the same message, once, as plain text and as HTML, with the CSV attached."""
    mailbox, port = serve()
    app = open_app(smtp_url=f"smtp://127.0.0.1:{port}", reports_email_to=RECEIVERS, reports_url="https://r.example/x")
    result = kept(app, made_result(3), "email")
    sender = app.sender()
    assert sender.send_due() == SendCounts(sent=1)
    assert sender.send_due() == SendCounts()
    assert [address for address, _ in mailbox.messages] == RECEIVERS.split(",")
    message = mailbox.messages[0][1]
    assert message["Subject"] == "Incentive levels, Production: 3 differences, 2 new (medium)"
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    for body in (text.get_content(), html.get_content()):
        assert all(each.offender_no in body for each in result.mismatches)
        assert "https://r.example/x/run-of-today/report.html" in body
    [attached] = message.iter_attachments()
    assert attached.get_filename() == "incentive-mismatches-run-of-today.csv"
    assert attached.get_content_type() == "text/csv"
    assert mailbox.messages[0][1]["Message-ID"] == mailbox.messages[1][1]["Message-ID"]


def test_a_report_without_an_address_is_attached(
    upstream: Sandbox, open_app: OpenApp, serve: Serve, tmp_path: Path
) -> None:
    """If an email cannot link to the report, it has the page attached, and says where the report is kept."""
    mailbox, port = serve()
    kept_in = open_app(smtp_url=f"smtp://127.0.0.1:{port}", reports_email_to="a@example.org")
    kept(kept_in, made_result(0), "email")
    kept_in.sender().send_due()
    text, html = (mailbox.messages[0][1].get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    place = f"{tmp_path}/reports/run-of-today/report.html"
    for body in (text.get_content(), html.get_content()):
        assert f"It is kept at {place}." in body
        assert "incentive-report-run-of-today.html" in body
        assert "<a " not in body
    [page] = mailbox.messages[0][1].iter_attachments()
    assert (page.get_filename(), page.get_content_type()) == ("incentive-report-run-of-today.html", "text/html")
    assert "all 87,012 prisoners had the same incentive level" in page.get_content()


def test_a_repeat_sends_only_to_receivers_without_the_report(
    upstream: Sandbox, open_app: OpenApp, serve: Serve
) -> None:
    """A recipient whom the server refuses for the time being gets the report later.

    A recipient whom the server does not know never gets it. No recipient gets the report twice.
    """
    mailbox, port = serve()
    mailbox.replies = {"b@example.org": ["451 try later", "451 try later"], "c@example.org": ["550 unknown"] * 5}
    receivers = "a@example.org,b@example.org,c@example.org"
    app = open_app(smtp_url=f"smtp://127.0.0.1:{port}", reports_email_to=receivers)
    kept(app, made_result(1), "email")
    clock = Clock()
    outcomes = []
    for _ in range(4):
        outcomes.append(app.sender(clock).send_due())
        clock.forward(3600)
    assert outcomes == [SendCounts(later=1), SendCounts(later=1), SendCounts(sent=1), SendCounts()]
    assert [address for address, _ in mailbox.messages] == ["a@example.org", "b@example.org"]


REFUSED = "554 5.7.1 Service unavailable; message looks like spam"


@pytest.mark.parametrize("reply", [REFUSED, "552 5.3.4 too big", "421 4.3.2 going down", "451 try later", "999 what"])
@pytest.mark.parametrize("first", ["RCPT", "DATA"])
def test_a_refused_receiver_does_not_affect_the_others(
    upstream: Sandbox, open_app: OpenApp, serve: Serve, first: str, reply: str
) -> None:
    """If the server refuses one recipient, at whichever step and with whatever response, the others get the report."""
    mailbox, port = serve()
    refusing = mailbox.data_replies if first == "DATA" else mailbox.replies
    refusing["a@example.org"] = [reply] * 3
    app = open_app(smtp_url=f"smtp://127.0.0.1:{port}", reports_email_to="a@example.org,b@example.org,c@example.org")
    kept(app, made_result(1), "email")
    app.sender().send_due()
    assert [address for address, _ in mailbox.messages] == ["b@example.org", "c@example.org"]


@pytest.mark.parametrize(
    "reply", ["554 5.7.1 <a@example.org>: Relay access denied", "550 5.1.0 Sender rejected", REFUSED]
)
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
def test_a_report_that_every_receiver_refused_is_tried_again(
    upstream: Sandbox, open_app: OpenApp, serve: Serve, step: str, reply: str
) -> None:
    """A report that the mail server refuses for every recipient is tried again later.

    The log has the server's response.
    """
    mailbox, port = serve()
    receivers = RECEIVERS.split(",")
    replies = [reply] * 2
    if step == "MAIL":
        mailbox.sender_replies = replies * 2
    else:
        refusing = mailbox.data_replies if step == "DATA" else mailbox.replies
        refusing |= {address: list(replies) for address in receivers}
    app = open_app(smtp_url=f"smtp://127.0.0.1:{port}", reports_email_to=RECEIVERS)
    kept(app, made_result(1), "email")
    clock = Clock()
    for _ in range(2):
        with capture_logs() as logs:
            assert app.sender(clock).send_due() == SendCounts(later=1)
        (reason,) = (each["reason"] for each in logs if each["event"] == "delivery-deferred")
        assert reason.startswith("mail: all recipients were refused: ")
        assert reply in reason
        clock.forward(3600)
    assert app.sender(clock).send_due() == SendCounts(sent=1)
    assert [address for address, _ in mailbox.messages] == receivers


def test_the_reason_for_a_refused_receiver_is_recorded(upstream: Sandbox, open_app: OpenApp, serve: Serve) -> None:
    """If the mail server refuses a recipient, the server's response is stored and logged as one short line."""
    mailbox, port = serve()
    mailbox.replies["b@example.org"] = ["550-5.1.1 no such user\r\n550 5.1.1 see https://mail.example/" + "x" * 300]
    app = open_app(smtp_url=f"smtp://127.0.0.1:{port}", reports_email_to="a@example.org,b@example.org")
    result = kept(app, made_result(1), "email")
    with capture_logs() as logs:
        assert app.sender().send_due() == SendCounts(sent=1)
    (line,) = (each for each in logs if each["event"] == "email-refused")
    assert line["log_level"] == "error"
    with app.database.read() as connection:
        delivery = outbox.find(connection, f"reconciliation:{result.run_id}:now:email")
    assert delivery is not None
    progress = delivery.progress
    assert line["reasons"] == refusals(progress)
    assert progress["refused"]["b@example.org"].startswith("550 5.1.1 no such user 5.1.1 see https://mail.example/xxx")
    assert len(progress["refused"]["b@example.org"]) == 200


def test_starttls_is_used_before_the_login(
    upstream: Sandbox, open_app: OpenApp, serve: Serve, certificate: Path
) -> None:
    """The password is sent over STARTTLS, to a server with a trusted certificate."""
    options = {"tls_context": server_context(certificate), "require_starttls": True}
    mailbox, port = serve(**options, auth_required=True, authenticator=login)
    url = f"smtp://report%40er:pass%2Fword@127.0.0.1:{port}"
    app = open_app(smtp_url=url, reports_email_to=RECEIVERS, api_ca_bundle=str(certificate))
    kept(app, made_result(1), "email")
    assert app.sender().send_due() == SendCounts(sent=1)
    assert len(mailbox.messages) == 2


def test_smtps_addresses_use_tls_at_once(upstream: Sandbox, open_app: OpenApp, serve: Serve, certificate: Path) -> None:
    """`smtps://` means TLS from the first byte."""
    mailbox, port = serve(ssl_context=server_context(certificate))
    app = open_app(
        smtp_url=f"smtps://127.0.0.1:{port}", reports_email_to="a@example.org", api_ca_bundle=str(certificate)
    )
    kept(app, made_result(0), "email")
    assert app.sender().send_due() == SendCounts(sent=1)
    assert [each.get_content_type() for each in mailbox.messages[0][1].iter_attachments()] == ["text/html"]


@pytest.mark.parametrize("trouble", ["untrusted", "password", "away"])
def test_an_unusable_mail_server_defers_the_report(
    upstream: Sandbox, open_app: OpenApp, serve: Serve, certificate: Path, trouble: str
) -> None:
    """If the certificate is untrusted, the password refused or the port closed, the report is sent later."""
    options = {"tls_context": server_context(certificate), "require_starttls": True}
    mailbox, port = serve(**options, auth_required=True, authenticator=login)
    user = "report%40er:wrong" if trouble == "password" else "report%40er:pass%2Fword"
    url = f"smtp://{user}@127.0.0.1:{1 if trouble == 'away' else port}"
    trusted = {} if trouble == "untrusted" else {"api_ca_bundle": str(certificate)}
    app = open_app(smtp_url=url, reports_email_to=RECEIVERS, **trusted)
    kept(app, made_result(1), "email")
    assert app.sender().send_due() == SendCounts(later=1)
    assert mailbox.messages == []


def test_masked_messages_have_no_whole_number(upstream: Sandbox, open_app: OpenApp, serve: Serve) -> None:
    """With masking on, no part of an email contains a whole prisoner number or booking id."""
    mailbox, port = serve()
    app = open_app(smtp_url=f"smtp://127.0.0.1:{port}", reports_email_to="a@example.org", alerts_mask_prisoners="true")
    result = kept(app, made_result(5), "email")
    app.sender().send_due()
    message = mailbox.messages[0][1]
    parts = [str(part.get_content()) for part in message.walk() if not part.is_multipart()]
    for each in result.mismatches:
        assert not any(each.offender_no in part or str(each.booking_id) in part for part in parts)


#: The size in bytes, without attachments, above which Gmail cuts off an email.
LONGEST_BODY = 100_000


@pytest.mark.parametrize("number", [0, 11, 430])
def test_an_email_is_short_however_many_differences_there_are(
    upstream: Sandbox, open_app: OpenApp, serve: Serve, number: int
) -> None:
    """However many differences there are, Gmail shows the whole email.

    The email says what to do, and lists the causes, the prisons and at most twenty differences. The attached page and
    CSV list all differences.
    """
    mailbox, port = serve()
    app = open_app(smtp_url=f"smtp://127.0.0.1:{port}", reports_email_to="a@example.org")
    result = kept(app, made_result(number), "email")
    app.sender().send_due()
    message = mailbox.messages[0][1]
    bodies = [message.get_body((kind,)) for kind in ("plain", "html")]
    assert sum(len(body.as_bytes()) for body in bodies if body is not None) < LONGEST_BODY
    page, *sheets = [each.get_content() for each in message.iter_attachments()]
    rows = list(csv.DictReader(io.StringIO("".join(sheets).removeprefix("\ufeff"))))
    assert sorted(each["offender_no"] for each in rows) == sorted(str(each.offender_no) for each in result.mismatches)
    for body in bodies:
        assert body is not None
        shown = body.get_content()
        text = text_of(shown)
        assert sum(f"{each.offender_no} booking" in text for each in result.mismatches) == min(number, 20)
        assert all(str(each.offender_no) in page for each in result.mismatches)
        if number:
            words = (
                "what to do",
                "summary",
                "by cause",
                "by prison",
                "differences, new" if number > 20 else "the diff",
            )
            place = 0
            for word in words:
                place = shown.lower().find(word, place)
                assert place >= 0, f"{word} does not follow"
        assert ("410 more differences are in the attached incentive-mismatches-run-of-today.csv" in shown) == (
            number == 430
        )


def test_files_that_are_too_large_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An email or a Slack message is sent without any file that is too large.

    If the page of the report is too large, the message says where the report is kept.
    """
    monkeypatch.setattr("reports.presentation.message_content.LONGEST_FILE", 10_000)
    for number, kinds in ((3, ["csv"]), (60, [])):
        report = email_report(made_result(number), None, "s3://reports/x", Masking())
        assert [each.kind for each in report.files] == kinds
        for body in (report.text, report.html):
            assert "The report is too long to send. It is kept at s3://reports/x." in body
            assert ("40 more differences are in the report." in body) == (number == 60)
    text = slack_report(made_result(3), None, "s3://reports/x", Masking()).posts[0].text
    assert "The report is too long to send. It is kept at `s3://reports/x`." in text


def test_the_trend_in_an_email_is_a_table() -> None:
    """Each run of the trend is a table cell, since Outlook does not draw SVG.

    The plain text shows the runs as characters of different heights, and describes the trend in words.
    """
    result = made_result(430)
    report = email_report(result, None, "somewhere", Masking())
    heights = [int(height) for height in re.findall(r'<td width="8" height="(\d+)" bgcolor="#\w+"', report.html)]
    assert (len(heights), heights[0], max(heights), heights[-1]) == (len(result.trend), 1, 32, 32)
    assert "<svg" not in report.html
    assert re.search(r"^Differences: [▁▂▃▄▅▆▇]{11}█  0 on 6 March 2023, 430 on 22 May 2023;", report.text, re.MULTILINE)


def test_the_trend_of_runs_without_differences_has_no_highest_figure() -> None:
    """If no run found a difference, the text of the trend gives 0 as both the lowest and the highest number."""
    result = made_result(0)
    quiet = tuple(each.model_copy(update={"mismatches": 0}) for each in result.trend)
    report = email_report(result.model_copy(update={"trend": quiet}), None, "somewhere", Masking())
    assert f"between 0 and 0 in {len(quiet)} runs" in " ".join(report.text.split())


def test_a_masked_csv_opens_in_excel(upstream: Sandbox, open_app: OpenApp, serve: Serve) -> None:
    """A masked CSV begins with the byte order mark by which Excel recognises UTF-8, and no cell is a formula."""
    mailbox, port = serve()
    app = open_app(smtp_url=f"smtp://127.0.0.1:{port}", reports_email_to="a@example.org", alerts_mask_prisoners="true")
    kept(app, made_result(3), "email")
    app.sender().send_due()
    sheet = list(mailbox.messages[0][1].iter_attachments())[-1]
    content = sheet.get_payload(decode=True)
    assert isinstance(content, bytes)
    assert content.startswith(b"\xef\xbb\xbfrun_id,offender_no,")
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert [row["offender_no"] for row in rows] == ["•••••AA", "•••••CA", "•••••BA"]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
