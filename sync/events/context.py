"""The context in which a handler handles one event, and the possible outcomes of a message."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

from sync.errors import LeaseBusy, UpstreamError
from sync.settings import times
from sync.store.creations import find_record, mark_deleted
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.telemetry import Telemetry
from sync.upstream.services import Services


class HandlerContext:
    """The services, leases and telemetry for the handling of one event, and the progress of the handling.

    properties: the telemetry properties, which are also tracked for a failed attempt. current_step: the step that is
    under way. request_seconds: the number of seconds for which a request may be under way after it is sent.
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
        """Sets the name of the step that begins now: a few plain words, such as `read visit`."""
        self.current_step = name

    def bind(self, **properties: object) -> None:
        """Adds telemetry properties under exactly these names. Those with the value None are not tracked."""
        self.properties.update(properties)

    @contextmanager
    def lease(self, key: str) -> Iterator[None]:
        """Holds the lease of `key` in the `with` block, so that no other thread or process holds it.

        Waits a moment for the lease, since events of entities that share a lease, such as the attendances of a booking,
        usually have to wait for only a single call. Raises `LeaseBusy` if the lease is still held elsewhere; the
        message then waits.

        If the outcome of a request is unknown, or if this process dies, the lease stays held while the request may
        still be under way. Otherwise, a request that is applied late could overwrite newer data.
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
        """Whether the creation of the DPS record `dps_id` has begun but has not finished.

        In that case, NOMIS has, or may get, a record without a mapping. `name` is the name of the `Creation`.
        """
        with self._database.read() as connection:
            record = find_record(connection, name, dps_id)
        return record is not None and record.state.is_open

    def forget_creation(self, name: str, dps_id: str) -> None:
        """Records that a DPS record was deleted, and is no longer in NOMIS or in the mapping service."""
        with self._database.begin() as connection:
            mark_deleted(connection, name, dps_id)

    def track(self, name: str, properties: Mapping[str, object]) -> None:
        """Tracks a telemetry event with exactly these properties."""
        self._telemetry.track(name, properties)


class Outcome(StrEnum):
    """The outcome of a message; summaries, metrics and the ledger use the same words."""

    #: The effect of the event is in NOMIS (and, for a creation, in the mapping service).
    APPLIED = "applied"
    #: A later event of the same entity was handled instead.
    COALESCED = "coalesced"
    #: The event does not require a change in NOMIS.
    IGNORED = "ignored"
    #: The record already exists, or its mapping was refused because a different mapping exists; nothing is left to do.
    DUPLICATE = "duplicate"
    #: The record is created in NOMIS, and a separate message saves the mapping.
    RETRY_QUEUED = "retry_queued"
    #: Events of this type are switched off.
    SWITCHED_OFF = "switched_off"
    #: The message has an unknown type.
    UNHANDLED = "unhandled"
    #: The attempt failed, so the message is delivered again or moves to the dead letter queue.
    FAILED = "failed"
    #: The message is malformed.
    UNREADABLE = "unreadable"
    #: No look-up can show whether NOMIS has the record. A person has to decide; the program does not create it again.
    AMBIGUOUS = "ambiguous"
    #: The message was returned to the queue untried, or to wait there.
    DEFERRED = "deferred"

    @property
    def is_final(self) -> bool:
        """Whether the message may be deleted."""
        return self not in (Outcome.FAILED, Outcome.UNREADABLE, Outcome.DEFERRED)
