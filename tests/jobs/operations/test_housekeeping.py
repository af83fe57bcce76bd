"""Housekeeping sends dead letters back. It gives up on those that no retry can fix, and alerts a person."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import StopRequested
from jobs.operations.housekeeping import HousekeepingResult, housekeep
from jobs.operations.run_scheduler import due_jobs
from jobs.runtime.application import Application
from jobs.runtime.job_runs import RunStatus
from sandbox import Sandbox
from sync.clock import now
from sync.events.envelope import write_domain_event, write_mapping_retry
from sync.queues.queue import BATCH
from sync.repair.dead_letter_report import pause_after
from sync.settings.loading import load_settings
from tests.harness.app import App, make_app
from tests.harness.dead_letters import put_on_dlq
from tests.harness.faults import faulty
from tests.harness.publishing import visit_booked
from tests.harness.waiting import until

BOOKED, CHANGED = "prison-visit.booked", "prison-visit.changed"


@pytest.fixture
def app(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> App:
    """An installation whose queues are created on first use."""
    return make_app(sandbox, tmp_path, sqlite_template)


def findings(app: App) -> list[tuple[str, dict[str, Any]]]:
    """The status and the properties of the findings about dead letters, oldest first."""
    with closing(sqlite3.connect(app.database)) as connection:
        rows = connection.execute("SELECT status, properties FROM findings WHERE kind = 'dead-letter' ORDER BY id")
        return [(status, json.loads(properties)) for status, properties in rows]


def refuse(app: App, *references: str) -> None:
    """Sends messages about visits that DPS does not have, and drains the queue until the messages are dead letters."""
    queue = app.queues()["visit"].main
    for reference in references:
        queue.send(write_domain_event(BOOKED, {"reference": reference}, "A1234BC", "2023-05-22T09:00:00Z"))
    app.drain_out("visit")
    assert app.messages("visit") == len(references)


def test_messages_that_no_retry_can_fix_are_given_up_and_alerted_once(app: App) -> None:
    """Housekeeping gives up on messages that no retry can fix: it does not send them back, but alerts a person once.

    The alert counts all messages with the same cause and says what to do. Each message has its own finding.
    """
    refuse(app, "gone-1", "gone-2", "gone-3")
    for _ in range(3):
        assert "0 of 3 messages sent back" in app.run_ok("dlq", "retry-all")
    (alert,) = app.alerts()
    assert "need attention" in alert
    assert "dlq show visit" in alert
    assert f"3 {BOOKED} messages from the visit queue cannot be applied to NOMIS (for example Visit not found" in alert
    assert "so NOMIS lacks these changes. What to do: DPS has no such record" in alert
    found = findings(app)
    assert [status for status, _ in found] == ["open"] * 3
    assert {(each["messages"], each["class"], each["queue"]) for _, each in found} == {("3", "unrecoverable", "visit")}
    assert all("DPS has no such record" in each["advice"] for _, each in found)
    assert len(app.telemetry("dead-letter-given-up")) == 3
    assert app.drain("visit")["received"] == 0
    shown = app.read_json("dlq", "show", "visit")
    assert [each["givenUp"] for each in shown] == [True] * 3
    assert "given up on by housekeeping" in app.run_ok("dlq", "show", "visit")


def test_a_retry_by_a_person_closes_the_finding(app: App) -> None:
    """`dlq retry` sends back a message that housekeeping has given up on, and closes the finding about it.

    If the message fails again, housekeeping gives up on it and alerts a person again.
    """
    refuse(app, "gone")
    app.run_ok("dlq", "retry-all")
    assert "1 of 1 message sent back" in app.run_ok("dlq", "retry", "visit", "--as", "jane.smith")
    assert [status for status, _ in findings(app)] == ["resolved"]
    app.drain_out("visit")
    app.run_ok("dlq", "retry-all")
    assert [status for status, _ in findings(app)] == ["resolved", "open"]
    assert len(app.alerts()) == 2


def test_purge_closes_the_finding(app: App) -> None:
    """A purge closes the findings about the purged messages, since nobody needs to act on them any more."""
    refuse(app, "gone")
    app.run_ok("dlq", "retry-all")
    app.run_ok("dlq", "purge", "visit", "--yes")
    assert [status for status, _ in findings(app)] == ["resolved"]


def test_malformed_messages_are_given_up(app: App) -> None:
    """Housekeeping gives up on malformed messages, since they would fail at every attempt."""
    app.queues()["visit"].dlq.send("no json")
    assert "0 of 1 message sent back" in app.run_ok("dlq", "retry-all")
    ((_, properties),) = findings(app)
    assert (properties["class"], "publisher" in properties["advice"]) == ("unreadable", True)


def test_mapping_retry_is_not_given_up_for_a_refusal(app: App) -> None:
    """If the mapping service refuses a mapping retry, housekeeping does not give up on it: the record is in NOMIS.

    Housekeeping sends the mapping retry back again after a pause.
    """
    mapping = {"nomisId": "1", "vsipId": "a", "mappingType": "ONLINE", "label": None}
    app.queues()["visit"].dlq.send(write_mapping_retry(mapping, {}))
    assert "1 of 1 message sent back" in app.run_ok("dlq", "retry-all")
    with faulty(app.sandbox, "mapping", "POST", kind="status", status=400):
        app.drain_out("visit")
    (refused,) = app.read_json("dlq", "show", "visit")
    assert (refused["lastError"]["service"], refused["lastError"]["status"]) == ("mapping", 400)
    assert "sent back again later" in app.run_ok("dlq", "retry-all")
    set_last_redrive(app, timedelta(hours=6))
    assert "1 of 1 message sent back" in app.run_ok("dlq", "retry-all")
    assert findings(app) == []


def test_a_message_with_a_missing_mapping_is_sent_back_after_the_creation(app: App, sandbox: Sandbox) -> None:
    """If a change fails because its record has not yet been created in NOMIS, the failure counts as recoverable.

    Once the record is created, housekeeping sends the change back, and the change is applied.
    """
    event = visit_booked(sandbox)
    app.queues()["visit"].main.send(
        write_domain_event(CHANGED, dict(event.information), event.prisoner_id, "2023-05-22T10:00:00Z")
    )
    app.drain_out("visit")
    (message,) = app.read_json("dlq", "show", "visit")
    assert (message["class"], "never created in NOMIS" in message["hint"]) == ("recoverable", True)
    event.publish()
    app.drain("visit")
    app.run_ok("dlq", "retry-all")
    assert app.drain("visit")["applied"] == 1
    assert app.messages("visit") == 0


def set_last_redrive(app: App, ago: timedelta) -> None:
    """Sets the recorded time of every message's last redrive to the current time minus `ago`."""
    with closing(sqlite3.connect(app.database)) as connection:
        moment = (now() - ago).strftime("%Y-%m-%d %H:%M:%S.%f")
        connection.execute("UPDATE dead_letter_returns SET last_retried_at = ?", (moment,))
        connection.commit()


def test_the_pause_before_a_redrive_grows_each_time(app: App, sandbox: Sandbox) -> None:
    """After the first recoverable failure of a message, housekeeping sends the message back at once.

    After the second and third, it does so only once 9 and 18 minutes have passed since the last redrive. A person can
    send the message back at any time.
    """
    app.make_queues()
    visit_booked(sandbox).publish()
    sent, later = "1 of 1 message sent back", "sent back again later"
    with faulty(sandbox, "visits", "GET", "/visits/", kind="status", status=504):
        app.drain_out("visit")
        assert sent in app.run_ok("dlq", "retry-all")
        app.drain_out("visit")
        for pause_ends in (9, 18):
            for minutes, expected in ((pause_ends - 1, later), (pause_ends + 1, sent)):
                assert "1 message would be sent back" in app.run_ok("dlq", "retry", "visit", "--dry-run")
                set_last_redrive(app, timedelta(minutes=minutes))
                assert expected in app.run_ok("dlq", "retry-all")
            if pause_ends == 9:
                app.drain_out("visit")
    assert app.drain("visit")["applied"] == 1
    assert findings(app) == []


def test_a_message_that_sns_delivered_twice_is_sent_back_twice(app: App, sandbox: Sandbox) -> None:
    """Messages with the same SNS id are all sent back, since none of them counts as a return of another."""
    body = json.loads(write_domain_event(BOOKED, {"reference": "twice"}, "A1234BC", "2023-05-22T09:00:00Z"))
    number = BATCH + 1
    for _ in range(number):
        app.queues()["visit"].dlq.send(json.dumps({**body, "MessageId": "one-and-the-same"}))
    assert f"{number} of {number} messages sent back" in app.run_ok("dlq", "retry-all")


def test_pauses_grow_to_hours() -> None:
    """The pause before a redrive doubles each time, up to six hours.

    The first pause is shorter than the ten minutes between two runs of housekeeping.
    """
    pauses = [pause_after(times) for times in range(1, 40)]
    assert pauses[0] < timedelta(minutes=10)
    assert all(later == min(2 * earlier, timedelta(hours=6)) for earlier, later in pairwise(pauses))


def test_a_finding_that_cannot_be_recorded_does_not_stop_the_others(app: App) -> None:
    """If one finding cannot be recorded, the others still are, and the command fails and reports the error."""
    refuse(app, "gone-1", "gone-2")
    first = app.read_json("dlq", "show", "visit")[0]["messageId"]
    with closing(sqlite3.connect(app.database)) as connection:
        refused = f"WHEN NEW.properties LIKE '%{first}%' BEGIN SELECT RAISE(ABORT, 'no'); END"
        connection.execute(f"CREATE TRIGGER refuses BEFORE INSERT ON findings {refused}")
        connection.commit()
    done = app.run("dlq", "retry-all")
    assert (done.code, "visit: 1 message failed: no finding could be recorded" in done.error) == (1, True)
    assert len(findings(app)) == 1


def test_an_unavailable_queue_does_not_hide_the_others(app: App, sandbox: Sandbox) -> None:
    """`dlq list`, `dlq retry-all` and its dry run name an unavailable queue and handle the other queues."""
    app.make_queues()
    unreachable = {"HMPPS_SQS_QUEUES_INCENTIVE_DLQ_NAME": "not/a/name"}
    app.queues()["visit"].dlq.send(write_mapping_retry({"nomisId": "nothing"}, {}))
    for arguments in (("list",), ("retry-all", "--dry-run"), ("retry-all",)):
        done = app.run("dlq", *arguments, **unreachable)
        assert (done.code, "incentive: " in done.error, "visit: " in done.error) == (1, True, False)
        assert "refused the call; check HMPPS_SQS_QUEUES_INCENTIVE_QUEUE_NAME and " in done.error
        assert "visit" in done.out
    assert app.messages("visit") == 0


def test_odd_messages_stop_nothing(app: App) -> None:
    """Housekeeping sends back messages with very long SNS ids or NULs, and gives up on one with a lone surrogate."""
    dlq = app.queues()["visit"].dlq
    event = {"eventType": "prison-visit.\x00booked", "additionalInformation": {"reference": "\x00" * 9}}
    for sns_id in ("x" * 130, "\x00sns", "y" * 5_000):
        dlq.send(json.dumps({"Type": "Notification", "MessageId": sns_id, "Message": json.dumps(event)}))
    dlq.send('{"Type": "Notification", "MessageId": "\\ud800", "Message": "{}"}')
    assert app.run("dlq", "retry-all").code == 0
    until(lambda: app.messages("visit") == 1)
    assert app.run("dlq", "retry-all").code == 0


def test_housekeeping_leaves_a_message_that_returned_too_often(app: App) -> None:
    """Housekeeping gives up on a message that has come back more than HOUSEKEEPING_MAX_RETURNS times.

    A person can still send it back.
    """
    dlq, main = app.queues()["visit"].dlq, app.queues()["visit"].main
    put_on_dlq(app, "visit-1")
    for command in (("dlq", "retry-all"), ("dlq", "retry", "visit"), ("dlq", "retry", "visit")):
        assert "1 of 1 message sent back" in app.run_ok(*command, HOUSEKEEPING_MAX_RETURNS="2")
        (message,) = main.receive(10)
        main.delete([message])
        dlq.send(message.body)
    left = app.run_ok("dlq", "retry-all", HOUSEKEEPING_MAX_RETURNS="2")
    assert "0 of 1 message sent back" in left
    assert "failed again after 3 redrives" in left
    (message_shown,) = app.read_json("dlq", "show", "visit")
    assert message_shown["returns"] == 3
    assert "1 of 1 message sent back" in app.run_ok("dlq", "retry", "visit")
    runs = [run["counts"] for run in app.read_json("runs", "list") if run["job"] == "dlq-housekeeping"]
    assert [(run["retried"], run["left"], run["givenUp"]) for run in runs] == [(0, 1, 1), (1, 0, 0)]


def test_housekeeping_run_can_be_repeated(app: App) -> None:
    """A run of housekeeping is recorded, and can be repeated by hand."""
    app.run_ok("dlq", "retry-all")
    (first,) = app.read_json("runs", "list")
    put_on_dlq(app, "visit-1")
    app.run_ok("runs", "rerun", first["id"])
    assert app.messages("visit") == 0
    assert app.read_json("runs", "list")[0]["rerunOf"] == first["id"]


def test_a_redrive_that_is_stopped_is_interrupted(app: App) -> None:
    """If the scheduler stops before a redrive has handled all queues, the redrive is recorded as interrupted."""
    put_on_dlq(app, "visit-1")
    stop_requested = threading.Event()
    stop_requested.set()
    program = Application(load_settings(app.settings))
    try:
        (job,) = [each for each in due_jobs(program, stop_requested) if each.name == "dlq-housekeeping"]
        with pytest.raises(StopRequested), program.job_runs.run(job.name, {}) as active_run:
            job.run(active_run)
        assert program.job_runs.find(active_run.id).status == RunStatus.INTERRUPTED
    finally:
        program.close()
    assert app.messages("visit") == 1


def test_a_redrive_that_is_stopped_reports_its_errors(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    """If a redrive is stopped between two queues, its record and the log have the errors of the earlier queues."""
    app.make_queues()
    settings = {**app.settings, "HMPPS_SQS_QUEUES_VISIT_DLQ_NAME": "not/a/name"}
    program = Application(load_settings(settings))
    # The redrive asks before each queue. It is stopped before the second one.
    requests = iter([False])
    try:
        with pytest.raises(StopRequested, match="; visit: queue not/a/name: "), program.job_runs.run("j", {}) as run:
            housekeep(program, run, HousekeepingResult(), lambda: next(requests, True))
        recorded = program.job_runs.find(run.id)
    finally:
        program.close()
    assert (recorded.status, list(recorded.counts["errors"])) == (RunStatus.INTERRUPTED, ["visit"])
    assert "visit: queue not/a/name: " in str(recorded.error)
    (logged,) = [line for line in capsys.readouterr().out.splitlines() if "redrive-failed" in line]
    assert "queue=visit" in logged


def test_a_redrive_that_is_interrupted_keeps_its_errors(app: App) -> None:
    """If a signal interrupts a redrive, the record of the run has the errors of the queues already handled."""
    app.make_queues()
    settings = {**app.settings, "HMPPS_SQS_QUEUES_VISIT_DLQ_NAME": "not/a/name"}
    program = Application(load_settings(settings))
    requests = iter([False])

    def stop_requested() -> bool:
        if next(requests, True):
            raise StopRequested("a signal came")
        return False

    try:
        with pytest.raises(StopRequested), program.job_runs.run("j", {}) as run:
            housekeep(program, run, HousekeepingResult(), stop_requested)
        recorded = program.job_runs.find(run.id)
    finally:
        program.close()
    assert (recorded.status, list(recorded.counts["errors"])) == (RunStatus.INTERRUPTED, ["visit"])


def test_the_scheduler_redrives_on_its_schedule(app: App) -> None:
    """By default, the scheduler has a housekeeping job, which redrives dead letters every ten minutes.

    If all jobs are switched off, the scheduler has no jobs.
    """
    put_on_dlq(app, "visit-1")
    program = Application(load_settings(app.settings))
    try:
        jobs = {job.name: job for job in due_jobs(program, threading.Event())}
        job = jobs["dlq-housekeeping"]
        assert job.schedule.line == "*/10 * * * *"
        with program.job_runs.run(job.name, {}) as active_run:
            job.run(active_run)
        assert active_run.counts["retried"] == 1
    finally:
        program.close()
    switches = ("SCHEDULER_RECONCILIATION", "SCHEDULER_HOUSEKEEPING", "SCHEDULER_CONTRACTS")
    off = load_settings({**app.settings, **dict.fromkeys(switches, "false")})
    assert due_jobs(Application(off), threading.Event()) == []
    assert app.messages("visit") == 0
