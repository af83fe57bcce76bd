"""Events that need a record which is not there yet, because its creation is under way, queued or failed a moment ago.

SQS gives messages in no certain order and several processes drain one queue, so a change may be met before the creation
that it follows, and an attendance before the allocation. It then waits (`sync.queues.requeue`); after the patience is
over the event fails like any other.
"""

from urllib.parse import unquote

from sync.creation.records import CreationState, find
from sync.failures import SyncError, UpstreamError, describe_failure
from sync.queues.queue import Message
from sync.queues.requeue import WaitsFor, seconds_waited
from sync.repair.hints import is_missing_allocation
from sync.settings.declaration import UpstreamName
from sync.store.database import Database

#: A creation that was begun is waited for so many times longer than one that nobody has heard of: it may fail, and be
#: tried again, before it succeeds.
BEGUN_FACTOR = 6

_BEGUN = frozenset({CreationState.INTENDED, CreationState.REFUSED, CreationState.CREATED})
#: Nobody is about to save a mapping of these: a person has to, or the record is gone on purpose.
_HOPELESS = frozenset({CreationState.AMBIGUOUS, CreationState.DUPLICATE, CreationState.DELETED})


class CreationAwaited(SyncError):
    """What an event needs is not there yet, and may come; nothing was done, and nothing failed."""

    recoverable = True

    def __init__(self, missing: UpstreamError) -> None:
        super().__init__(f"{missing}; its creation may still come")
        self.missing = missing


def is_awaited(
    error: UpstreamError, creation: str, message: Message, database: Database, patience_seconds: float
) -> bool:
    """Whether `error` says that a mapping is missing whose creation may still come, or an allocation that may.

    `creation` is the name of the `Creation` whose mappings the events of the queue need. Raises `StoreUnavailable`.
    """
    if error.from_service and is_missing_allocation(describe_failure(error)):
        return seconds_waited(message, WaitsFor.CREATION) < patience_seconds
    dps_id = _unmapped(error)
    if dps_id is None or patience_seconds <= 0:
        return False
    with database.read() as connection:
        record = find(connection, creation, dps_id)
    if record is not None and record.state in _HOPELESS:
        return False
    begun = record is not None and record.state in _BEGUN
    return seconds_waited(message, WaitsFor.CREATION) < patience_seconds * (BEGUN_FACTOR if begun else 1)


def _unmapped(error: UpstreamError) -> str | None:
    """The DPS id that has no mapping, None where the error says something else; paths of mappings end with it."""
    if error.service != UpstreamName.MAPPING or error.method != "GET" or not error.absent:
        return None
    return unquote(error.path.rsplit("/", 1)[-1])
