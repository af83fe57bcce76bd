"""An event that precedes the creation of its record waits without using up receives."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.clock import now
from sync.creation.store import CreationStore
from sync.domains.registry import DOMAINS
from sync.errors import UpstreamError
from sync.queues.queue import Message, Queue
from sync.queues.requeue import WaitsFor
from sync.repair.dead_letter_queue import DeadLetterQueue
from sync.settings import times
from sync.store.creations import mark_deleted
from sync.store.failed_attempts import FailedAttempt
from sync.store.tables import breakers
from tests.harness.pipeline import BOOKED, CANCELLED, CHANGED, last_failure, send, tracked
from tests.harness.publishing import allocated, attended, put_visit, schedule_created
from tests.harness.waiting import until

PATIENCE = 300
REFERENCE = "later"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes waiting messages visible again at once."""
    monkeypatch.setattr(times, "FIRST_REQUEUE_SECONDS", 0)
    monkeypatch.setattr(times, "LONGEST_REQUEUE_SECONDS", 0)


@pytest.fixture
def queues() -> tuple[str, ...]:
    """The queues that these tests use."""
    return ("visit", "activity")


@pytest.fixture
def settings() -> dict[str, str]:
    """With these settings, an event waits for the creation of its record."""
    return {"CREATION_WAIT_SECONDS": str(PATIENCE)}


def failure_of(application: Application, reference: str, minute: int) -> FailedAttempt | None:
    """The last failed attempt to handle the event with this reference and minute, or None."""
    return last_failure(application.database, sns_message_id=f"sns-{reference}-{minute}")


def test_a_change_and_a_cancellation_wait_for_the_booking(sandbox: Sandbox, application: Application) -> None:
    """A change and a cancellation that are delivered before the booking, however many times, are applied after it.

    Neither fails.
    """
    pair, drain = application.queue_pair("visit"), application.open_drain("visit")
    who = put_visit(sandbox, REFERENCE)
    send(pair.main, CHANGED, REFERENCE, 1, prisonerId=who)
    send(pair.main, CANCELLED, REFERENCE, 2, prisonerId=who)
    for _ in range(7):
        assert drain.run_batch().deferred == 2
    assert (pair.main.counts().total, pair.dlq.counts().total) == (2, 0)
    assert tracked(application) == {}
    send(pair.main, BOOKED, REFERENCE, 0, prisonerId=who)
    assert drain.run_batch().applied == 3
    assert [each["method"] for each in sandbox.journal("nomis")] == ["POST", "PUT", "PUT"]
    assert pair.main.counts().total == 0
    assert failure_of(application, REFERENCE, 1) is None


def test_an_allocation_waits_for_its_schedule(sandbox: Sandbox, application: Application) -> None:
    """An allocation that is delivered before its schedule waits until the schedule is created, and is then applied."""
    pair, drain = application.queue_pair("activity"), application.open_drain("activity")
    schedule = schedule_created(sandbox)
    allocated(sandbox, schedule).publish()
    for _ in range(5):
        assert drain.run_batch().deferred == 1
    schedule.publish()
    drain.run_until_empty()
    assert (pair.main.counts().total, pair.dlq.counts().total) == (0, 0)
    assert len(sandbox.nomis("allocation")) == 1


def test_an_attendance_waits_for_the_allocation(sandbox: Sandbox, application: Application) -> None:
    """An attendance that NOMIS refuses because it precedes its allocation is applied once the allocation exists."""
    pair, drain = application.queue_pair("activity"), application.open_drain("activity")
    schedule = schedule_created(sandbox)
    schedule.publish()
    drain.run_until_empty()
    allocation = allocated(sandbox, schedule)
    attended(sandbox, schedule).publish()
    for _ in range(5):
        assert drain.run_batch().deferred == 1
    allocation.publish()
    until(lambda: drain.run_until_empty() and pair.main.counts().total == 0)
    assert pair.dlq.counts().total == 0
    assert len(sandbox.nomis("attendance")) == 1


def wait_since(queue: Queue, seconds: float) -> None:
    """Replaces the only message on a queue with a copy that has waited for a creation for this number of seconds."""
    (message,) = queue.receive()
    since = (now() - timedelta(seconds=seconds)).isoformat()
    queue.send(message.body, {WaitsFor.CREATION: {"DataType": "String", "StringValue": since}})
    queue.delete([message])


def test_a_wait_for_a_creation_ends(sandbox: Sandbox, application: Application) -> None:
    """If the record of an event is never created, the event fails after a time limit.

    From then on, it has as many attempts as any other event.
    """
    put_visit(sandbox, "never")
    pair, drain = application.queue_pair("visit"), application.open_drain("visit")
    send(pair.main, CHANGED, "never")
    drain.run_batch()
    wait_since(pair.main, PATIENCE - 5)
    assert drain.run_batch().deferred == 1
    wait_since(pair.main, PATIENCE + 1)
    assert [drain.run_batch().failed for _ in range(3)] == [1, 1, 1]
    drain.run_batch()
    assert pair.dlq.counts().visible == 1
    found = failure_of(application, "never", 0)
    assert found is not None
    assert (found.attempt, found.failure.service, found.failure.status) == (3, "mapping", 404)


@pytest.mark.parametrize(
    ("state", "changed_seconds_ago", "outcome"),
    [
        ("closed", PATIENCE - 5, "deferred"),
        ("closed", PATIENCE + 5, "failed"),
        ("open", PATIENCE + 5, "deferred"),
    ],
)
def test_a_wait_for_a_creation_outlasts_an_outage(
    sandbox: Sandbox,
    application: Application,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    changed_seconds_ago: float,
    outcome: str,
) -> None:
    """The time limit of a wait for a creation counts from the end of an outage, since nothing is created during one."""
    # Otherwise the drain would notice the open breaker, and receive nothing.
    monkeypatch.setattr(times, "BREAKER_POLL_SECONDS", 600.0)
    put_visit(sandbox, REFERENCE)
    pair, drain = application.queue_pair("visit"), application.open_drain("visit")
    send(pair.main, CHANGED, REFERENCE)
    wait_since(pair.main, 4 * PATIENCE)
    with application.database.begin() as connection:
        changed_at = now() - timedelta(seconds=changed_seconds_ago)
        connection.execute(insert(breakers).values(service="nomis", state=state, changed_at=changed_at))
    assert getattr(drain.run_batch(), outcome) == 1


def test_a_dead_letter_that_is_sent_back_waits_again(sandbox: Sandbox, application: Application) -> None:
    """A dead letter that is sent back waits for its booking again, since the booking may have been sent back too."""
    put_visit(sandbox, REFERENCE)
    pair, drain = application.queue_pair("visit"), application.open_drain("visit")
    send(pair.dlq, CHANGED, REFERENCE)
    wait_since(pair.dlq, PATIENCE + 1)
    DeadLetterQueue("visit", pair, application.database, application.telemetry).retry(lambda _: {})
    assert drain.run_batch().deferred == 1


@pytest.mark.parametrize(
    ("state", "waits"),
    [("intended", True), ("refused", True), ("created", True), ("ambiguous", False), ("deleted", False)],
)
def test_an_event_waits_longer_for_a_creation_in_progress(
    sandbox: Sandbox, application: Application, state: str, *, waits: bool
) -> None:
    """An event waits longer than usual once the creation of its record has begun.

    It does not wait if the creation is ambiguous or the record has been deleted.
    """
    who = put_visit(sandbox, REFERENCE)
    pair, drain = application.queue_pair("visit"), application.open_drain("visit")
    creation, store = DOMAINS["visits"].creation, CreationStore(application.database, application.telemetry)
    store.intend(creation, REFERENCE, {}, {}, None)
    record = store.read(creation, REFERENCE)
    assert record is not None
    if state == "refused":
        store.create_failed(
            creation, REFERENCE, 1, UpstreamError("nomis", "POST", "/visits", status=400, message="no room")
        )
    elif state == "created":
        store.created(creation, REFERENCE, 1, {"nomisId": 1})
    elif state == "ambiguous":
        store.ambiguous(creation, record, {})
    elif state == "deleted":
        with application.database.begin() as connection:
            mark_deleted(connection, creation.name, REFERENCE)
    send(pair.main, CHANGED, REFERENCE, prisonerId=who)
    wait_since(pair.main, 2 * PATIENCE)
    summary = drain.run_batch()
    assert (summary.deferred, summary.failed) == (int(waits), int(not waits))


def test_a_message_that_cannot_be_copied_stays(
    sandbox: Sandbox, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that has to wait but cannot be copied stays on the queue.

    Its failure is recorded, since the message may become a dead letter.
    """

    def refuse(messages: list[Message], *_: object) -> list[Message]:
        return messages

    put_visit(sandbox, REFERENCE)
    queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
    send(queue, CHANGED, REFERENCE)
    monkeypatch.setattr(queue, "copy", refuse)
    assert drain.run_batch().failed == 1
    assert queue.counts().total == 1
    assert failure_of(application, REFERENCE, 0) is not None
