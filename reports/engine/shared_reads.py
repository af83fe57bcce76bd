"""A run's calls to services.

Units that are read in parallel share the threads and the concurrency limit of each service.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from reports.engine.parallel_reader import OUTAGE_SECONDS, FailedRead, ParallelReader, outage_text, retry
from reports.engine.reconciliation import ServiceTooOld
from sync.clock import LONDON
from sync.errors import BreakerOpen, SyncError, UpstreamError
from sync.outage_text import wait_text
from sync.settings import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import tzinfo

    from reports.engine.units import Unit
    from sync.settings.upstreams import UpstreamName
    from sync.upstream.services import Services

Item = TypeVar("Item")
Value = TypeVar("Value")


class ReadingStopped(SyncError):
    """The run was stopped while it was reading."""


def service_too_old(error: UpstreamError) -> ServiceTooOld | None:
    """The error to raise instead of `error` if the service lacks the route; None if `error` has another cause."""
    return ServiceTooOld(error.service, error.method, error.path) if error.no_route else None


class _Batch:
    """The calls to a service that one call of `SharedReads.each` makes, and their results."""

    def __init__(self, read: Callable[[Any], Any], items: list[Any]) -> None:
        self.read = read
        self.items = items
        self.values: list[Any] = [None] * len(items)
        self.too_old: ServiceTooOld | None = None
        self.ended = threading.Event()
        self._left = len(items)
        self._lock = threading.Lock()

    def call(self, place: int) -> Any:
        """What `read` returns for the item at `place`, counted from 0; raises what `read` raises."""
        try:
            return self.read(self.items[place])
        except UpstreamError as error:
            if too_old := service_too_old(error):
                self.too_old = too_old
            raise

    def take(self, place: int, value: object) -> None:
        """Keeps the result for the item at `place`: what `read` returned, or a `FailedRead`."""
        self.values[place] = value
        with self._lock:
            self._left -= 1
            if not self._left:
                self.ended.set()


#: How often a thread that waits for its calls reports progress.
_TICK_SECONDS = 0.5
#: How long a page waits for an open breaker before it counts as failed.
_LONGEST_PAGE_HOLD_SECONDS = 90.0
#: A call to a service: the batch and the place of the item in it.
_Call = tuple[_Batch, int]


class SharedReads:
    """A run's calls to services (`Reads`).

    All units that are read in parallel share one `ParallelReader` for each service.
    """

    def __init__(
        self,
        services: Services,
        outage_seconds: float = OUTAGE_SECONDS,
        sleep: Callable[[float], object] = time.sleep,
        tick: Callable[[str | None], None] = lambda _waits_for: None,
        listed: Callable[[int, int], None] = lambda _done, _total: None,
        begin: Callable[[Unit], None] = lambda _unit: None,
        zone: tzinfo = LONDON,
    ) -> None:
        """Starts no thread yet.

        outage_seconds: for how many seconds in total a service may be down. sleep: waits for the given number of
        seconds before a call is tried again. tick: called periodically in the thread that constructed this object, with
        what the run is waiting for, or None. `sleep` and `tick` may raise to stop the run. listed: called with how much
        of the population is listed, and how large the population is. begin: called with each unit that can be read
        while other units are still being listed. zone: the time zone in which `waits_for` gives times.
        """
        self._services = services
        self._outage_seconds = outage_seconds
        self._sleep = sleep
        self._tick = tick
        self.listed = listed
        self.begin = begin
        self._zone = zone
        #: What the single calls are waiting for, by thread.
        self._single_waits: dict[int, str] = {}
        self._owner = threading.get_ident()
        self._readers: dict[UpstreamName, ParallelReader[_Call, Any]] = {}
        self._batches: set[_Batch] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def each(
        self, service: UpstreamName, read: Callable[[Item], Value], items: Iterable[Item]
    ) -> list[tuple[Item, Value | FailedRead]]:
        """Calls `read` for every item in parallel, as `Reads.each` describes. Raises `ReadingStopped` after `stop`."""
        batch = _Batch(read, list(items))
        if not batch.items:
            return []
        with self._lock:
            if self._stopped.is_set():
                raise ReadingStopped("the reading was stopped")
            reader = self._readers.get(service) or self._new_reader(service)
            self._batches.add(batch)
        reader.add((batch, place) for place in range(len(batch.items)))
        while not batch.ended.wait(_TICK_SECONDS):
            if threading.get_ident() == self._owner:
                self._tick(self.waits_for)
        with self._lock:
            self._batches.discard(batch)
        if batch.too_old is not None:
            raise batch.too_old
        if self._stopped.is_set():
            raise ReadingStopped("the reading was stopped")
        return list(zip(batch.items, batch.values, strict=True))

    def one(self, service: UpstreamName, read: Callable[[], Value]) -> Value:  # noqa: ARG002 - as in `each`
        """Makes a single call, as `Reads.one` describes."""
        return self._single(read, self._pause, self._outage_seconds, times.READ_RETRY_SECONDS)

    def page(self, service: UpstreamName, read: Callable[[], Value]) -> Value:  # noqa: ARG002 - as in `each`
        """Reads a page of a list, as `Reads.page` describes."""
        hold = min(self._outage_seconds, _LONGEST_PAGE_HOLD_SECONDS)
        return self._single(read, self._wait, hold, times.PAGE_RETRY_SECONDS)

    def _single(
        self, read: Callable[[], Value], wait: Callable[[float], bool], hold: float, pauses: Sequence[float]
    ) -> Value:
        """Calls `read` as `retry` does, and meanwhile notes what it is waiting for."""
        thread, waits = threading.get_ident(), self._single_waits

        def call() -> Value:
            try:
                return read()
            except BreakerOpen as error:
                waits[thread] = outage_text(error, hold, self._zone)
                raise
            except UpstreamError as error:
                waits[thread] = wait_text(2 * sum(pauses), str(error))
                raise

        try:
            value = retry(call, wait, hold, pauses)
        finally:
            has_waited = waits.pop(thread, None) is not None
        if has_waited and thread == self._owner:
            self._tick(self.waits_for)
        return value

    @property
    def waits_for(self) -> str | None:
        """What the run is waiting for, as text for the progress report, or None in normal operation."""
        with self._lock:
            readers = list(self._readers.values())
        return next((text for each in readers if (text := each.waits_for)), None) or next(
            iter(tuple(self._single_waits.values())), None
        )

    def stop(self) -> None:
        """Stops reading: calls in progress finish, and the remaining items are not read."""
        with self._lock:
            self._stopped.set()
            readers, batches = list(self._readers.values()), list(self._batches)
        for reader in readers:
            reader.stop()
        for batch in batches:
            batch.ended.set()
        for reader in readers:
            reader.join()

    def _pause(self, seconds: float) -> bool:
        """Waits for `seconds` before a call is tried again; returns whether reading was stopped.

        The thread that constructed this object waits with `sleep`. Other threads stop waiting if reading is stopped.
        """
        if threading.get_ident() == self._owner:
            return self._wait(seconds)
        return self._stopped.wait(seconds)

    def _wait(self, seconds: float) -> bool:
        """Waits for `seconds` with `sleep` before a call is tried again; returns whether reading was stopped."""
        self._tick(self.waits_for)
        self._sleep(seconds)
        return self._stopped.is_set()

    def _new_reader(self, service: UpstreamName) -> ParallelReader[_Call, Any]:
        limit = self._services[service].limit
        reader: ParallelReader[_Call, Any] = ParallelReader(
            str(service),
            lambda call: call[0].call(call[1]),
            lambda call, value: call[0].take(call[1], value),
            limit,
            self._outage_seconds,
            zone=self._zone,
        )
        self._readers[service] = reader
        return reader
