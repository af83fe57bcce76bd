"""Each delivery in the outbox is claimed by one sender. A delivery that fails does not hold up the others."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from reports.delivery.channels import enqueue_report
from reports.delivery.sender import CLAIM_SECONDS, GIVEN_UP_AFTER, SendCounts
from reports.reconciliations.results import parse_result
from sandbox import Sandbox
from sync.settings.loading import SettingsError
from sync.store import outbox
from tests.harness.deliveries import alert
from tests.harness.reconciliations import Clock, OpenApp, ReportsApp, kept
from tests.harness.results import made_result
from tests.harness.waiting import in_thread, result_of


def test_concurrent_senders_send_each_delivery_once(upstream: Sandbox, open_app: OpenApp) -> None:
    """If several threads send at the same time, each delivery is sent only once."""
    app = open_app()
    for key in range(12):
        alert(app, str(key))
    for sending in [in_thread(app.sender().send_due) for _ in range(4)]:
        result_of(sending)
    posted = [message["text"] for message in upstream.slack()["messages"]]
    assert len(posted) == len(set(posted)) == 12


def pending(app: ReportsApp) -> int:
    """The number of deliveries that are waiting."""
    with app.database.read() as connection:
        return outbox.counts(connection)[outbox.DeliveryState.PENDING]


def test_slack_is_off_without_a_token(upstream: Sandbox, open_app: OpenApp) -> None:
    """Without a token, no report is enqueued for Slack, nothing is posted, the log warns once, and no flush waits."""
    app = open_app(slack_token="")
    alert(app, "1")
    alert(app, "2")
    result = made_result(1)
    kept(app, result)
    with app.database.begin() as connection:
        assert enqueue_report(connection, app.settings, result) == ["archive"]
    sender = app.sender()
    with capture_logs() as logs:
        assert sender.send_due() == SendCounts(sent=1)
        assert sender.flush(60, sleep=lambda _seconds: pytest.fail("there is nothing to wait for")) == SendCounts()
    assert [each["log_level"] for each in logs if each["event"] == "slack-off"] == ["warning"]
    assert upstream.slack()["messages"] == []


@pytest.mark.parametrize(
    "elsewhere",
    [{"slack_token": "", "smtp_url": ""}, {"slack_token": "", "reports_email_to": ""}, {"slack_token": "xoxb-wrong"}],
)
def test_deliveries_are_left_to_a_process_that_can_send_them(
    upstream: Sandbox, open_app: OpenApp, elsewhere: dict[str, str]
) -> None:
    """A process that has no Slack or email, or has a wrong Slack token, does not give up on deliveries.

    It leaves the deliveries that it cannot make to another process.
    """
    mail = {"smtp_url": "smtp://127.0.0.1:1", "reports_email_to": "a@example.com"}
    alert(open_app(**mail))
    kept(open_app(**mail), made_result(1), "email", "slack")
    assert open_app(**{**mail, **elsewhere}).sender().send_due().given_up == 0
    app = open_app(**mail)
    assert pending(app) == 3
    clock = Clock()
    clock.forward(CLAIM_SECONDS + 600)
    assert app.sender(clock).send_due() == SendCounts(sent=2, later=1)
    assert len(upstream.slack()["messages"]) == 3


def test_a_channel_that_is_off_does_not_hold_up_the_others(
    upstream: Sandbox, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many deliveries wait for a channel that is off, later deliveries of other channels are sent."""
    monkeypatch.setattr("reports.delivery.sender._AT_ONCE", 3)
    app = open_app(slack_token="")
    for key in range(5):
        alert(app, str(key))
    kept(app, made_result(1), "archive")
    assert app.sender().send_due() == SendCounts(sent=1)


def test_a_wrong_setting_defers_a_delivery(
    upstream: Sandbox, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While a setting is wrong, the delivery of a report to the archive is deferred.

    Once the setting is corrected, the report is stored.
    """

    def wrong(*_arguments: object) -> None:
        raise SettingsError("REPORTS_LOCATION: nonsense")

    app = open_app()
    kept(app, made_result(1), "archive")
    monkeypatch.setattr("reports.delivery.sender.open_archive", wrong)
    assert app.sender().send_due() == SendCounts(later=1)
    monkeypatch.undo()
    clock = Clock()
    clock.forward(600)
    assert app.sender(clock).send_due() == SendCounts(sent=1)


@pytest.mark.parametrize("token", ["", "xoxb-wrong"])
def test_a_delivery_is_given_up_after_a_fortnight(
    upstream: Sandbox, open_app: OpenApp, capsys: pytest.CaptureFixture[str], token: str
) -> None:
    """A delivery that keeps being deferred is given up on after fourteen days, and no earlier. The log says so."""
    app = open_app(slack_token=token)
    alert(app, "1")
    alert(app, "2")
    clock = Clock()
    clock.forward((GIVEN_UP_AFTER - timedelta(hours=1)).total_seconds())
    assert app.sender(clock).send_due().given_up == 0
    clock.forward(2 * 3_600)
    assert app.sender(clock).send_due() == SendCounts(given_up=2)
    assert capsys.readouterr().out.count("delivery-given-up") == 2
    assert pending(app) == 0


def test_a_delivery_that_slack_refuses_is_tried_again(upstream: Sandbox, open_app: OpenApp) -> None:
    """A delivery that Slack refuses is deferred, and Slack's error is recorded with the delivery.

    The report is stored in the archive without waiting for Slack.
    """
    app = open_app(slack_token="xoxb-wrong")
    kept(app, made_result(1), "slack", "archive")
    assert app.sender().send_due() == SendCounts(sent=1, later=1)
    with app.database.read() as connection:
        delivery = outbox.find(connection, "reconciliation:run-of-today:now:slack")
    assert delivery is not None
    assert "invalid_auth" in str(delivery.last_error)


def test_the_archive_gets_each_report_and_an_index(upstream: Sandbox, open_app: OpenApp, tmp_path: Path) -> None:
    """The archive has the three files of each run whose report was delivered to it.

    The index links only to these runs.
    """
    app = open_app()
    kept(app, made_result(3), "archive")
    kept(app, made_result(0, run_id="unkept"))
    assert app.sender().send_due() == SendCounts(sent=1)
    root = tmp_path / "reports"
    names = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    files = {f"run-of-today/{name}" for name in ("report.html", "mismatches.csv", "result.json")}
    assert names == {"index.html"} | files
    index = (root / "index.html").read_text()
    assert "run-of-today/report.html" in index
    assert "unkept" not in index
    stored = (root / "run-of-today" / "result.json").read_text()
    assert parse_result(stored) == made_result(3)


def test_an_archive_that_cannot_be_written_defers_the_delivery(
    upstream: Sandbox, open_app: OpenApp, tmp_path: Path
) -> None:
    """If the archive cannot be written to, the delivery waits and is tried again, as in an outage."""
    (tmp_path / "reports").write_text("in the way")
    app = open_app()
    kept(app, made_result(1), "archive")
    clock = Clock()
    assert app.sender(clock).send_due() == SendCounts(later=1)
    (tmp_path / "reports").unlink()
    clock.forward(60)
    assert app.sender(clock).send_due() == SendCounts(sent=1)


def test_a_flush_waits_for_deliveries_with_a_short_deferral(upstream: Sandbox, open_app: OpenApp) -> None:
    """At the end of a command, the flush waits for deliveries with a short deferral.

    Deliveries with a long deferral are left in the outbox.
    """
    app = open_app()
    clock = Clock()
    alert(app)
    upstream.fault("slack", path="/api/chat.postMessage", kind="rate_limited", retry_after=3, times=2)
    counts = app.sender(clock).flush(60, sleep=clock.forward)
    assert counts == SendCounts(sent=1)
    alert(app, "2")
    upstream.fault("slack", path="/api/chat.postMessage", kind="rate_limited", retry_after=3000)
    assert app.sender(clock).flush(10, sleep=clock.forward) == SendCounts(later=1)


def test_a_delivery_that_nobody_can_make_is_given_up(upstream: Sandbox, open_app: OpenApp) -> None:
    """A delivery of an unknown kind, or for a run without a result, is given up on at the first attempt."""
    app = open_app(smtp_url="smtp://127.0.0.1:1", reports_email_to="a@example.com")
    with app.database.begin() as connection:
        outbox.enqueue(connection, "a", "slack", {"kind": "reconciliation", "run_id": "none"})
        outbox.enqueue(connection, "b", "slack", {"kind": "song"})
        outbox.enqueue(connection, "c", "email", {"kind": "reconciliation", "run_id": "none"})
    assert app.sender().send_due() == SendCounts(given_up=3)
