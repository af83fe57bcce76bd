"""Messages about visits on a queue, and drains that empty a queue."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.pipeline.drain import BatchSummary, Drain
from sync.queues.queue import Queue
from sync.store.database import Database
from sync.store.failed_attempts import FailedAttempt, attempts_at
from sync.store.telemetry import read_events
from tests.harness.waiting import in_thread, result_of, until


def tracked(application: Application) -> Counter[str]:
    """The number of telemetry events tracked so far, by name."""
    application.telemetry.flush()
    return Counter(event["name"] for event in read_events(application.database))


def settle(drain: Drain, queue: Queue) -> BatchSummary:
    """Drains until the queue has no messages left, not even delayed ones.

    Returns the sum of the counts of all batches.
    """
    total = BatchSummary(drain.queue)

    def nothing_left() -> bool:
        nonlocal total
        if queue.counts().total:
            total += drain.run_until_empty()
        return queue.counts().total == 0

    until(nothing_left, "the queue is empty")
    return total


BOOKED, CHANGED, CANCELLED = "prison-visit.booked", "prison-visit.changed", "prison-visit.cancelled"


def send(queue: Queue, event_type: str, reference: str, minute: int = 0, **event: Any) -> str:
    """Puts an event about a visit on `queue`, as SNS does, and returns the SQS id of the message."""
    values = {
        "eventType": event_type,
        "occurredAt": f"2023-05-22T10:{minute:02}:00+01:00",
        "prisonerId": "A1234BC",
        "additionalInformation": {"reference": reference},
        **event,
    }
    notification = {"Type": "Notification", "MessageId": f"sns-{reference}-{minute}", "Message": json.dumps(values)}
    return queue.send(json.dumps(notification))


@contextmanager
def draining(application: Application, name: str) -> Iterator[None]:
    """Drains a queue in another thread during the `with` block.

    If a batch fails, the drain continues with the next batch, as the scheduler's drain does.
    """
    over = threading.Event()
    drain = application.open_drain(name)

    def work() -> None:
        while not over.is_set():
            try:
                received = drain.run_batch().received
            except Exception:  # the scheduler logs the error and continues
                received = 0
            if not received:
                over.wait(0.05)

    working = in_thread(work)
    try:
        yield
    finally:
        over.set()
        result_of(working)


def nothing_lost(sandbox: Sandbox, application: Application, name: str) -> None:
    """Checks that every record is in NOMIS exactly once, as DPS has it, and that a queue has no dead letters."""
    assert application.queue_pair(name).dlq.counts().total == 0
    assert sandbox.verify()["problems"] == []


def last_failure(
    database: Database, *, queue: str = "visit", sns_message_id: str | None = None, message_id: str = ""
) -> FailedAttempt | None:
    """The last failed attempt to handle a message of a queue, or None if there is none.

    The message is identified by its SNS id or, without one, by its SQS id.
    """
    with database.read() as connection:
        found = attempts_at(connection, queue, [(sns_message_id, message_id)])
    return found[message_id].last if found else None


def failure_of(application: Application, message_id: str) -> FailedAttempt | None:
    """The last failed attempt to handle a message about a visit, or None if there is none."""
    return last_failure(application.database, message_id=message_id)
