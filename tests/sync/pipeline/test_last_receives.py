"""A message that fails or has to wait at its last receive is replaced by a copy, or becomes a dead letter.

The cause of each dead letter is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.errors import Failure
from sync.events.context import Outcome
from sync.pipeline.acknowledge import Acknowledger
from sync.pipeline.coalesce import Task, read_task
from sync.pipeline.task_end import TaskEnd
from sync.queues.heartbeat import Heartbeat
from sync.queues.queue import Queue
from sync.queues.requeue import WaitsFor
from sync.settings import times
from sync.store.database import StoreUnavailable
from tests.harness.app import open_application
from tests.harness.databases import event_listener
from tests.harness.faults import hits
from tests.harness.pipeline import BOOKED, draining, last_failure, send, tracked
from tests.harness.publishing import visit_booked
from tests.harness.waiting import until

pytestmark = pytest.mark.usefixtures("no_pauses")
MOST = 3
SENT_TO_DLQ = f"{BOOKED}-sent-to-dlq"
FAILURE = Failure("create visit", "nomis", "POST", "/prisoners/A1234BC/visits", 503, "busy", recoverable=True)


def test_a_copy_at_the_last_receive_is_not_a_dead_letter(sandbox: Sandbox, application: Application) -> None:
    """If NOMIS responds with 503 at the last receive of a message, the message waits as a copy.

    It is not reported as sent to the DLQ.
    """
    pair = application.queue_pair("visit")
    visit_booked(sandbox).publish()
    for _ in range(MOST - 1):
        pair.main.change_visibility(pair.main.receive(), 0)
    sandbox.fault("nomis", "POST", status=503)
    assert application.open_drain("visit").run_batch().deferred == 1
    assert (pair.main.counts().total, pair.dlq.counts().total) == (1, 0)
    found = tracked(application)
    assert found["message-failed"] == 1
    assert found[SENT_TO_DLQ] == 0


class NoCopies:
    """An SQS client that refuses to send messages."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def send_message_batch(self, **arguments: Any) -> dict[str, Any]:
        """Refuses every message."""
        return {"Failed": [{"Id": each["Id"]} for each in arguments["Entries"]]}


@contextmanager
def last_received(application: Application, client: Any) -> Iterator[tuple[Acknowledger, Task]]:
    """An acknowledger that uses `client`, and the task of a `BOOKED` message at its last receive."""
    made = application.queue_pair("visit").main
    send(made, BOOKED, "aa-aa")
    for _ in range(MOST):
        (message,) = made.receive(visibility_seconds=0)
    queue = Queue(client, made.name, made.url)
    with Heartbeat(queue, 60) as heartbeat:
        context = application.queue_context("visit")
        yield Acknowledger(context, queue, heartbeat), read_task(message, context.domain)


@pytest.mark.parametrize("waits_for", [WaitsFor.SERVICE, WaitsFor.CREATION])
def test_a_failure_is_recorded_once_when_no_copy_can_be_sent(
    application: Application, monkeypatch: pytest.MonkeyPatch, waits_for: WaitsFor
) -> None:
    """If a message that has to wait cannot be copied at its last receive, it fails.

    One failure is recorded. The failure and the move to the DLQ are each tracked once.
    """
    monkeypatch.setattr(times, "SQS_RETRY_SECONDS", 0)
    with last_received(application, NoCopies(application.aws.client("sqs"))) as (acknowledger, task):
        end = TaskEnd(task, Outcome.DEFERRED, FAILURE, waits_for=waits_for)
        assert acknowledger.acknowledge([end]) == {Outcome.FAILED: 1}
        assert acknowledger.failures.counts().total() == 1
    found = tracked(application)
    assert found["message-failed"] == 1
    assert found[SENT_TO_DLQ] == 1


def test_an_awaited_creation_is_not_a_failure_at_the_last_receive(application: Application) -> None:
    """A message that waits for a creation at its last receive is not recorded as failed if a copy can be sent."""
    with last_received(application, application.aws.client("sqs")) as (acknowledger, task):
        end = TaskEnd(task, Outcome.DEFERRED, FAILURE, waits_for=WaitsFor.CREATION)
        assert acknowledger.acknowledge([end]) == {Outcome.DEFERRED: 1}
    assert application.queue_pair("visit").main.counts().total == 1
    assert not tracked(application)


def test_a_handled_message_that_cannot_be_recorded_is_deferred_for_that_reason(
    application: Application,
) -> None:
    """If the database cannot record that a message was handled, the message is deferred for that reason."""

    def lost(*_given: object) -> None:
        raise StoreUnavailable("the database does not respond")

    with last_received(application, application.aws.client("sqs")) as (acknowledger, task):
        with event_listener("begin", lost):
            assert acknowledger.acknowledge([TaskEnd(task, Outcome.APPLIED)]) == {Outcome.DEFERRED: 1}
        (reason,) = acknowledger.deferrals
    assert reason == "handled, but the database could not record that"
    assert application.queue_pair("visit").main.counts().total == 1


def test_an_unknown_outcome_at_the_last_receive_gets_one_copy(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_creates: None
) -> None:
    """If the outcome of a create is unknown at the last receive of its message, one copy replaces the message.

    When the copy is handled, NOMIS is searched. The copy then becomes a dead letter.
    """
    monkeypatch.setattr(times, "LEASE_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(times, "LONGEST_OUTAGE_SECONDS", 0.0)
    settings = {
        "API_TIMEOUT_SECONDS": "0.4",
        "CREATION_SETTLING_SECONDS": "1",
        "HMPPS_SQS_MAX_RECEIVE_COUNT": "2",
    }
    with open_application(sandbox.environment(), f"sqlite:///{tmp_path}/two.db", **settings) as application:
        pair = application.queue_pair("visit")
        visit_booked(sandbox).publish()
        fault = sandbox.fault("nomis", "POST", "/prisoners/", status=504, text="<html>Gateway Timeout</html>")

        def is_dead_letter() -> bool:
            # If every copy were copied again, this would never end.
            assert hits(sandbox, fault) <= 2, "the message is tried more often than it may be received"
            return pair.dlq.counts().total == 1

        with draining(application, "visit"):
            until(is_dead_letter)
        found = last_failure(application.database, message_id=pair.dlq.receive()[0].message_id)
        assert found is not None
        assert "the outcome of the last create is unknown" in found.failure.reason
        assert tracked(application)[SENT_TO_DLQ] == 1
