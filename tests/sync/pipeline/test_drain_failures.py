"""A message that fails waits, each time for longer, and the cause of each failure is recorded."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.runtime.application import Application
from sandbox import Sandbox
from sandbox.postgres import PostgresServer
from sync.clock import now
from sync.events.context import Outcome
from sync.settings import times
from sync.settings.upstreams import UpstreamName
from sync.store.database import StoreUnavailable
from sync.store.failed_attempts import attempts_at
from sync.store.leases import Leases
from sync.store.telemetry import read_events
from tests.harness.app import open_application
from tests.harness.pipeline import BOOKED, CANCELLED, CHANGED, failure_of, last_failure, send, tracked
from tests.harness.publishing import put_visit
from tests.harness.waiting import in_thread, result_of, until

#: A body as NOMIS sends it. Without its status it would count as the response of a gateway.
REFUSAL = {"status": 400, "userMessage": "No room"}


@pytest.fixture(scope="session")
def running_sandbox(unpatched_sandbox: Sandbox) -> Sandbox:
    """A sandbox whose moto lacks the patches that make it faster."""
    return unpatched_sandbox


@pytest.fixture
def settings() -> dict[str, str]:
    """Settings that hide a message for one minute after its first failure, and for two minutes after its second."""
    return {"HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "60,120"}


def test_coalesced_messages_that_fail_are_counted_separately(sandbox: Sandbox, application: Application) -> None:
    """If the one write for coalesced updates fails, a failed attempt is recorded under the id of each update."""
    who = put_visit(sandbox, "to-ge")
    queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
    send(queue, BOOKED, "to-ge", 0)
    assert drain.run_batch().applied == 1
    sandbox.fault("nomis", "PUT", kind="status", status=400, body=REFUSAL)
    sent = {f"sns-to-ge-{minute}": send(queue, CHANGED, "to-ge", minute, prisonerId=who) for minute in (1, 2, 3)}
    summary = drain.run_batch()
    assert (summary.received, summary.failed) == (3, 3)
    assert [each["status"] for each in sandbox.requests("nomis") if each["method"] == "PUT"] == [400]
    with application.database.read() as connection:
        found_attempts = attempts_at(connection, "visit", sent.items())
    assert {message_id: each.number for message_id, each in found_attempts.items()} == dict.fromkeys(sent.values(), 1)
    found = {sns_id: last_failure(application.database, sns_message_id=sns_id) for sns_id in sent}
    assert {sns_id: each and each.message_id for sns_id, each in found.items()} == sent
    assert {each and (each.failure.method, each.failure.status) for each in found.values()} == {("PUT", 400)}


def test_message_that_fails_in_two_deliveries_is_counted_once(sandbox: Sandbox, application: Application) -> None:
    """If an event is on the queue twice and fails twice, two failures are counted.

    The drain reports only one message as returned to the queue.
    """
    put_visit(sandbox, "tw-ce")
    for _ in range(2):
        send(application.queue_pair("visit").main, BOOKED, "tw-ce")
    sandbox.fault("nomis", "POST", "/prisoners/.*/visits", kind="status", status=400, body=REFUSAL)
    drain = application.open_drain("visit")
    assert drain.run_batch().failed == 2
    assert drain.failures.counts().total() == 2
    (message,) = drain.returned.values()
    assert (message.queue, message.outcome, message.is_dead) == ("visit", Outcome.FAILED, False)
    assert timedelta(seconds=50) < message.due_at - now() <= timedelta(seconds=60)


def test_a_failure_is_recorded_with_its_cause(sandbox: Sandbox, application: Application) -> None:
    """The step, call, status, reason and attempt of a refused create are recorded under both ids of its message."""
    put_visit(sandbox, "aa-aa")
    queue = application.queue_pair("visit").main
    message_id = send(queue, BOOKED, "aa-aa")
    sandbox.fault("nomis", "POST", "/prisoners/.*/visits", kind="status", status=400, body=REFUSAL)
    summary = application.open_drain("visit").run_batch()
    assert (summary.received, summary.failed) == (1, 1)
    found = last_failure(application.database, sns_message_id="sns-aa-aa-0")
    assert found == failure_of(application, message_id)
    assert found is not None
    failure = found.failure
    offender_no = sandbox.prisoners()[0]["offenderNo"]
    assert (found.queue, found.event_type, found.entity, found.attempt) == ("visit", BOOKED, "visit:aa-aa", 1)
    assert (failure.step, failure.service, failure.method, failure.status) == ("create visit", "nomis", "POST", 400)
    assert (failure.path, failure.reason) == (f"/prisoners/{offender_no}/visits", "No room")
    assert not failure.recoverable
    assert tracked(application) == {"visit-create-failed": 1, "message-failed": 1}


def test_waits_grow_with_the_receives(sandbox: Sandbox, url: str) -> None:
    """With the waits `0,60`, a message is visible at once after one failure, and hidden for a minute after the next."""
    with open_application(sandbox.environment(), url, HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT="0,60") as application:
        queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
        send(queue, CHANGED, "no-such")
        assert drain.run_batch().failed == 1
        assert queue.counts().visible == 1
        assert drain.run_batch().failed == 1
        assert (queue.counts().visible, queue.counts().in_flight) == (0, 1)
        assert drain.run_batch().received == 0


def test_an_event_type_may_have_its_own_waits(sandbox: Sandbox, url: str) -> None:
    """The waits of an event type take precedence over those of its queue.

    Those of the queue take precedence over the general waits.
    """
    waits = {
        "HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "0",
        "HMPPS_SQS_QUEUES_VISIT_ERROR_VISIBILITY_TIMEOUT": "60",
        "HMPPS_SQS_QUEUES_VISIT_ERROR_VISIBILITY_TIMEOUT_PRISON_VISIT_CANCELLED": "0",
    }
    with open_application(sandbox.environment(), url, **waits) as application:
        queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
        send(queue, CHANGED, "no-such")
        cancelled = send(queue, CANCELLED, "none-such")
        assert drain.run_batch().failed == 2
        assert [message.message_id for message in queue.receive()] == [cancelled]


def test_events_behind_a_failed_creation_are_not_tried(sandbox: Sandbox, application: Application) -> None:
    """A change and a cancellation behind a failed booking wait as long as the booking, and do not count as failed."""
    queue = application.queue_pair("visit").main
    booked = send(queue, BOOKED, "not-there", 0)
    others = [send(queue, CHANGED, "not-there", 1), send(queue, CANCELLED, "not-there", 2)]
    summary = application.open_drain("visit").run_batch()
    assert (summary.failed, summary.deferred) == (1, 2)
    assert failure_of(application, booked) is not None
    assert [failure_of(application, each) for each in others] == [None, None]
    assert (queue.counts().visible, queue.counts().in_flight) == (0, 3)
    assert tracked(application) == {"visit-create-failed": 1, "message-failed": 1}


def test_no_message_becomes_a_dead_letter_without_an_attempt(sandbox: Sandbox, url: str) -> None:
    """Once a failed booking is a dead letter, the change behind it is tried, and the change's failure is recorded."""
    with open_application(sandbox.environment(), url) as application:
        pair, drain = application.queue_pair("visit"), application.open_drain("visit")
        send(pair.main, BOOKED, "not-there", 0)
        send(pair.main, CHANGED, "not-there", 1)
        until(lambda: not drain.run_batch().received and pair.dlq.counts().visible == 2)
        found = last_failure(application.database, sns_message_id="sns-not-there-1")
        assert found is not None
        assert (found.attempt, found.failure.service, found.failure.status) == (3, "mapping", 404)


def test_events_behind_a_creation_are_handled_after_its_success(sandbox: Sandbox, url: str) -> None:
    """If a visit appears in DPS after its booking has failed, the booking is handled when it is retried.

    The change behind it is handled next.
    """
    with open_application(sandbox.environment(), url) as application:
        queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
        who = sandbox.prisoners()[0]["offenderNo"]
        send(queue, BOOKED, "late", 0, prisonerId=who)
        send(queue, CHANGED, "late", 1, prisonerId=who)
        drain.run_batch()
        put_visit(sandbox, "late")
        summary = drain.run_batch()
        assert (summary.applied, summary.failed) == (2, 0)
        methods = [each["method"] for each in sandbox.journal("nomis")]
        assert methods == ["POST", "PUT"]


def test_a_failed_update_does_not_hold_up_the_next_event(sandbox: Sandbox, application: Application) -> None:
    """A cancellation does not depend on the change before it, so it is handled even if the change failed."""
    who = put_visit(sandbox, "aa-aa")
    queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
    send(queue, BOOKED, "aa-aa", 0)
    drain.run_batch()
    sandbox.fault("nomis", "PUT", "/prisoners/[^/]*/visits/[0-9]*$", kind="status", status=400)
    send(queue, CHANGED, "aa-aa", 1, prisonerId=who)
    send(queue, CANCELLED, "aa-aa", 2, prisonerId=who)
    summary = drain.run_batch()
    assert (summary.applied, summary.failed) == (1, 1)
    assert [visit["status"] for visit in sandbox.nomis("visit")] == ["CANC"]


def test_a_long_group_continues_in_its_next_turn(
    sandbox: Sandbox, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short the turns of a thread are, all tasks of a group are handled in order."""
    monkeypatch.setattr(times, "GROUP_TURN_SECONDS", 0.0)
    who = put_visit(sandbox, "aa-aa")
    queue = application.queue_pair("visit").main
    for minute, event_type in enumerate((BOOKED, CHANGED, CANCELLED)):
        send(queue, event_type, "aa-aa", minute, prisonerId=who)
    assert application.open_drain("visit").run_batch().applied == 3
    assert [each["path"].rsplit("/", 1)[-1] for each in sandbox.journal("nomis")][-1] == "cancel"
    assert [each["method"] for each in sandbox.journal("nomis")] == ["POST", "PUT", "PUT"]


def test_coalesced_updates_are_tracked_and_fail_together(sandbox: Sandbox, application: Application) -> None:
    """Each update that is coalesced into a later one is tracked with the id of its own message.

    If the one write for several updates fails, they all fail.
    """
    who = put_visit(sandbox, "aa-aa")
    queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
    send(queue, BOOKED, "aa-aa", 0)
    drain.run_batch()
    ids = [send(queue, CHANGED, "aa-aa", minute, prisonerId=who) for minute in (1, 2, 3)]
    summary = drain.run_batch()
    assert (summary.applied, summary.coalesced) == (1, 2)
    application.telemetry.flush()
    properties = [each["properties"] for each in read_events(application.database, "message-coalesced")]
    assert properties == [{"eventType": CHANGED, "entity": "visit:aa-aa", "messageId": each} for each in ids[:2]]
    sandbox.fault("nomis", "PUT", kind="status", status=400)
    ids = [send(queue, CHANGED, "aa-aa", minute) for minute in (4, 5)]
    assert drain.run_batch().failed == 2
    assert all(failure_of(application, each) is not None for each in ids)


def test_a_lease_held_elsewhere_is_waited_for(sandbox: Sandbox, url: str) -> None:
    """A message whose record another process is handling is parked, and is handled once that process has finished."""
    with open_application(sandbox.environment(), url, DRAIN_CONCURRENCY="1") as one:
        queue, drain = one.queue_pair("visit").main, one.open_drain("visit")
        for reference in ("aa-aa", "bb-bb"):
            put_visit(sandbox, reference)
            send(queue, BOOKED, reference)
        elsewhere = Leases(one.database, "elsewhere", 600)
        assert elsewhere.acquire("create:visit:aa-aa")
        working = in_thread(drain.run_batch)
        # One thread handles both messages in turn, so the first has met the lease by the time the second record is
        # created.
        until(lambda: sandbox.nomis("visit"), "the second visit")
        assert [visit["comment"].endswith(": bb-bb") for visit in sandbox.nomis("visit")] == [True]
        assert queue.counts().in_flight >= 1
        elsewhere.release("create:visit:aa-aa")
        assert result_of(working).applied == 2
        assert len(sandbox.nomis("visit")) == 2


def test_with_the_database_unavailable_nothing_is_received(sandbox: Sandbox) -> None:
    """While the database is unavailable, nothing is received. Afterwards, all messages are handled."""
    server = PostgresServer()
    try:
        server.start()
        with open_application(sandbox.environment(), server.url.render_as_string()) as application:
            put_visit(sandbox, "aa-aa")
            queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
            send(queue, BOOKED, "aa-aa")
            server.stop()
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    drain.run_batch()
            assert queue.counts().visible == 1
            server.start()
            assert drain.run_batch().applied == 1
    finally:
        server.close()


def test_a_message_that_always_fails_does_not_stop_the_others(sandbox: Sandbox, url: str) -> None:
    """If NOMIS always responds with 500 for one record, its message fails, and those about other records are handled.

    However often the message fails, the breaker for NOMIS stays closed.
    """
    references = [f"good-{number}" for number in range(5)]
    for reference in [*references, "poison"]:
        put_visit(sandbox, reference)
    sandbox.fault("nomis", "POST", "/prisoners/.*/visits", kind="status", status=500, containing="poison")
    settings = {"HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "0"}
    with open_application(sandbox.environment(), url, **settings) as application:
        queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
        poison = send(queue, BOOKED, "poison")
        assert [drain.run_batch().failed for _ in range(3)] == [1, 1, 1]
        for reference in references:
            send(queue, BOOKED, reference)
        assert drain.run_batch().applied == 5
        last = failure_of(application, poison)
        assert application.breakers.all_up([UpstreamName.NOMIS])
        assert tracked(application)["upstream-breaker-opened"] == 0
    assert last is not None
    assert (last.attempt, last.failure.status) == (3, 500)
    assert len(sandbox.nomis("visit")) == 5


def test_the_last_attempt_is_tracked(sandbox: Sandbox, url: str) -> None:
    """When a message becomes a dead letter, one telemetry event names it, both queues, the receive limit and the waits.

    The name of the telemetry event begins with the event type of the message, if the type can be read.
    """
    with open_application(sandbox.environment(), url, HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT="0,0") as application:
        queue, dlq = application.queue_pair("visit").main, application.queue_pair("visit").dlq
        lost = send(queue, BOOKED, "nobody-knows")
        bad = queue.send("{no json")
        drain = application.open_drain("visit")
        until(lambda: bool(drain.run_until_empty()) and dlq.counts().visible == 2)
        application.telemetry.flush()
        found = [each for each in read_events(application.database) if each["name"].endswith("-sent-to-dlq")]
    assert sorted(each["name"] for each in found) == ["message-sent-to-dlq", f"{BOOKED}-sent-to-dlq"]
    assert {each["properties"]["messageId"] for each in found} == {lost, bad}
    for each in found:
        assert each["properties"]["queueName"] == queue.name
        assert each["properties"]["dlqName"] == dlq.name
        assert (each["properties"]["maxReceiveCount"], each["properties"]["timeouts"]) == ("3", "0,0")
