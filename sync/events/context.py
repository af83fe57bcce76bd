"""What a handler works with while it handles one event, and how that ends."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

from sync.failures import LeaseBusy, UpstreamError
from sync.settings import times
from sync.store.creations import find_record, mark_deleted
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.telemetry import Telemetry
from sync.upstream.services import Services


class HandlerContext:
    """The services, leases and telemetry for one event, and what its handling has found so far.

    `properties` are those of its telemetry event; a failed attempt is recorded with them and with `current_step`.
    `request_seconds`: the longest that a request may be under way after it was sent.
    """

    def __init__(
        self,
        services: Services,
        leases: Leases,
        telemetry: Telemetry,
        database: Database,
        *,
        request_seconds: float,
    ) -> None:
        self.services = services
        self.properties: dict[str, object] = {}
        self.current_step = "read event"
        self._leases = leases
        self._telemetry = telemetry
        self._database = database
        self._request_seconds = request_seconds

    def step(self, name: str) -> None:
        """Names the step that begins now, in a few plain words such as `read visit`."""
        self.current_step = name

    def bind(self, **properties: object) -> None:
        """Adds telemetry properties by their exact names; those that are None are left out when tracked."""
        self.properties.update(properties)

    @contextmanager
    def lease(self, key: str) -> Iterator[None]:
        """Holds the lease of `key` for the `with` block, so that no other thread or process holds it.

        Waits a moment for it, since entities that share a lease, such as the attendances for one booking, usually wait
        only for one call of another. Raises `LeaseBusy` if it is still held elsewhere: the message then waits.

        After an unknown outcome, or the death of this process, the lease stays taken while the request may still be
        in progress: a request applied late would overwrite newer data.
        """
        deadline = time.monotonic() + times.HANDLER_LEASE_WAIT_SECONDS
        pause = times.HANDLER_LEASE_POLL_SECONDS
        while not self._leases.acquire(key, take_over=False, least_seconds=self._request_seconds):
            if time.monotonic() > deadline:
                raise LeaseBusy(key)
            time.sleep(pause)
            pause = min(2 * pause, times.HANDLER_LEASE_LONGEST_POLL_SECONDS)
        try:
            yield
        except UpstreamError as error:
            # A request that the service itself responded to has ended there.
            if error.under_way:
                self._leases.expire_after(key, self._request_seconds)
            raise
        finally:
            self._leases.release(key)

    def creation_open(self, name: str, dps_id: str) -> bool:
        """Whether a creation of this DPS record has begun and has not finished.

        NOMIS then has, or may get, a record without a mapping. `name` is that of the `Creation`.
        """
        with self._database.read() as connection:
            record = find_record(connection, name, dps_id)
        return record is not None and record.state.is_open

    def forget_creation(self, name: str, dps_id: str) -> None:
        """Records that a deleted DPS record is gone from NOMIS and from the mapping service too."""
        with self._database.begin() as connection:
            mark_deleted(connection, name, dps_id)

    def track(self, name: str, properties: Mapping[str, object]) -> None:
        """Tracks a telemetry event with these properties alone."""
        self._telemetry.track(name, properties)


class Outcome(StrEnum):
    """What became of a message; the words are those of summaries, metrics and the ledger."""

    #: Its effect is in NOMIS (and, for a creation, in the mapping service).
    APPLIED = "applied"
    #: A later event of the same entity, handled instead, covers it.
    COALESCED = "coalesced"
    #: The event needs nothing in NOMIS.
    IGNORED = "ignored"
    #: The record exists already, or its mapping was refused because another one exists; nothing is left to do.
    DUPLICATE = "duplicate"
    #: Created in NOMIS; a separate message saves the mapping.
    RETRY_QUEUED = "retry_queued"
    #: Events of this type are switched off.
    SWITCHED_OFF = "switched_off"
    #: The message has an unknown type.
    UNHANDLED = "unhandled"
    #: It failed; it comes again or goes to the dead letter queue.
    FAILED = "failed"
    #: It is malformed.
    UNREADABLE = "unreadable"
    #: Nobody can tell whether NOMIS has the record: a person has to decide; it is never created again automatically.
    AMBIGUOUS = "ambiguous"
    #: Returned to the queue untried, or to wait there.
    DEFERRED = "deferred"

    @property
    def is_final(self) -> bool:
        """Whether the message may be deleted."""
        return self not in (Outcome.FAILED, Outcome.UNREADABLE, Outcome.DEFERRED)
