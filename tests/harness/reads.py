"""Makes a reconciliation's calls one by one, without retries, for tests that compare without the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from reports.engine.parallel_reader import FailedRead, failed_read
from reports.engine.reconciliation import ServiceTooOld
from reports.engine.units import Unit
from sync.errors import SyncError, UpstreamError
from sync.settings.upstreams import UpstreamName

Item = TypeVar("Item")
Value = TypeVar("Value")


class PlainReads:
    """Implements `reports.engine.reconciliation.Reads` with one call at a time to the services of a reconciliation.

    `calls` has the service of each call, in order.
    """

    def __init__(self) -> None:
        self.calls: list[UpstreamName] = []

    def each(
        self, service: UpstreamName, read: Callable[[Item], Value], items: Iterable[Item]
    ) -> list[tuple[Item, Value | FailedRead]]:
        """Calls `read` for every item. Returns each item with the value that `read` returned or a `FailedRead`.

        Raises `ServiceTooOld` if a service lacks the route of a call.
        """
        found: list[tuple[Item, Value | FailedRead]] = []
        for item in items:
            self.calls.append(service)
            try:
                found.append((item, read(item)))
            except UpstreamError as error:
                if error.no_route:
                    raise ServiceTooOld(error.service, error.method, error.path) from error
                found.append((item, failed_read(error)))
            except SyncError as error:
                found.append((item, failed_read(error)))
        return found

    def one(self, service: UpstreamName, read: Callable[[], Value]) -> Value:
        """Makes a single call. Raises the `SyncError` of a failed call, even if the service lacks the route."""
        self.calls.append(service)
        return read()

    def page(self, service: UpstreamName, read: Callable[[], Value]) -> Value:
        """Reads a page of a list with a single call."""
        return self.one(service, read)

    def begin(self, unit: Unit) -> None:
        """Does nothing: no unit is read in advance."""

    def listed(self, done: int, total: int) -> None:
        """Does nothing: no test follows the progress."""
