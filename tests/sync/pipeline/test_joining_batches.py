"""While a drain is still handling one batch, the next one joins it, so a slow record holds up only its own messages."""

from __future__ import annotations

import threading

import pytest
from botocore.exceptions import EndpointConnectionError
from structlog.testing import capture_logs

from jobs.runtime.application import Application
from sandbox import Sandbox
from tests.harness.faults import held
from tests.harness.publishing import put_visit
from tests.harness.waiting import in_thread, result_of, until

BOOKED, CHANGED = "prison-visit.booked", "prison-visit.changed"
VISITS = "/prisoners/{offenderNo}/visits"


@pytest.fixture
def settings() -> dict[str, str]:
    """Small batches, and little time to finish after a stop."""
    return {"DRAIN_BATCH_SIZE": "10", "DRAIN_GRACE_SECONDS": "0.5"}


def publish(sandbox: Sandbox, event_type: str, reference: str, **changes: str) -> None:
    """Books or changes a visit, and publishes the event."""
    offender_no = put_visit(sandbox, reference, **changes)
    sandbox.publish(event_type, {"reference": reference}, offender_no)


def test_slow_record_does_not_hold_up_the_next_batches(sandbox: Sandbox, application: Application) -> None:
    """While NOMIS takes its time over one visit, the visits of the following batches are created."""
    for number in range(35):
        publish(sandbox, BOOKED, f"visit-{number}")
    with held(sandbox, "nomis", "POST", VISITS) as slow:
        working = in_thread(application.open_drain("visit").run_until_empty)
        slow.wait_for_request()
        until(lambda: len(sandbox.nomis("visit")) == 34, "the other visits are created")
        slow.release()
        summary = result_of(working)
    assert (summary.received, summary.applied, summary.deferred) == (35, 35, 0)
    assert summary.batches >= 2
    assert sandbox.verify()["problems"] == []


def test_event_of_a_slow_record_waits_for_the_one_before_it(sandbox: Sandbox, application: Application) -> None:
    """A change to a visit that is still being created is handled after the creation.

    It is handled in the same run, at its first attempt.
    """
    publish(sandbox, BOOKED, "slow", start="2023-06-02T14:00:00")
    with held(sandbox, "nomis", "POST", VISITS) as slow:
        working = in_thread(application.open_drain("visit").run_until_empty)
        slow.wait_for_request()
        publish(sandbox, CHANGED, "slow", start="2023-06-02T14:30:00")
        publish(sandbox, BOOKED, "other")
        until(lambda: len(sandbox.nomis("visit")) == 1, "the other visit is created")
        slow.release()
        summary = result_of(working)
    assert (summary.received, summary.applied, summary.deferred) == (3, 3, 0)
    assert [each["method"] for each in sandbox.journal("nomis")].count("PUT") == 1
    assert sandbox.verify()["problems"] == []


def test_event_that_waits_for_a_slow_record_is_returned_with_it(sandbox: Sandbox, application: Application) -> None:
    """When the grace period after a stop ends, all messages about a slow record are visible again."""
    publish(sandbox, BOOKED, "slow")
    drain, queue = application.open_drain("visit"), application.queue_pair("visit").main
    with held(sandbox, "nomis", "POST", VISITS) as slow:
        working = in_thread(drain.run_until_empty)
        slow.wait_for_request()
        publish(sandbox, CHANGED, "slow")
        publish(sandbox, BOOKED, "other")
        until(lambda: len(sandbox.nomis("visit")) == 1, "the other visit is created")
        drain.stop()
        summary = result_of(working)
    assert (summary.received, summary.applied, summary.deferred) == (3, 1, 2)
    assert (queue.counts().visible, queue.counts().in_flight) == (2, 0)


def test_batches_join_only_up_to_the_limit_of_messages(sandbox: Sandbox, application: Application) -> None:
    """Once `DRAIN_BATCH_SIZE` messages are being handled, no further batch joins them, however few groups they form."""
    publish(sandbox, BOOKED, "slow")
    for number in range(60):
        publish(sandbox, CHANGED, "slow", start=f"2023-06-02T14:{number:02}:00")
    queue = application.queue_pair("visit").main
    with held(sandbox, "nomis", "POST", VISITS) as slow:
        working = in_thread(application.open_drain("visit").run_until_empty)
        slow.wait_for_request()
        until(lambda: queue.counts().in_flight >= 20, "the batch is full, and the next one is received")
        polls = iter(range(20))
        until(lambda: queue.counts().in_flight > 20 or next(polls, None) is None, "more would have joined by now")
        assert queue.counts().in_flight == 20
        slow.release()
        result_of(working)


def test_batches_join_after_a_receive_failed(sandbox: Sandbox, application: Application) -> None:
    """If a receive fails while a slow record is being handled, the next messages received still join the batch."""
    publish(sandbox, BOOKED, "slow")
    failing, failed = threading.Event(), threading.Event()

    def receive(**_: object) -> None:
        if failing.is_set():
            failing.clear()
            failed.set()
            raise EndpointConnectionError(endpoint_url="http://sqs")

    application.aws.client("sqs").meta.events.register("before-call.sqs.ReceiveMessage", receive)
    with capture_logs() as logs, held(sandbox, "nomis", "POST", VISITS) as slow:
        working = in_thread(application.open_drain("visit").run_until_empty)
        slow.wait_for_request()
        failing.set()
        until(failed.is_set, "a receive fails")
        publish(sandbox, BOOKED, "other")
        until(lambda: len(sandbox.nomis("visit")) == 1, "the other visit is created")
        slow.release()
        summary = result_of(working)
    assert (summary.received, summary.applied) == (2, 2)
    assert [each["event"] for each in logs].count("receive-failed") == 1
