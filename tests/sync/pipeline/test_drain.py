"""The drain with the real SQS protocol, real HTTP and a real database."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.pipeline.outages import UpstreamsUnavailable
from tests.harness.app import open_application
from tests.harness.faults import held
from tests.harness.pipeline import last_failure, settle, tracked
from tests.harness.publishing import put_visit
from tests.harness.stub_queue import stubbed
from tests.harness.waiting import in_thread, result_of, until

BOOKED, CHANGED = "prison-visit.booked", "prison-visit.changed"
VISITS = "/prisoners/{offenderNo}/visits"


@pytest.fixture
def queues() -> tuple[str, ...]:
    """The queues that these tests use."""
    return ("visit", "activity", "incentive")


def visits(sandbox: Sandbox, number: int) -> list[dict[str, Any]]:
    """The visit creates that NOMIS accepted, of which there must be `number`."""
    posts = [each for each in sandbox.journal("nomis") if each["method"] == "POST" and each["path"].endswith("/visits")]
    assert len(posts) == number
    return posts


def test_nomis_has_the_last_state_of_each_record(sandbox: Sandbox, application: Application) -> None:
    """NOMIS has each record once and in its last state, even if events are published twice or in the wrong order."""
    sandbox.traffic(events=120, seed=3, queues=["visit"], duplicates=6, out_of_order=6)
    summary = settle(application.open_drain("visit"), application.queue_pair("visit").main)
    assert summary.received >= 120
    assert summary.duplicate >= 1
    assert sandbox.verify()["problems"] == []
    assert application.queue_pair("visit").dlq.counts().total == 0


def test_updates_of_a_record_share_a_write(sandbox: Sandbox, application: Application) -> None:
    """A thousand updates of a hundred visits, published together, cause at most 150 writes.

    NOMIS gets the last state of each visit.
    """
    sandbox.traffic(events=330, seed=5, queues=["visit"])
    drain, queue = application.open_drain("visit"), application.queue_pair("visit").main
    settle(drain, queue)
    made = [visit for visit in sandbox.entities("visit") if visit["status"] == "BOOKED"][:100]
    assert len(made) == 100
    sandbox.clear_records()
    bodies = [_message(CHANGED, visit["prisoner_id"], visit["reference"]) for visit in made for _ in range(10)]
    client = application.aws.client("sqs")
    for start in range(0, len(bodies), 10):
        entries = [{"Id": str(n), "MessageBody": text} for n, text in enumerate(bodies[start : start + 10])]
        client.send_message_batch(QueueUrl=queue.url, Entries=entries)
    summary = settle(drain, queue)
    assert summary.received >= len(bodies)
    writes = [each for each in sandbox.journal("nomis") if each["method"] == "PUT"]
    assert len(made) <= len(writes) <= 150
    assert sandbox.verify()["problems"] == []


def _message(event_type: str, offender_no: str, reference: str) -> str:
    event = {
        "eventType": event_type,
        "occurredAt": "2023-05-22T10:00:00+01:00",
        "prisonerId": offender_no,
        "additionalInformation": {"reference": reference},
    }
    return json.dumps({"Type": "Notification", "MessageId": reference, "Message": json.dumps(event)})


def test_a_malformed_message_fails_alone(sandbox: Sandbox, application: Application) -> None:
    """A malformed message becomes a dead letter, and the reason is recorded. The messages around it are handled."""
    queue, dlq = application.queue_pair("visit").main, application.queue_pair("visit").dlq
    bad = queue.send("{no json")
    sandbox.traffic(events=10, seed=1, queues=["visit"])
    drain = application.open_drain("visit")
    until(lambda: bool(drain.run_until_empty()) and dlq.counts().visible == 1)
    assert sandbox.verify()["problems"] == []
    failure = last_failure(application.database, queue="visit", message_id=bad)
    assert failure is not None
    assert "not valid JSON" in failure.failure.reason
    assert failure.attempt == 3


def test_an_event_type_that_is_switched_off_is_acknowledged(sandbox: Sandbox, tmp_path: Path) -> None:
    """If `FEATURE_EVENT_…` is false for an event type, its events are acknowledged, but not handled or tracked."""
    with open_application(
        sandbox.environment(), f"sqlite:///{tmp_path}/off.db", FEATURE_EVENT_PRISON_VISIT_BOOKED="false"
    ) as off:
        off.queue_pair("visit")
        published = sandbox.traffic(events=5, seed=1, queues=["visit"])["published"]
        sandbox.clear_records()
        summary = off.open_drain("visit").run_batch()
        assert summary.switched_off == published[BOOKED] > 0
        assert visits(sandbox, 0) == []
        assert tracked(off)["visit-create-success"] == 0


def test_a_switched_off_event_needs_no_fields(sandbox: Sandbox, tmp_path: Path) -> None:
    """An event whose type is switched off is acknowledged even if it lacks the fields that its handler would read."""
    with open_application(
        sandbox.environment(), f"sqlite:///{tmp_path}/off.db", FEATURE_EVENT_PRISON_VISIT_BOOKED="false"
    ) as off:
        off.queue_pair("visit").main.send(
            json.dumps({"Type": "Notification", "Message": json.dumps({"eventType": BOOKED})})
        )
        summary = off.open_drain("visit").run_batch()
        assert (summary.switched_off, summary.unreadable) == (1, 0)


def test_a_lost_response_makes_no_second_visit(
    sandbox: Sandbox, application: Application, impatient_breaker: None, quick_creates: None
) -> None:
    """If NOMIS creates a visit but the response is lost, the next attempt finds the visit.

    No second visit is created.
    """
    created = sandbox.traffic(events=6, seed=2, queues=["visit"])["created"]
    sandbox.fault("nomis", "POST", "/prisoners/.*/visits", kind="reset_after_write", times=2)
    settle(application.open_drain("visit"), application.queue_pair("visit").main)
    visits(sandbox, created)
    assert sandbox.verify()["problems"] == []
    assert application.queue_pair("visit").dlq.counts().total == 0


def test_a_retry_message_saves_a_mapping_that_failed(
    sandbox: Sandbox, application: Application, impatient_breaker: None
) -> None:
    """If the mapping service fails, each record is still created only once.

    The mapping is saved by means of a retry message.
    """
    created = sandbox.traffic(events=6, seed=2, queues=["visit"])["created"]
    sandbox.fault("mapping", "POST", "/mapping/visits", kind="status", status=500, times=4)
    summary = settle(application.open_drain("visit"), application.queue_pair("visit").main)
    assert summary.retry_queued >= 1
    names = tracked(application)
    assert names["visit-mapping-create-failed"] == names["visit-create-mapping-retry"] == summary.retry_queued
    assert names["visit-retry-success"] >= 1
    visits(sandbox, created)
    assert sandbox.verify()["problems"] == []


def test_an_outage_of_nomis_makes_no_dead_letters(
    sandbox: Sandbox, application: Application, impatient_breaker: None
) -> None:
    """While NOMIS responds with 503, messages are parked.

    Once it is up again, they are handled, and none becomes a dead letter.
    """
    sandbox.traffic(events=40, seed=4, queues=["visit"])
    sandbox.fault("nomis", "*", ".*", kind="status", status=503)
    drain, pair = application.open_drain("visit"), application.queue_pair("visit")
    working = in_thread(drain.run_until_empty)
    until(lambda: application.breakers.open_services(application.breakers.states()), "the outage is noticed")
    asked = sandbox.requests("nomis")
    sandbox.clear_faults()
    result_of(working)
    settle(drain, pair.main)
    assert len(asked) < 60
    assert pair.dlq.counts().total == 0
    assert sandbox.verify()["problems"] == []
    names = tracked(application)
    assert names["upstream-breaker-opened"] >= 1
    assert names["upstream-breaker-closed"] >= 1
    assert not application.breakers.open_services(application.breakers.states())


def test_an_outage_ends_a_single_drain_after_its_limit(sandbox: Sandbox, application: Application) -> None:
    """If an outage outlasts the time limit of a drain, the drain returns its messages. Its error names the service."""
    sandbox.traffic(events=30, seed=4, queues=["visit"])
    sandbox.fault("nomis", "*", ".*", kind="status", status=503)
    drain = application.open_drain("visit", 0.5)
    with pytest.raises(UpstreamsUnavailable, match="nomis"):
        drain.run_until_empty()
    counts = application.queue_pair("visit").main.counts()
    assert counts.total == 30
    assert application.queue_pair("visit").dlq.counts().total == 0


def test_a_slow_message_stays_hidden(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat renews the visibility timeout of a message in flight, so the message is not delivered twice."""
    settings = {"HMPPS_SQS_PROVIDER": "aws", "HMPPS_SQS_VISIBILITY_TIMEOUT_SECONDS": "1"}
    with stubbed() as sqs:
        monkeypatch.setenv("AWS_ENDPOINT_URL", sqs.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        with (
            open_application(sandbox.environment(), f"sqlite:///{tmp_path}/slow.db", **settings) as slow,
            held(sandbox, "nomis", "POST", VISITS) as create,
        ):
            queue = slow.queue_pair("visit").main
            offender_no = put_visit(sandbox, "slow")
            queue.send(_message(BOOKED, offender_no, "slow"))
            working = in_thread(slow.open_drain("visit").run_batch)
            create.wait_for_request()
            for _ in range(4):
                sqs.renew_and_forward(0.9)
                assert queue.receive() == []
            create.release()
            assert result_of(working).applied == 1
        visits(sandbox, 1)


def test_a_stop_finishes_the_messages_in_flight(sandbox: Sandbox, application: Application) -> None:
    """When a drain is stopped, it finishes the messages in flight.

    Messages that are published afterwards stay on the queue.
    """
    sandbox.traffic(events=30, seed=1, queues=["visit"])
    drain, queue = application.open_drain("visit"), application.queue_pair("visit").main
    with held(sandbox, "nomis", "POST", VISITS, times=None) as creates:
        working = in_thread(drain.run_until_empty)
        creates.wait_for_request()
        drain.stop()
        queue.send("published afterwards")
        creates.release()
        summary = result_of(working)
    assert summary.applied > 0
    assert summary.received == summary.applied + summary.coalesced
    assert queue.counts().visible >= 1


def test_messages_are_returned_after_the_grace_period(sandbox: Sandbox, tmp_path: Path) -> None:
    """Messages that are not finished within the grace period after a stop become visible again.

    No visit is created twice.
    """
    url = f"sqlite:///{tmp_path}/grace.db"
    with open_application(sandbox.environment(), url, DRAIN_GRACE_SECONDS="0.5", DRAIN_CONCURRENCY="2") as hasty:
        queue = hasty.queue_pair("visit").main
        sandbox.traffic(events=12, seed=1, queues=["visit"])
        drain = hasty.open_drain("visit")
        with held(sandbox, "nomis", "POST", VISITS, times=None) as creates:
            working = in_thread(drain.run_batch)
            creates.wait_for_request()
            drain.stop()
            summary = result_of(working)
        assert summary.deferred > 0
        assert queue.counts().visible == summary.deferred
        assert queue.counts().in_flight == 0
    with open_application(sandbox.environment(), url) as patient:
        settle(patient.open_drain("visit"), patient.queue_pair("visit").main)
        assert sandbox.verify()["problems"] == []


def test_two_processes_do_not_create_twice(sandbox: Sandbox, database_url: str) -> None:
    """If every event is published twice, two drains that share a queue and a database create each record only once."""
    # One process may get an event while the other is still creating its record, and then tries again for a while.
    often = {"HMPPS_SQS_MAX_RECEIVE_COUNT": "20", "HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "1"}
    services = sandbox.environment()
    with (
        open_application(services, database_url, **often) as first,
        open_application(services, database_url, **often) as second,
    ):
        pair = first.queue_pair("visit")
        second.queue_pair("visit")
        sandbox.traffic(events=40, seed=6, queues=["visit"], duplicates=40)
        drains = [first.open_drain("visit"), second.open_drain("visit")]
        for working in [in_thread(settle, drain, pair.main) for drain in drains]:
            result_of(working)
        assert pair.dlq.counts().total == 0
        assert sandbox.verify()["problems"] == []
