"""The breakers of one process, on a clock that the test moves."""

from __future__ import annotations

import itertools
from collections import Counter

import structlog

from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.store.database import Database
from sync.store.telemetry import Telemetry
from sync.upstream.breaker import Breakers
from sync.upstream.breaker_rules import BreakerState

NOMIS, MAPPING, OAUTH = UpstreamName.NOMIS, UpstreamName.MAPPING, UpstreamName.OAUTH


class Process:
    """The breakers of one process, with a clock that the test moves and services that respond as the test sets."""

    def __init__(self, database: Database) -> None:
        self.now = 1000.0
        self._numbers = itertools.count()
        self.down: set[UpstreamName] = set()
        self.pings: Counter[UpstreamName] = Counter()
        self.telemetry = Telemetry(database, structlog.get_logger())
        self.breakers = Breakers(database, self.telemetry, self._ping, lambda: self.now)

    def call(
        self,
        failing: bool = False,
        status: int | None = 503,
        service: UpstreamName = NOMIS,
        path: str | None = None,
        from_service: bool = True,
    ) -> None:
        """Makes one call about `path` or, without `path`, about a new record. If `failing`, the call fails."""
        self.breakers.before_call(service)
        path = path or f"/{next(self._numbers)}"
        error = UpstreamError(service, "GET", path, status=status, message="no", from_service=from_service)
        self.breakers.after_call(service, "GET", error if failing else None, 0.01)

    def fail(
        self, times: int = 3, status: int | None = 503, path: str | None = None, from_service: bool = True
    ) -> None:
        """Makes this number of failing calls, each about a different record unless `path` is given."""
        for _ in range(times):
            self.call(failing=True, status=status, path=path, from_service=from_service)

    def later(self, seconds: float) -> bool:
        """Lets time pass, and then probes the services. Returns whether all of them are up."""
        self.now += seconds
        return self.breakers.probe([NOMIS, MAPPING])

    @property
    def state(self) -> BreakerState:
        """The state of NOMIS's breaker."""
        return self.breakers.states()[NOMIS]

    def _ping(self, service: UpstreamName) -> str | None:
        self.pings[service] += 1
        return "connection refused" if service in self.down else None


def open_in(process: Process) -> None:
    """Opens the breaker of NOMIS."""
    process.fail()
    assert process.state is BreakerState.OPEN
