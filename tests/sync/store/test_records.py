"""The records of findings, deliveries, failures, breakers and actions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from sync.alerting import Severity
from sync.clock import now
from sync.errors import Failure
from sync.store import actions, findings, outbox, tables
from sync.store import failed_attempts as failures
from sync.store.actions import ActionState
from sync.store.database import Database
from sync.store.failed_attempts import FailedAttempt
from sync.store.findings import FindingKind
from sync.store.outbox import Delivery, DeliveryState
from sync.upstream import breaker as breakers
from tests.harness.pipeline import last_failure


def record_one(connection: Connection, key: str = "k", alert_command: str | None = "show {id}") -> bool:
    """Records a finding with `key`. Returns whether the finding was new."""
    properties = {"visitId": "bq"}
    kind, name = FindingKind.DUPLICATE, "to-nomis-synch-visit-duplicate"
    return findings.record_finding(connection, key, kind, "visit", Severity.SERIOUS, name, properties, alert_command)


def test_a_finding_and_its_alert_are_recorded_once(database: Database) -> None:
    """A finding that is reported twice is recorded once, with one alert.

    The alert has the event name, properties, time, domain and severity of the finding, and the command.
    """
    with database.begin() as connection:
        assert record_one(connection)
        assert not record_one(connection)
        [finding] = findings.list_findings(connection)
        [alert] = outbox.due(connection, 10)
    payload = dict(alert.payload)
    assert payload.pop("time") == finding.created_at.isoformat(timespec="milliseconds")
    assert payload == {
        "kind": "alert",
        "event": "to-nomis-synch-visit-duplicate",
        "properties": {"visitId": "bq"},
        "domain": "visit",
        "severity": "serious",
        "command": f"show {finding.id}",
    }
    assert (finding.kind, finding.status, alert.channel) == (FindingKind.DUPLICATE, "open", "slack")


def test_a_finding_and_its_alert_are_undone_together(database: Database) -> None:
    """If the transaction that records a finding is rolled back, neither the finding nor its alert exists."""

    def fail() -> None:
        with database.begin() as connection:
            record_one(connection)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.begin() as connection:
        assert findings.list_findings(connection) == []
        assert outbox.due(connection, 10) == []
        assert record_one(connection)


def test_a_finding_without_a_command_has_no_alert(database: Database) -> None:
    """A finding that is recorded without an alert command has no alert."""
    with database.begin() as connection:
        assert record_one(connection, alert_command=None)
        assert len(findings.list_findings(connection)) == 1
        assert outbox.due(connection, 10) == []


def test_findings_are_listed_and_resolved(database: Database) -> None:
    """Findings are listed newest first, and can be filtered by status, kind and domain.

    A finding can be resolved only once. It keeps the resolution and the name of the person who resolved it.
    """
    with database.begin() as connection:
        for key in ("a", "b"):
            record_one(connection, key)
        newest, oldest = findings.list_findings(connection, kind=FindingKind.DUPLICATE, domain="visit")
        assert (newest.key, oldest.key) == ("b", "a")
        assert findings.list_findings(connection, kind=FindingKind.AMBIGUOUS) == []
        assert findings.list_findings(connection, domain="activity") == []
        assert findings.resolve(connection, oldest.id, "jane", "cancelled")
        assert not findings.resolve(connection, oldest.id, "joe", "again")
        assert [each.key for each in findings.list_findings(connection)] == ["b"]
        assert len(findings.list_findings(connection, status=None)) == 2
        resolved = findings.get(connection, oldest.id)
        assert resolved is not None
        assert (resolved.status, resolved.resolved_by, resolved.resolution) == ("resolved", "jane", "cancelled")
        assert findings.get(connection, 999) is None


def claim(connection: Connection, delivery: Delivery) -> Delivery | None:
    """Claims a delivery for one minute."""
    return outbox.claim(connection, delivery, now() + timedelta(minutes=1))


def test_a_delivery_is_sent_once(database: Database) -> None:
    """A delivery is enqueued once under its key, claimed by one sender, completed, and never due again."""
    with database.begin() as connection:
        assert outbox.enqueue(connection, "run-1:slack", "slack", {"run": 1})
        assert not outbox.enqueue(connection, "run-1:slack", "slack", {"run": 2})
        [seen] = outbox.due(connection, 10)
        assert (seen.key, seen.payload, seen.progress, seen.attempts) == ("run-1:slack", {"run": 1}, {}, 0)
        mine = claim(connection, seen)
        assert mine is not None
        assert claim(connection, seen) is None
        assert outbox.due(connection, 10) == []
        assert outbox.record_progress(connection, mine, {"thread": "17.2"})
        assert outbox.complete(connection, mine)
        assert not outbox.complete(connection, mine)
        assert not outbox.enqueue(connection, "run-1:slack", "slack", {"run": 3})
        sent = outbox.find(connection, "run-1:slack")
        assert sent is not None
        assert (sent.state, sent.progress) == (DeliveryState.SENT, {"thread": "17.2"})
        assert sent.sent_at is not None
        assert outbox.counts(connection)[DeliveryState.SENT] == 1
        assert outbox.find(connection, "unknown") is None


def test_another_sender_takes_over_an_expired_claim(database: Database) -> None:
    """When a claim has expired, the delivery is due again and keeps its progress.

    Once another sender has claimed the delivery, the first sender can no longer change it.
    """
    with database.begin() as connection:
        outbox.enqueue(connection, "a", "email", {})
        first = outbox.claim(connection, outbox.due(connection, 1)[0], now() - timedelta(seconds=1))
        assert first is not None
        outbox.record_progress(connection, first, {"step": 1})
        [again] = outbox.due(connection, 10)
        second = claim(connection, again)
        assert second is not None
        assert (second.progress, second.attempts) == ({"step": 1}, 2)
        assert not outbox.record_progress(connection, first, {"step": 9})
        assert not outbox.complete(connection, first)
        assert not outbox.retry_later(connection, first, now(), "late")
        assert outbox.complete(connection, second)


def test_a_delivery_is_deferred_or_given_up(database: Database) -> None:
    """A deferred delivery is due again at the given time, and keeps the error that caused the delay.

    A delivery that is given up on is never due again.
    """
    with database.begin() as connection:
        outbox.enqueue(connection, "a", "slack", {})
        mine = claim(connection, outbox.due(connection, 1)[0])
        assert mine is not None
        later = now() + timedelta(minutes=5)
        assert outbox.retry_later(connection, mine, later, "status 429")
        assert outbox.due(connection, 10) == []
        [due] = outbox.due(connection, 10, later)
        assert due.last_error == "status 429"
        last = claim(connection, due)
        assert last is not None
        assert outbox.give_up(connection, last, "channel_not_found")
        assert outbox.due(connection, 10, later + timedelta(days=1)) == []
        assert outbox.counts(connection) == {
            DeliveryState.PENDING: 0,
            DeliveryState.SENT: 0,
            DeliveryState.FAILED: 1,
        }


ATTEMPT = FailedAttempt(
    time=now(),
    queue="visit",
    message_id="m-1",
    sns_message_id="s-1",
    event_type="prison-visit.booked",
    entity="visit:bq",
    attempt=1,
    failure=Failure("create visit", "nomis", "POST", "/visits", 503, "busy", recoverable=True),
)


def test_the_last_failure_of_a_message_is_found(database: Database) -> None:
    """The last failure of a message is found by the SNS id or, if no failure has that id, by the SQS id."""
    final = replace(ATTEMPT.failure, status=400, reason="no such room", recoverable=False)
    last = replace(ATTEMPT, message_id="m-2", attempt=2, failure=final)
    with database.begin() as connection:
        failures.record_failures(connection, [ATTEMPT, last])
        failures.record_failures(connection, [])
    assert last_failure(database, sns_message_id="s-1", message_id="m-1") == last
    assert last_failure(database, message_id="m-1") == ATTEMPT
    assert last_failure(database, sns_message_id="unknown", message_id="m-2") == last
    assert last_failure(database, message_id="unknown") is None


def test_failures_are_counted_by_queue_and_kind(database: Database) -> None:
    """Failures since a given time are counted by queue. Recoverable failures are counted separately from the others."""
    final = replace(ATTEMPT, failure=replace(ATTEMPT.failure, recoverable=False))
    old = replace(ATTEMPT, time=ATTEMPT.time - timedelta(days=2))
    with database.begin() as connection:
        failures.record_failures(connection, [ATTEMPT, ATTEMPT, final, old, replace(ATTEMPT, queue="activity")])
        counted = failures.counts(connection, ATTEMPT.time - timedelta(hours=1))
    assert [(each.queue, each.recoverable, each.not_recoverable) for each in counted] == [
        ("activity", 1, 0),
        ("visit", 2, 1),
    ]


def test_texts_too_long_for_their_column_are_cut(database: Database) -> None:
    """Text that is too long for its column, such as a path, is cut. Other records are not affected."""
    long = replace(ATTEMPT, entity="e" * 900, failure=replace(ATTEMPT.failure, path="/" + "p" * 900, reason="r" * 900))
    with database.begin() as connection:
        failures.record_failures(connection, [long, ATTEMPT])
    kept = last_failure(database, message_id="m-1")
    assert kept == ATTEMPT
    with database.read() as connection:
        [row, _] = connection.execute(tables.failures.select().order_by(tables.failures.c.id))
    assert (len(row.entity), len(row.path), len(row.reason)) == (200, 500, 900)


def test_breakers_are_shared(database: Database) -> None:
    """A new state of a breaker is stored for all processes.

    Setting the state that the breaker already has changes nothing.
    """
    moment = now()
    with database.begin() as connection:
        assert breakers.set_breaker(connection, "nomis", "open", opened_at=moment, reason="status 503")
        assert not breakers.set_breaker(connection, "nomis", "open", reason="another")
        row = breakers.read_breakers(connection)["nomis"]
        assert (row.state, row.opened_at, row.reason) == ("open", moment, "status 503")
        assert breakers.set_breaker(connection, "nomis", "closed")
        assert breakers.read_breakers(connection)["nomis"].opened_at is None


def test_actions_are_recorded_with_operator_and_outcome(database: Database) -> None:
    """Actions are listed newest first.

    An action has the state `started` until it is completed with another state, an outcome and details.
    """
    with database.begin() as connection:
        first = actions.start_action(
            connection, "jane", "duplicates resolve", "visit 8811002", {"dryRun": False}, "a:1"
        )
        actions.start_action(connection, "joe", "dlq purge", "visit", {}, "a:2")
        actions.finish_action(connection, first, ActionState.DONE, "cancelled", {"status": "CANC"})
        last, done = actions.list_actions(connection)
    assert (last.who, last.state, last.outcome, last.finished_at) == ("joe", "started", actions.NOT_KNOWN, None)
    assert (done.who, done.action, done.target) == ("jane", "duplicates resolve", "visit 8811002")
    assert (done.state, done.outcome, done.details) == ("done", "cancelled", {"status": "CANC"})
    assert done.finished_at is not None
