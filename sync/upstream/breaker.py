"""A breaker for each upstream: when most calls fail as recoverable, the service is taken to be down.

While it is open no call is made and the drain receives nothing, so that an outage leaves messages waiting on the queue,
not on the dead letter queue. A health ping that succeeds lets one call at a time try; when one succeeds, the breaker
closes, and the calls come back a few at first. The state is kept in the database: processes tell each other, and one
that starts during an outage asks before it receives.

A record that a service cannot handle is no outage, however often it is tried: failures count once for each record, and
a record that failed already says nothing new when it fails again.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import structlog

from sync.clock import now
from sync.failures import BreakerOpen, UpstreamError
from sync.settings.declaration import UpstreamName
from sync.store.breakers import read_breakers, set_breaker
from sync.store.database import Database, StoreUnavailable
from sync.store.telemetry import Telemetry

#: The calls that are looked at, and how many records at least have to have failed.
WINDOW_CALLS = 20
WINDOW_SECONDS = 60.0
FAILURES_TO_OPEN = 3
#: Failures one after the other over so many seconds are an outage too, however well it went before: on a quiet day the
#: good calls of the last minute would outweigh those of the few messages there are.
QUIET_SECONDS = 5.0
#: The pause before the first ping, and that between pings, doubled each time a call fails although the ping succeeded.
FIRST_PING_SECONDS = 0.5
PING_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 20.0
#: The longest that a service is left alone because it asks for that.
LONGEST_RETRY_AFTER_SECONDS = 60.0
#: So many records may fail, one after the other, before a service that answers pings is left alone again: those that
#: opened the breaker may be the only ones it cannot handle. Failures that no record is to blame for count each time.
TRIALS = 5
#: For how long a record that failed is known.
REMEMBERED_SECONDS = 600.0
#: A trial that has told nothing for so long is given to another call.
LONGEST_TRIAL_SECONDS = 120.0
#: A service that answers pings and that nobody calls for so long counts as up.
UNTRIED_SECONDS = 60.0
#: After closing: calls in flight at first, one more for each that succeeds, until so many or so late that all may call.
FIRST_IN_FLIGHT = 2
ENOUGH_IN_FLIGHT = 32
RAMP_SECONDS = 15.0
#: How often the state that processes share is read.
SHARED_SECONDS = 5.0


class BreakerState(StrEnum):
    """Whether calls are made, held back, or tried one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class _Circuit:
    state: BreakerState = BreakerState.CLOSED
    recent: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=WINDOW_CALLS))
    #: How many calls failed since the last that succeeded, and when the first of them did.
    failed_in_a_row: int = 0
    failing_since: float = 0.0
    pause: float = PING_SECONDS
    next_ping: float = 0.0
    half_open_since: float = 0.0
    #: How many trials have failed since the last ping, of those that count.
    failed_trials: int = 0
    trial_thread: int | None = None
    trial_since: float = 0.0
    #: Calls that may be in flight while the breaker has only just closed, None when any number may.
    allowed: int | None = None
    in_flight: int = 0
    ramp_ends: float = 0.0
    shared: tuple[str, datetime] | None = None
    #: The records that failed, the call that did, and when it last did.
    failed: dict[str, tuple[str, float]] = field(default_factory=dict)

    def open(self, moment: float, retry_after: float | None) -> None:
        """Takes the service to be down; the pause before the next ping grows when it was only being tried."""
        tried = self.state is BreakerState.HALF_OPEN
        self.pause = min(self.pause * 2, LONGEST_PAUSE_SECONDS) if tried else PING_SECONDS
        asked = min(retry_after or 0, LONGEST_RETRY_AFTER_SECONDS)
        self.next_ping = moment + max(self.pause if tried else FIRST_PING_SECONDS, asked)
        self.state = BreakerState.OPEN
        self.allowed = None
        self._forget()

    def half_open(self, moment: float) -> None:
        """Lets one call at a time try."""
        self.state = BreakerState.HALF_OPEN
        self.half_open_since = moment
        self.failed_trials = 0
        self.trial_thread = None

    def trial_failed(self, moment: float, record: str, method: str, error: UpstreamError) -> None:
        """Takes note that the service failed a record that tried it."""
        self.half_open_since = moment
        if self.is_news(moment, record, method) or error.unavailable:
            self.failed_trials += 1
            if self.failed_trials >= TRIALS:
                self.open(moment, error.retry_after)

    def call_failed(self, moment: float, record: str, method: str, retry_after: float | None) -> None:
        """Takes note of a failed call; of one that was under way when the service was taken to be down, its record."""
        if self.is_news(moment, record, method) and self.state is BreakerState.CLOSED:
            self.note(moment, failed=True)
            if self.is_failing(moment):
                self.open(moment, retry_after)

    def is_news(self, moment: float, record: str, method: str) -> bool:
        """Whether this record that failed now has not failed lately."""
        _, last = self.failed.pop(record, ("", -REMEMBERED_SECONDS))
        self.failed[record] = (method, moment)
        # The oldest come first.
        while (oldest := next(iter(self.failed.items())))[1][1] <= moment - REMEMBERED_SECONDS:
            del self.failed[oldest[0]]
        return last <= moment - REMEMBERED_SECONDS

    def failed_otherwise(self, record: str | None, method: str) -> bool:
        """Whether this record failed lately, with another call than this one."""
        return record in self.failed and self.failed[record][0] != method

    def recovered(self, record: str, method: str) -> None:
        """A record that failed and now succeeds with the same call shows that the service was to blame."""
        if record in self.failed and self.failed[record][0] == method:
            self.failed.clear()

    def close(self, moment: float) -> None:
        """Lets calls be made again, a few at first."""
        self.state = BreakerState.CLOSED
        self.pause = PING_SECONDS
        self.allowed, self.in_flight, self.ramp_ends = FIRST_IN_FLIGHT, 0, moment + RAMP_SECONDS
        self._forget()

    def _forget(self) -> None:
        self.recent.clear()
        self.failed_in_a_row = 0

    def note(self, moment: float, failed: bool) -> None:
        """Counts the end of a call."""
        self.recent.append((moment, failed))
        if not failed:
            self.failed_in_a_row = 0
            return
        if not self.failed_in_a_row:
            self.failing_since = moment
        self.failed_in_a_row += 1

    def is_failing(self, moment: float) -> bool:
        """Whether most of the recent calls failed, or all for a while, and enough of them."""
        outcomes = [failed for time_, failed in self.recent if time_ >= moment - WINDOW_SECONDS]
        failures = sum(outcomes)
        if failures >= FAILURES_TO_OPEN and 2 * failures > len(outcomes):
            return True
        return self.failed_in_a_row >= FAILURES_TO_OPEN and moment - self.failing_since >= QUIET_SECONDS


class Breakers:
    """The breakers of all upstreams, told of every call. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        telemetry: Telemetry,
        ping: Callable[[UpstreamName], str | None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts from the state in the database. `ping` asks a service: None when it is up, else why it is not."""
        self._database = database
        self._telemetry = telemetry
        self._ping = ping
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._circuits = {name: _Circuit() for name in UpstreamName}
        self._log = structlog.get_logger("sync.upstream.breaker")
        self._working_on = threading.local()
        self._next_reading = 0.0
        self._read_shared_state()

    @contextmanager
    def working_on(self, record: str) -> Iterator[None]:
        """Says that the calls of this thread are about `record`; else a call is about what its path names."""
        self._working_on.record = record
        try:
            yield
        finally:
            self._working_on.record = None

    def before_call(self, service: UpstreamName) -> None:
        """Raises `BreakerOpen` while the service is taken to be down; lets one call at a time try when half open.

        Just after closing, calls above a small but growing number wait here for their turn. A call that comes when a
        ping is due makes the ping, so that a process which drains nothing finds out too.
        """
        circuit = self._circuits[service]
        if circuit.state is BreakerState.CLOSED and circuit.allowed is None:
            return
        if circuit.state is BreakerState.OPEN:
            self._ping_when_due(service, circuit)
        with self._changed:
            if circuit.state is BreakerState.CLOSED:
                self._wait_for_turn(circuit)
            if circuit.state is BreakerState.OPEN:
                raise BreakerOpen(service)
            if circuit.state is BreakerState.HALF_OPEN:
                self._try(service, circuit)

    def after_call(self, service: UpstreamName, method: str, error: UpstreamError | None, _seconds: float) -> None:
        """Counts how the call ended; opens or closes the breaker."""
        # Refused credentials count: nothing gets through until they are put right, and messages are better held.
        failed = error is not None and error.recoverable
        circuit = self._circuits[service]
        record = getattr(self._working_on, "record", None)
        with self._changed:
            moment, before = self._monotonic(), circuit.state
            # Looking for a record whose create failed may succeed while creates go on failing: that shows nothing.
            telling = failed or not circuit.failed_otherwise(record, method)
            if before is BreakerState.HALF_OPEN and circuit.trial_thread == threading.get_ident():
                circuit.trial_thread = None
                if error is not None and failed:
                    circuit.trial_failed(moment, self._record(error), method, error)
                elif telling:
                    circuit.close(moment)
            else:
                self._end_turn(circuit, failed)
                if error is not None and failed:
                    circuit.call_failed(moment, self._record(error), method, error.retry_after)
                elif telling and before is BreakerState.CLOSED:
                    circuit.note(moment, failed=False)
            if not failed and circuit.failed and record is not None:
                circuit.recovered(record, method)
            after = circuit.state
            if after is not before:
                self._changed.notify_all()
        # A trial that failed leaves the service down, as it was.
        if after is not before and not (before is BreakerState.HALF_OPEN and after is BreakerState.OPEN):
            self._tell(service, after, str(error) if error else None)

    def not_called(self, service: UpstreamName) -> None:
        """Leaves the trial, or the turn, of a call that was not made to another."""
        circuit = self._circuits[service]
        with self._changed:
            if circuit.state is BreakerState.HALF_OPEN and circuit.trial_thread == threading.get_ident():
                circuit.trial_thread = None
            elif circuit.state is BreakerState.CLOSED:
                self._end_turn(circuit, failed=True)
            self._changed.notify_all()

    def open_services(self, services: Iterable[UpstreamName]) -> list[UpstreamName]:
        """Those of `services` that are taken to be down at present (half open is not)."""
        return [name for name in services if self._circuits[name].state is BreakerState.OPEN]

    def not_up(self, services: Iterable[UpstreamName]) -> list[UpstreamName]:
        """Those of `services` that are taken to be down, or are only being tried."""
        return [name for name in services if self._circuits[name].state is not BreakerState.CLOSED]

    def all_up(self, services: Iterable[UpstreamName]) -> bool:
        """Whether all `services` are taken to be up."""
        return not self.not_up(services)

    def trying(self, services: Iterable[UpstreamName]) -> bool:
        """Whether one of `services` is being tried, so that work is best begun one message at a time."""
        return any(self._circuits[name].state is BreakerState.HALF_OPEN for name in services)

    def probe(self, services: Iterable[UpstreamName]) -> bool:
        """Pings those of `services` that are down and due; True when none of them is down any more.

        Learns from time to time what other processes found.
        """
        services = tuple(services)
        if self._monotonic() >= self._next_reading:
            self._read_shared_state()
        for name in services:
            circuit = self._circuits[name]
            if circuit.state is BreakerState.OPEN:
                self._ping_when_due(name, circuit)
            elif circuit.state is BreakerState.HALF_OPEN:
                self._close_when_untried(name, circuit)
        return not self.open_services(services)

    def states(self) -> dict[UpstreamName, BreakerState]:
        """The state of every breaker."""
        return {name: circuit.state for name, circuit in self._circuits.items()}

    def _record(self, error: UpstreamError) -> str:
        """What a failed call was about."""
        return getattr(self._working_on, "record", None) or f"{error.method} {error.path}?{error.query}"

    def _wait_for_turn(self, circuit: _Circuit) -> None:
        while circuit.allowed is not None and circuit.in_flight >= circuit.allowed:
            remaining = circuit.ramp_ends - self._monotonic()
            if remaining <= 0:
                circuit.allowed = None
                self._changed.notify_all()
                return
            self._changed.wait(min(remaining, 1.0))
        circuit.in_flight += 1

    def _end_turn(self, circuit: _Circuit, failed: bool) -> None:
        if circuit.allowed is None:
            return
        circuit.in_flight = max(0, circuit.in_flight - 1)
        if not failed:
            circuit.allowed = None if circuit.allowed >= ENOUGH_IN_FLIGHT else circuit.allowed + 1
        self._changed.notify_all()

    def _try(self, service: UpstreamName, circuit: _Circuit) -> None:
        tried_by_other = circuit.trial_thread not in (None, threading.get_ident())
        if tried_by_other and self._monotonic() - circuit.trial_since < LONGEST_TRIAL_SECONDS:
            raise BreakerOpen(service)
        circuit.trial_thread = threading.get_ident()
        circuit.trial_since = self._monotonic()

    def _ping_when_due(self, name: UpstreamName, circuit: _Circuit) -> None:
        with self._changed:
            if circuit.state is not BreakerState.OPEN or self._monotonic() < circuit.next_ping:
                return
            # Whoever looks meanwhile sees that the ping is not due.
            circuit.next_ping = self._monotonic() + circuit.pause
        # A service whose tokens cannot be had is as good as down.
        if self._ping(name) is None and self._ping(UpstreamName.OAUTH) is None:
            with self._changed:
                if circuit.state is BreakerState.OPEN:
                    circuit.half_open(self._monotonic())

    def _close_when_untried(self, name: UpstreamName, circuit: _Circuit) -> None:
        with self._changed:
            moment = self._monotonic()
            untried = circuit.state is BreakerState.HALF_OPEN and circuit.trial_thread is None
            if not untried or moment - circuit.half_open_since < UNTRIED_SECONDS:
                return
            circuit.close(moment)
        self._tell(name, BreakerState.CLOSED, None)

    def _tell(self, service: UpstreamName, state: BreakerState, reason: str | None) -> None:
        opened = state is BreakerState.OPEN
        log = self._log.error if opened else self._log.info
        log("upstream-down" if opened else "upstream-up", service=service, reason=reason)
        try:
            with self._database.begin() as connection:
                news = set_breaker(connection, service, state, opened_at=now() if opened else None, reason=reason)
        except StoreUnavailable as error:
            self._log.debug("breaker-state-not-kept", service=service, reason=str(error))
            news = True
        if news:
            # Of several processes that meet one outage, the first tells of it.
            self._telemetry.track(f"upstream-breaker-{'opened' if opened else 'closed'}", {"service": service})

    def _read_shared_state(self) -> None:
        self._next_reading = self._monotonic() + SHARED_SECONDS
        try:
            with self._database.read() as connection:
                rows = read_breakers(connection)
        except StoreUnavailable as error:
            self._log.debug("breaker-state-not-read", reason=str(error))
            return
        with self._changed:
            for name, circuit in self._circuits.items():
                row = rows.get(name)
                if row is not None and circuit.shared != (row.state, row.changed_at):
                    circuit.shared = (row.state, row.changed_at)
                    self._adopt(circuit, row.state)
            self._changed.notify_all()

    def _adopt(self, circuit: _Circuit, state: str) -> None:
        """Takes over what another process found; what this one wrote itself is no news."""
        moment = self._monotonic()
        if state == BreakerState.OPEN and circuit.state is BreakerState.CLOSED:
            circuit.open(moment, None)
            circuit.next_ping = moment
        elif state == BreakerState.CLOSED and circuit.state is not BreakerState.CLOSED:
            circuit.close(moment)
