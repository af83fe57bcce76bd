"""Events whose record has no mapping yet, because its creation is under way, queued or failed a moment ago.

SQS gives messages in no certain order and several processes drain one queue, so a change may be met before the creation
that it follows. Waiting for that must cost none of the receives after which a message is a dead letter. So the message
does not come again itself: a copy of it is put on the queue, which comes after a pause, and the message is deleted. The
copy carries since when it waits; after the patience is over the event fails like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

from sync import clock
from sync.failures import Failure, SyncError, UpstreamError
from sync.queues.queue import WAITS_SINCE, Message
from sync.settings import UpstreamName
from sync.store.creations import CreationState, find
from sync.store.database import Database

#: A creation that was begun is waited for so many times longer than one that nobody has heard of: it may fail, and be
#: tried again, before it succeeds.
BEGUN_FACTOR = 6
#: The first pause and the longest, in seconds; between them it is half of the time that was waited already.
_FIRST_PAUSE = 2
_LONGEST_PAUSE = 60

_BEGUN = frozenset({CreationState.INTENDED, CreationState.REFUSED, CreationState.CREATED})
#: Nobody is about to save a mapping of these: a person has to, or the record is gone on purpose.
_HOPELESS = frozenset({CreationState.AMBIGUOUS, CreationState.DUPLICATE, CreationState.DELETED})


class CreationAwaited(SyncError):
    """The record of an event has no mapping yet, and may get one; nothing was done, and nothing failed."""

    recoverable = True

    def __init__(self, missing: UpstreamError, pause_seconds: int) -> None:
        super().__init__(f"{missing}; its creation may still come")
        self.missing = missing
        self.pause_seconds = pause_seconds


@dataclass(frozen=True, slots=True)
class Pause:
    """How a message waits for a creation: a copy of it comes after `seconds`. `missing`: what failed for want of it."""

    seconds: int
    missing: Failure


def awaited(
    error: UpstreamError, creation: str, message: Message, database: Database, patience_seconds: float
) -> CreationAwaited | None:
    """What to raise in place of `error` where it says that a mapping is missing and the creation may still come.

    `creation` is the name of the `Creation` whose mappings the events of the queue need. Raises `StoreUnavailable`.
    """
    dps_id = _unmapped(error)
    if dps_id is None or patience_seconds <= 0:
        return None
    with database.read() as connection:
        record = find(connection, creation, dps_id)
    if record is not None and record.state in _HOPELESS:
        return None
    begun = record is not None and record.state in _BEGUN
    waited = max(timedelta(), clock.now() - waiting_since(message)).total_seconds()
    if waited >= patience_seconds * (BEGUN_FACTOR if begun else 1):
        return None
    return CreationAwaited(error, max(_FIRST_PAUSE, min(int(waited / 2), _LONGEST_PAUSE)))


def waiting_since(message: Message) -> datetime:
    """Since when the event of a message waits for a creation; now, when it has not waited yet."""
    given = message.attributes.get(WAITS_SINCE, {}).get("StringValue")
    try:
        since = datetime.fromisoformat(given or "")
    except ValueError:
        return clock.now()
    return since if since.tzinfo is not None else clock.now()


def attributes_of_copy(message: Message) -> Mapping[str, Mapping[str, Any]]:
    """The attributes of the copy of a message that waits."""
    since = waiting_since(message).isoformat()
    return {**message.attributes, WAITS_SINCE: {"DataType": "String", "StringValue": since}}


def _unmapped(error: UpstreamError) -> str | None:
    """The DPS id that has no mapping, None where the error says something else; paths of mappings end with it."""
    if error.service != UpstreamName.MAPPING or error.method != "GET" or not error.absent:
        return None
    return unquote(error.path.rsplit("/", 1)[-1])
