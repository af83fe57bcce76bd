"""The calls of a reconciliation one after another, without retries: for tests of a comparison without the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from reports.engine.contract import ServiceTooOld
from reports.engine.parallel_reader import FailedRead, failed_read
from reports.engine.units import Unit
from sync.failures import SyncError, UpstreamError
from sync.settings.upstreams import UpstreamName

Item = TypeVar("Item")
Value = TypeVar("Value")


class PlainReads:
    """`reports.engine.contract.Reads`, one call at a time over the services that a reconciliation was given.

    `calls` names the service of each call that was asked for, in order.
    """

    def __init__(self) -> None:
        self.calls: list[UpstreamName] = []

    def each(
        self, service: UpstreamName, read: Callable[[Item], Value], items: Iterable[Item]
    ) -> list[tuple[Item, Value | FailedRead]]:
        """Calls `read` for every item; raises `ServiceTooOld` when the service lacks the route."""
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
        """A single call; raises its `SyncError`, also for a missing route."""
        self.calls.append(service)
        return read()

    def page(self, service: UpstreamName, read: Callable[[], Value]) -> Value:
        """A page of a list, as a single call."""
        return self.one(service, read)

    def begin(self, unit: Unit) -> None:
        """Nothing is read before it is asked for."""

    def listed(self, done: int, total: int) -> None:
        """Nobody follows the progress."""
