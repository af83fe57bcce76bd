"""A breaker for each upstream: when most calls fail as recoverable, the service is taken to be down.

While it is open no call is made and the drain receives nothing, so that an outage leaves messages waiting on the queue,
not on the dead letter queue. A health ping that succeeds lets one call try; when that succeeds too, the breaker closes.
The state is kept in the database, so a process that starts during an outage asks before it receives.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from sync.clock import now
from sync.failures import BreakerOpen, UpstreamError
from sync.settings import UpstreamName
from sync.store.breakers import read_breakers, set_breaker
from sync.store.database import Database, StoreUnavailable
from sync.telemetry import Telemetry

#: The calls that are looked at, and how many of them at least have to have failed.
WINDOW_CALLS = 20
WINDOW_SECONDS = 60.0
FAILURES_TO_OPEN = 5
#: The pause between pings, doubled each time a call fails although the ping succeeded.
PING_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
#: A trial that has told nothing for so long is given to another call.
LONGEST_TRIAL_SECONDS = 120.0


class BreakerState(StrEnum):
    """Whether calls are made, held back, or tried one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class _Circuit:
    state: BreakerState = BreakerState.CLOSED
    recent: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=WINDOW_CALLS))
    pause: float = PING_SECONDS
    next_ping: float = 0.0
    trial_thread: int | None = None
    trial_since: float = 0.0


class Breakers:
    """The breakers of all upstreams, told of every call. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        telemetry: Telemetry,
        ping: Callable[[UpstreamName], str | None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ping` asks a service's health; None when it is up, else why not. Starts from the state in the database."""
        self._database = database
        self._telemetry = telemetry
        self._ping = ping
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._circuits = {name: _Circuit() for name in UpstreamName}
        self._log = structlog.get_logger("sync.upstream.breaker")
        self._read_shared_state()

    def before_call(self, service: UpstreamName) -> None:
        """Raises `BreakerOpen` while the service is taken to be down; lets one call at a time try when half open."""
        circuit = self._circuits[service]
        if circuit.state is BreakerState.CLOSED:
            return
        with self._lock:
            if circuit.state is BreakerState.OPEN:
                raise BreakerOpen(service)
            if circuit.state is BreakerState.HALF_OPEN:
                tried = circuit.trial_thread not in (None, threading.get_ident())
                if tried and self._monotonic() - circuit.trial_since < LONGEST_TRIAL_SECONDS:
                    raise BreakerOpen(service)
                circuit.trial_thread = threading.get_ident()
                circuit.trial_since = self._monotonic()

    def after_call(self, service: UpstreamName, _method: str, error: UpstreamError | None, _seconds: float) -> None:
        """Counts how the call ended; opens or closes the breaker."""
        failed = error is not None and error.recoverable
        circuit = self._circuits[service]
        with self._lock:
            if circuit.state is BreakerState.HALF_OPEN and circuit.trial_thread == threading.get_ident():
                circuit.trial_thread = None
                changed = self._open(circuit, longer=True) if failed else self._close(circuit)
            else:
                circuit.recent.append((self._monotonic(), failed))
                changed = circuit.state is BreakerState.CLOSED and failed and self._mostly_failing(circuit)
                if changed:
                    self._open(circuit, longer=False)
            state = circuit.state
        if changed:
            self._tell(service, state, str(error) if error else None)

    def open_services(self, services: Iterable[UpstreamName]) -> list[UpstreamName]:
        """Those of `services` that are taken to be down at present (half open is not)."""
        return [name for name in services if self._circuits[name].state is BreakerState.OPEN]

    def trying(self, services: Iterable[UpstreamName]) -> bool:
        """Whether one of `services` is being tried, so that work is best begun one message at a time."""
        return any(self._circuits[name].state is BreakerState.HALF_OPEN for name in services)

    def probe(self, services: Iterable[UpstreamName]) -> bool:
        """Pings those of `services` that are down and due; True when none of them is down any more."""
        for name in self.open_services(services):
            circuit = self._circuits[name]
            with self._lock:
                due = circuit.state is BreakerState.OPEN and self._monotonic() >= circuit.next_ping
                if due:
                    circuit.next_ping = self._monotonic() + circuit.pause
            if due and self._ping(name) is None and self._ping(UpstreamName.OAUTH) is None:
                with self._lock:
                    if circuit.state is BreakerState.OPEN:
                        circuit.state = BreakerState.HALF_OPEN
                        circuit.trial_thread = None
        return not self.open_services(services)

    def states(self) -> dict[UpstreamName, BreakerState]:
        """The state of every breaker."""
        return {name: circuit.state for name, circuit in self._circuits.items()}

    def _mostly_failing(self, circuit: _Circuit) -> bool:
        since = self._monotonic() - WINDOW_SECONDS
        outcomes = [failed for moment, failed in circuit.recent if moment >= since]
        failures = sum(outcomes)
        return failures >= FAILURES_TO_OPEN and 2 * failures > len(outcomes)

    def _open(self, circuit: _Circuit, *, longer: bool) -> bool:
        changed = circuit.state is BreakerState.CLOSED
        circuit.state = BreakerState.OPEN
        circuit.pause = min(circuit.pause * 2, LONGEST_PAUSE_SECONDS) if longer else PING_SECONDS
        circuit.next_ping = self._monotonic() + (circuit.pause if longer else 0)
        circuit.recent.clear()
        return changed

    def _close(self, circuit: _Circuit) -> bool:
        circuit.state = BreakerState.CLOSED
        circuit.pause = PING_SECONDS
        circuit.recent.clear()
        return True

    def _tell(self, service: UpstreamName, state: BreakerState, reason: str | None) -> None:
        opened = state is BreakerState.OPEN
        log = self._log.error if opened else self._log.info
        log("upstream-down" if opened else "upstream-up", service=service, reason=reason)
        self._telemetry.track(f"upstream-breaker-{'opened' if opened else 'closed'}", {"service": service})
        try:
            with self._database.begin() as connection:
                set_breaker(connection, service, state, opened_at=now() if opened else None, reason=reason)
        except StoreUnavailable as error:
            self._log.warning("breaker-state-not-kept", service=service, reason=str(error))

    def _read_shared_state(self) -> None:
        try:
            with self._database.read() as connection:
                rows = read_breakers(connection)
        except StoreUnavailable as error:
            self._log.warning("breaker-state-not-read", reason=str(error))
            return
        for name, circuit in self._circuits.items():
            if name in rows and rows[name].state == BreakerState.OPEN:
                circuit.state = BreakerState.OPEN
