"""Slack gets each message, thread and file once, despite rate limits, lost responses and crashes.

A part that Slack refuses does not hold up the rest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from reports.delivery.sender import CLAIM_SECONDS, SendCounts
from reports.delivery.slack import refused_parts
from reports.presentation.masking import Masking
from reports.presentation.slack_report import slack_report
from sandbox import Sandbox
from sync.store import outbox
from tests.harness.deliveries import alert
from tests.harness.faults import held
from tests.harness.processes import child, kill
from tests.harness.reconciliations import Clock, OpenApp, ReportsApp, kept, open_reports_app
from tests.harness.results import made_result


def texts(upstream: Sandbox) -> list[str]:
    """The first line of each posted message."""
    return [message["text"].splitlines()[0] for message in upstream.slack()["messages"]]


def send_all(app: ReportsApp, clock: Clock, rounds: int = 12) -> None:
    """Sends what is due, `rounds` times, as a scheduler would, and moves the clock forward after each time."""
    for _ in range(rounds):
        app.sender(clock).send_due()
        clock.forward(CLAIM_SECONDS + 600)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ("to-nomis-synch-activity-duplicate", "To NOMIS synchronisation duplicate activity detected in Production"),
        ("to-nomis-synch-incentive-duplicate", "To NOMIS synchronisation duplicate incentive detected in Production"),
        ("to-nomis-synch-visit-duplicate", "To NOMIS synchronisation duplicate visit detected in Production"),
        (
            "to-nomis-synch-sentencing-adjustment-duplicate",
            "To NOMIS synchronisation duplicate sentencing adjustment detected in Production",
        ),
        (
            "to-nomis-synch-appointment-duplicate",
            "To NOMIS synchronisation duplicate appointment detected in Production",
        ),
    ],
)
def test_an_alert_has_the_text_of_the_runbook(upstream: Sandbox, open_app: OpenApp, event: str, text: str) -> None:
    """An alert begins with the text that the runbook gives for its event.

    The event, its properties, the severity, and the command that shows the finding follow.
    """
    app = open_app()
    alert(app, event=event)
    assert app.sender().send_due() == SendCounts(sent=1)
    [message] = upstream.slack()["messages"]
    assert message["text"].splitlines()[0] == f"*{text}*"
    for part in (event, "duplicateNomisId: 1", "severity serious: act now", "`prisoner-to-nomis duplicates show 1`"):
        assert part in message["text"]
    assert "&lt;b&gt;&amp;" in message["text"]
    assert message["channel"] == "#sycon-alerts"


def test_the_channel_gets_what_to_do_and_the_thread_the_details(upstream: Sandbox, open_app: OpenApp) -> None:
    """However many differences there are, the channel gets one message.

    The thread of that message has the first twenty differences, the report as a page, and the CSV file.
    """
    app = open_app()
    result = kept(app, made_result(400), "slack")
    assert app.sender().send_due() == SendCounts(sent=1)
    summary, *thread = upstream.slack()["messages"]
    assert summary["thread_ts"] is None
    assert summary["text"].startswith("*NOMIS IEP level does not match DPS Incentive level in Production*\n")
    assert summary["blocks"][0]["type"] == "header"
    for part in (
        "400 of 87,012 prisoners",
        "200 were new",
        "Severity *serious*: act now.",
        "*NOMIS support* · Ask NOMIS",
    ):
        assert part in summary["text"]
    assert {message["thread_ts"] for message in thread} == {summary["ts"]}
    posted = "\n".join(message["text"] for message in thread)
    numbered = dict(result.rows)
    assert all(f"{row} · *{numbered[row].offender_no}* booking" in posted for row in range(1, 21))
    assert "380 more differences are in the report and in the CSV." in posted
    page, sheet = upstream.slack()["files"]
    assert [(file["complete"], file["thread_ts"]) for file in (page, sheet)] == [(True, summary["ts"])] * 2
    assert all(str(each.offender_no) in page["content"] for each in result.mismatches)
    assert 'href="mismatches.csv"' not in page["content"]
    assert sheet["content"].count("\r\n") == 401
    assert sheet["content"].startswith("\ufeffrun_id,")


@pytest.mark.parametrize("reached", [False, True])
def test_a_message_links_to_the_report_or_attaches_it(
    upstream: Sandbox, open_app: OpenApp, tmp_path: Path, reached: bool
) -> None:
    """If the report has an address, the message links to the report.

    Otherwise, the report is attached as a page, and the message gives the path where the report is kept.
    """
    app = open_app(**({"reports_url": "https://reports.example/weekly"} if reached else {}))
    kept(app, made_result(0), "slack")
    app.sender().send_due()
    lines = upstream.slack()["messages"][0]["text"].splitlines()
    link = "<https://reports.example/weekly/run-of-today/report.html|Open the report>"
    brought = "The report is in the thread, as a page to open in a browser."
    place = f"{brought} It is kept at `{tmp_path}/reports/run-of-today/report.html`."
    assert [line for line in lines if "report.html" in line] == [link if reached else place]
    files = [file["filename"] for file in upstream.slack()["files"]]
    assert files == ([] if reached else ["incentive-report-run-of-today.html"])


def test_a_run_without_differences_is_one_message(upstream: Sandbox, open_app: OpenApp) -> None:
    """A run without differences produces one message, with the report as a page, but without a CSV file."""
    app = open_app()
    kept(app, made_result(0), "slack")
    app.sender().send_due()
    assert len(upstream.slack()["messages"]) == 1
    assert "all 87,012 prisoners had the same" in upstream.slack()["messages"][0]["text"]
    assert [file["filename"] for file in upstream.slack()["files"]] == ["incentive-report-run-of-today.html"]


@pytest.mark.parametrize(
    ("path", "kind", "parameters"),
    [
        ("/api/chat.postMessage", "rate_limited", {"retry_after": 30, "times": 3}),
        ("/api/chat.postMessage", "status", {"status": 503, "times": 3}),
        ("/api/chat.postMessage", "reset", {"times": 2}),
        ("/api/chat.postMessage", "reset_after_write", {"times": 1}),
        ("/api/chat.postMessage", "reset_after_write", {"times": 1, "skip": 1}),
        ("/api/chat.postMessage", "truncated", {"times": 2, "skip": 1}),
        ("/api/files.getUploadURLExternal", "rate_limited", {"retry_after": 1.5, "times": 1}),
        ("/api/files.completeUploadExternal", "status", {"status": 500, "times": 1}),
        ("/api/files.completeUploadExternal", "reset_after_write", {"times": 1}),
        ("/api/files.completeUploadExternal", "reset_after_write", {"times": 1, "skip": 1}),
        ("/upload", "reset", {"times": 1}),
    ],
)
def test_each_part_arrives_once(
    upstream: Sandbox, open_app: OpenApp, path: str, kind: str, parameters: dict[str, Any]
) -> None:
    """Whether a call fails or only its response is lost, every message and file arrives exactly once."""
    app = open_app()
    kept(app, made_result(3), "slack")
    alert(app)
    upstream.fault("slack", path=path, kind=kind, **parameters)
    send_all(app, Clock())
    assert upstream.faults()[0]["hits"] > 0
    assert Counter(texts(upstream)).most_common(1)[0][1] == 1
    assert len(upstream.slack()["messages"]) == 3
    complete = [file["filename"] for file in upstream.slack()["files"] if file["complete"]]
    assert sorted(complete) == ["incentive-mismatches-run-of-today.csv", "incentive-report-run-of-today.html"]
    with app.database.read() as connection:
        assert outbox.counts(connection)[outbox.DeliveryState.PENDING] == 0


def test_a_rate_limit_defers_all_deliveries_to_slack(upstream: Sandbox, open_app: OpenApp) -> None:
    """The `Retry-After` header of a rate-limited response determines when the delivery is tried again.

    Until then, no other delivery to Slack is tried.
    """
    app = open_app()
    clock = Clock()
    for key in ("1", "2", "3"):
        alert(app, key)
    upstream.fault("slack", path="/api/chat.postMessage", kind="rate_limited", retry_after=45, times=1)
    assert app.sender(clock).send_due() == SendCounts(later=1)
    assert upstream.faults()[0]["hits"] == 1
    with app.database.read() as connection:
        first = outbox.find(connection, "finding:1")
    assert first is not None
    assert 40 < (first.next_attempt_at - clock()).total_seconds() <= 45
    clock.forward(46)
    assert app.sender(clock).send_due() == SendCounts(sent=3)


def send_in_a_process(environment: dict[str, str], folder: str, url: str) -> None:
    """The code of a child process: sends what is due."""
    with open_reports_app(environment, Path(folder), url) as app:
        app.sender().send_due()


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize(
    ("path", "skip"),
    [
        ("/api/chat.postMessage", 0),
        ("/api/chat.postMessage", 1),
        ("/api/files.getUploadURLExternal", 0),
        ("/upload", 0),
        ("/api/files.completeUploadExternal", 0),
        ("/api/files.completeUploadExternal", 1),
    ],
)
def test_another_process_finishes_after_a_crash(
    upstream: Sandbox, open_app: OpenApp, tmp_path: Path, path: str, skip: int, taken: bool
) -> None:
    """Whether a process dies before or after Slack accepts a message or file, another process sends the rest.

    Nothing arrives twice.
    """
    app = open_app()
    kept(app, made_result(3), "slack")
    kind = "timeout_after_write" if taken else "timeout_before_write"
    with (
        held(upstream, "slack", path=path, kind=kind, skip=skip) as call,
        child(send_in_a_process, upstream.environment(), str(tmp_path), app.settings.database_url) as process,
    ):
        call.wait_for_request()
        kill(process)
    clock = Clock()
    clock.forward(CLAIM_SECONDS + 1)
    send_all(app, clock, 2)
    assert Counter(texts(upstream)).most_common(1)[0][1] == 1
    assert len(upstream.slack()["messages"]) == 2
    complete = [file["filename"] for file in upstream.slack()["files"] if file["complete"]]
    assert sorted(complete) == ["incentive-mismatches-run-of-today.csv", "incentive-report-run-of-today.html"]


def test_a_refused_part_does_not_hold_up_the_rest(
    upstream: Sandbox, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message whose blocks are refused is sent as plain text.

    If the plain text is refused too, the refusal is recorded, and the other messages and the files are sent.
    """
    result = made_result(40)
    report = slack_report(result, None, "somewhere", Masking())
    summary, first, second, *_ = report.posts
    bad = ({"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3_001}},)
    spoiled = (summary, replace(first, blocks=bad), replace(second, blocks=bad, text="x" * 40_001), summary)
    monkeypatch.setattr("reports.delivery.sender.slack_report", lambda *_: replace(report, posts=spoiled))
    app = open_app()
    kept(app, result, "slack")
    with capture_logs() as logs:
        assert app.sender().send_due() == SendCounts(sent=1)
    posted = upstream.slack()["messages"]
    assert [message["text"] for message in posted] == [summary.text, first.text, summary.text]
    assert [bool(message["blocks"]) for message in posted] == [True, False, True]
    assert len(upstream.slack()["files"]) == 2
    [line] = [each for each in logs if each["event"] == "slack-refused"]
    assert line["parts"] == {"thread 2": "msg_too_long"}
    with app.database.read() as connection:
        delivery = outbox.find(connection, "reconciliation:run-of-today:now:slack")
    assert delivery is not None
    assert refused_parts(delivery.progress) == line["parts"]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_refused_first_message_does_not_hold_up_the_others(
    upstream: Sandbox, open_app: OpenApp, as_text: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Slack refuses the first message, the program sends that message as plain text.

    If the plain text is refused too, the rest is posted in the channel, without a thread.
    """
    result = made_result(3)
    report = slack_report(result, None, "somewhere", Masking())
    text = report.posts[0].text if as_text else "x" * 40_001
    spoiled = (replace(report.posts[0], text=text, blocks=({"type": "unheard-of"},)), *report.posts[1:])
    monkeypatch.setattr("reports.delivery.sender.slack_report", lambda *_: replace(report, posts=spoiled))
    app = open_app()
    kept(app, result, "slack")
    assert app.sender().send_due() == SendCounts(sent=1)
    messages, files = upstream.slack()["messages"], upstream.slack()["files"]
    assert len(messages) == (2 if as_text else 1)
    assert [file["complete"] for file in files] == [True, True]
    first = messages[0]["ts"] if as_text else None
    assert {each["thread_ts"] for each in (messages[-1], *files)} == {first}


def test_refused_files_do_not_hold_up_the_messages(upstream: Sandbox, open_app: OpenApp) -> None:
    """If Slack refuses the files, the messages are posted, and the log gives the reason for each refusal."""
    app = open_app()
    kept(app, made_result(3), "slack")
    refusal = {"ok": False, "error": "missing_scope"}
    upstream.fault("slack", path="/api/files.getUploadURLExternal", kind="status", status=200, body=refusal, times=2)
    with capture_logs() as logs:
        assert app.sender().send_due() == SendCounts(sent=1)
    assert len(upstream.slack()["messages"]) == 2
    [line] = [each for each in logs if each["event"] == "slack-refused"]
    assert line["parts"] == {"html": "missing_scope", "csv": "missing_scope"}


def test_a_message_is_repeated_if_the_channel_cannot_be_read(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a response is lost and the channel cannot be read, the message is posted again.

    It may appear twice, but is never lost.
    """
    app = open_app(slack_channel="#unheard-of")
    alert(app)
    upstream.fault("slack", path="/api/chat.postMessage", kind="reset_after_write", times=1)
    send_all(app, Clock(), 3)
    assert len(upstream.slack()["messages"]) == 2


def test_masked_messages_have_no_whole_number(upstream: Sandbox, open_app: OpenApp) -> None:
    """With masking on, no whole prisoner number or booking id reaches Slack, in either a message or a file."""
    app = open_app(alerts_mask_prisoners="true")
    result = kept(app, made_result(12), "slack")
    alert(app)
    app.sender().send_due()
    sent = "\n".join(message["text"] for message in upstream.slack()["messages"])
    sent += "\n".join(file["content"] for file in upstream.slack()["files"])
    for each in result.mismatches:
        assert each.offender_no not in sent
        assert str(each.booking_id) not in sent
        assert f"•••••{each.offender_no[-2:]}" in sent
    assert "A1234BC" not in sent
