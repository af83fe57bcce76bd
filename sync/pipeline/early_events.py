"""Handles events that come too early: before the publisher has committed the change, or before the record exists.

An event may be sent before the transaction behind it is committed, so each event is parked until it is a few seconds
old.

SQS does not keep messages in order, and several processes drain one queue. So an update may arrive before the creation
of its record, and an attendance before its allocation. Such an event waits on the queue (`sync.queues.requeue`) while
the creation may still come. After `CREATION_WAIT_SECONDS`, it fails in the usual way. Only the time after the last
outage counts, because nothing is created during an outage.
"""

import math
import time
from urllib.parse import unquote

from sqlalchemy import Connection

from sync.clock import now
from sync.errors import SyncError, UpstreamError, describe_failure
from sync.pipeline.queue_context import QueueContext
from sync.queues.queue import Message
from sync.queues.requeue import WaitsFor, may_wait, seconds_waited
from sync.settings import times
from sync.settings.upstreams import UpstreamName
from sync.store.creations import CreationState, find_record
from sync.upstream.breaker import read_breakers
from sync.upstream.breaker_rules import BreakerState

#: The wait is this many times as long if the creation has begun, since it may fail and be retried before it succeeds.
_BEGUN_FACTOR = 6

_BEGUN = frozenset({CreationState.INTENDED, CreationState.REFUSED, CreationState.CREATED})
#: States that will not lead to a mapping: a person has to decide, or the record was deleted on purpose.
_HOPELESS = frozenset({CreationState.AMBIGUOUS, CreationState.DUPLICATE, CreationState.DELETED})


class CreationAwaited(SyncError):
    """A record that the event needs does not exist yet. The event has changed nothing, and has not failed."""

    recoverable = True

    def __init__(self, missing: UpstreamError) -> None:
        super().__init__(f"{missing}; the record may still be created")
        self.missing = missing


def may_still_be_created(error: UpstreamError, message: Message, queue_context: QueueContext) -> bool:
    """Whether `error` means that a mapping or an allocation is missing but may still be created.

    Raises `StoreUnavailable`.
    """
    patience = queue_context.settings.creation_wait_seconds
    is_awaited = queue_context.domain.is_awaited
    if error.from_service and is_awaited is not None and is_awaited(describe_failure(error)):
        with queue_context.database.read() as connection:
            return _may_wait(message, patience, connection, queue_context)
    dps_id = _unmapped_id(error)
    if dps_id is None or patience <= 0:
        return False
    with queue_context.database.read() as connection:
        record = find_record(connection, queue_context.domain.creation.name, dps_id)
        if record is not None and record.state in _HOPELESS:
            return False
        begun = record is not None and record.state in _BEGUN
        return _may_wait(message, patience * (_BEGUN_FACTOR if begun else 1), connection, queue_context)


def _may_wait(message: Message, seconds: float, connection: Connection, queue_context: QueueContext) -> bool:
    """Whether a message has waited less than `seconds` for a creation since the last outage, if any, ended."""
    ended = [
        now() if row.state == BreakerState.OPEN else row.changed_at
        for service, row in read_breakers(connection).items()
        if service in queue_context.upstreams
    ]
    usable_seconds = (now() - max(ended)).total_seconds() if ended else math.inf
    uncounted = max(0.0, seconds_waited(message, WaitsFor.CREATION) - usable_seconds)
    return may_wait(message, WaitsFor.CREATION, min(seconds + uncounted, max(seconds, times.LONGEST_WAIT_SECONDS)))


def _unmapped_id(error: UpstreamError) -> str | None:
    """The DPS id without a mapping (the last part of the path), or None if `error` has a different cause."""
    if error.service != UpstreamName.MAPPING or error.method != "GET" or not error.absent:
        return None
    return unquote(error.path.rsplit("/", 1)[-1])


def seconds_until_old_enough(message: Message, minimum_age: float) -> float:
    """The seconds until the event of `message` is `minimum_age` seconds old, from 0 to `minimum_age`.

    The age is that of the message, because the clocks of the publishers may be wrong. If this is the first receive of
    the message, its age at that receive is measured by the clock of SQS alone. Otherwise, its age is measured by our
    clock, but is at least the time since the latest receive.
    """
    since_receive = time.monotonic() - message.received_at
    age = since_receive
    if message.sent_at is not None and message.receive_count == 1 and message.first_received_at is not None:
        age += (message.first_received_at - message.sent_at).total_seconds()
    elif message.sent_at is not None:
        age = (now() - message.sent_at).total_seconds()
    return max(0.0, minimum_age - max(age, since_receive))
