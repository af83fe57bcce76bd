"""The breakers of one process, with a clock and services that the test controls."""

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
    """The breakers of one process. The test moves their clock, makes calls fail, and says which services are down."""

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
        """Simulates a call to `service` at `path` or, without `path`, at the path of a new record.

        If `failing`, the call fails.
        """
        self.breakers.before_call(service)
        path = path or f"/{next(self._numbers)}"
        error = UpstreamError(service, "GET", path, status=status, message="no", from_service=from_service)
        self.breakers.after_call(service, "GET", error if failing else None, 0.01)

    def fail(
        self, times: int = 3, status: int | None = 503, path: str | None = None, from_service: bool = True
    ) -> None:
        """Simulates `times` failing calls to NOMIS, each for a different record unless `path` is given."""
        for _ in range(times):
            self.call(failing=True, status=status, path=path, from_service=from_service)

    def later(self, seconds: float) -> bool:
        """Moves the clock forward, and probes NOMIS and the mapping service. Returns whether both can be called."""
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
    """Opens the breaker for NOMIS by making calls to NOMIS fail."""
    process.fail()
    assert process.state is BreakerState.OPEN
