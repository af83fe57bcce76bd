"""A breaker for each upstream service: when most of the recent calls have failed, the service counts as down.

Only recoverable errors count as failures. While a breaker is open, its service is not called, and a drain that needs
the service receives nothing. Messages therefore wait on the queue during an outage instead of moving to the dead letter
queue. After a successful health ping, one call at a time tries the service, and the breaker closes when such a call
succeeds. The state of each breaker is kept in the database, so that each process learns of outages and failed trials
from the others. A process that starts during an outage pings the service before it receives messages.
`breaker_rules.py` contains the rules for opening and closing a breaker.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from sqlalchemy import Connection, select, update

from sync.clock import now
from sync.errors import BreakerOpen, UpstreamError
from sync.settings import times
from sync.settings.upstreams import UpstreamName
from sync.store.database import Database, StoreUnavailable
from sync.store.tables import breakers, insert_into
from sync.store.telemetry import Telemetry
from sync.upstream.breaker_rules import BreakerState, Circuit


class Breakers:
    """The breakers of all upstream services. They observe every call. Threads can share an instance."""

    def __init__(
        self,
        database: Database,
        telemetry: Telemetry,
        ping: Callable[[UpstreamName], str | None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts from the state in the database. `ping` returns None if a service is up, or else the problem."""
        self._database = database
        self._telemetry = telemetry
        self._ping = ping
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._circuits = {name: Circuit() for name in UpstreamName}
        self._log = structlog.get_logger("sync.upstream.breaker")
        self._working_on = threading.local()
        self._next_reading = 0.0
        #: Writes that failed while the database was unavailable, and the lock that a thread holds to write states.
        self._unwritten: dict[UpstreamName, Callable[[Connection], bool]] = {}
        self._writing = threading.Lock()
        self._read_shared_state()

    @contextmanager
    def working_on(self, record: str) -> Iterator[None]:
        """Attributes to `record` the calls that this thread makes in the `with` block.

        Outside the block, a failed call is attributed to its method, path and query.
        """
        self._working_on.record = record
        try:
            yield
        finally:
            self._working_on.record = None

    def before_call(self, service: UpstreamName) -> bool:
        """Raises `BreakerOpen` while the service counts as down, or while a call by another thread tries the service.

        If a ping of the service is due, it is made first, so that a process that drains nothing also notices the end of
        an outage. Returns whether this is the first call since the breaker closed.
        """
        circuit = self._circuits[service]
        if circuit.state is BreakerState.CLOSED and not circuit.just_closed:
            return False
        if circuit.state is BreakerState.OPEN:
            self._ping_when_due(service, circuit)
        with self._lock:
            if circuit.state is BreakerState.OPEN:
                raise BreakerOpen(service, circuit.opened_at)
            if circuit.state is BreakerState.HALF_OPEN:
                self._try(service, circuit)
                return False
            first, circuit.just_closed = circuit.just_closed, False
            return first

    def after_call(self, service: UpstreamName, method: str, error: UpstreamError | None, _seconds: float) -> None:
        """Records how a call ended, and opens or closes the breaker if the rules say so."""
        # Refused credentials count as well: every call fails until a person corrects them, so messages should wait.
        failed = error is not None and error.recoverable
        circuit = self._circuits[service]
        record = getattr(self._working_on, "record", None)
        with self._lock:
            moment, before, trial_failed = self._monotonic(), circuit.state, False
            # A look-up may succeed while creates keep failing, so for a record whose create failed it proves nothing.
            conclusive = failed or not circuit.failed_otherwise(record, method)
            if before is BreakerState.HALF_OPEN and circuit.trial_thread == threading.get_ident():
                circuit.trial_thread = None
                if error is not None and failed:
                    trial_failed = True
                    circuit.trial_failed(moment, self._record(error), method, error)
                elif conclusive:
                    circuit.close()
            elif error is not None and failed:
                circuit.call_failed(moment, self._record(error), method, error.retry_after)
            elif conclusive and before is BreakerState.CLOSED:
                circuit.call_succeeded(moment)
            if not failed and circuit.failed and record is not None:
                circuit.recovered(record, method)
            after = circuit.state
        # The service was down before a failed trial, and still is: there is no change to announce.
        if trial_failed:
            self._share_failed_trial(service)
        elif after is not before:
            self._announce(service, after, str(error) if error else None)

    def not_called(self, service: UpstreamName) -> None:
        """Notes that this thread did not make its call. If the call was to try the service, the next call does so."""
        circuit = self._circuits[service]
        with self._lock:
            if circuit.trial_thread == threading.get_ident():
                circuit.trial_thread = None

    def open_services(self, services: Iterable[UpstreamName]) -> list[UpstreamName]:
        """The services among `services` that count as down now.

        A service that is being tried does not count as down.
        """
        return [name for name in services if self._circuits[name].state is BreakerState.OPEN]

    def not_up(self, services: Iterable[UpstreamName]) -> list[UpstreamName]:
        """The services among `services` that count as down or are being tried."""
        return [name for name in services if self._circuits[name].state is not BreakerState.CLOSED]

    def all_up(self, services: Iterable[UpstreamName]) -> bool:
        """Whether all `services` count as up."""
        return not self.not_up(services)

    def trying(self, services: Iterable[UpstreamName]) -> bool:
        """Whether one of `services` is being tried. In that case, messages should be started one at a time."""
        return any(self._circuits[name].state is BreakerState.HALF_OPEN for name in services)

    def tried_elsewhere(self, services: Iterable[UpstreamName]) -> bool:
        """Whether another thread is trying one of `services`, so that a call to it would raise `BreakerOpen`."""
        return any(self._is_tried_elsewhere(self._circuits[name]) for name in services)

    def probe(self, services: Iterable[UpstreamName]) -> bool:
        """Pings those of `services` that are down and due for a ping. Returns whether none of `services` is down now.

        Also closes the breaker of a service that responds to pings but has not been called for `UNTRIED_SECONDS`. From
        time to time, reads what other processes have found out.
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
        """The record that a failed call is attributed to."""
        return getattr(self._working_on, "record", None) or f"{error.method} {error.path}?{error.query}"

    def _try(self, service: UpstreamName, circuit: Circuit) -> None:
        if self._is_tried_elsewhere(circuit):
            raise BreakerOpen(service, circuit.opened_at)
        circuit.trial_thread = threading.get_ident()
        circuit.trial_since = self._monotonic()

    def _is_tried_elsewhere(self, circuit: Circuit) -> bool:
        if circuit.state is not BreakerState.HALF_OPEN or circuit.trial_thread in (None, threading.get_ident()):
            return False
        return self._monotonic() - circuit.trial_since < times.MAX_TRIAL_SECONDS

    def _ping_when_due(self, name: UpstreamName, circuit: Circuit) -> None:
        with self._lock:
            if circuit.state is not BreakerState.OPEN or self._monotonic() < circuit.next_ping:
                return
            # Meanwhile, other threads see that no ping is due.
            circuit.next_ping = self._monotonic() + circuit.pause
        # Without tokens, the service cannot be called.
        if self._ping(name) is None and self._ping(UpstreamName.OAUTH) is None:
            with self._lock:
                if circuit.state is BreakerState.OPEN:
                    circuit.half_open(self._monotonic())

    def _close_when_untried(self, name: UpstreamName, circuit: Circuit) -> None:
        with self._lock:
            untried = circuit.state is BreakerState.HALF_OPEN and circuit.trial_thread is None
            if not untried or self._monotonic() - circuit.half_open_since < times.UNTRIED_SECONDS:
                return
            circuit.close()
        self._announce(name, BreakerState.CLOSED, None)

    def _announce(self, service: UpstreamName, state: BreakerState, reason: str | None) -> None:
        opened = state is BreakerState.OPEN
        opened_at = self._circuits[service].opened_at = now() if opened else None
        log = self._log.error if opened else self._log.info
        log("upstream-down" if opened else "upstream-up", service=service, reason=reason)
        write = partial(set_breaker, service=service, state=state, opened_at=opened_at, reason=reason)
        with self._writing:
            try:
                with self._database.begin() as connection:
                    changed = write(connection)
                self._unwritten.pop(service, None)
            except StoreUnavailable as error:
                self._log.debug("breaker-state-not-kept", service=service, reason=str(error))
                self._unwritten[service] = write
                changed = True
        if changed:
            # If several processes notice the same outage, only the first sends the event.
            self._telemetry.track(f"upstream-breaker-{'opened' if opened else 'closed'}", {"service": service})

    def _write_late(self) -> None:
        """Writes the states that were set while the database was unavailable. Raises `StoreUnavailable`."""
        if self._unwritten:
            with self._database.begin() as connection:
                for write in self._unwritten.values():
                    write(connection)
            self._unwritten.clear()

    def _share_failed_trial(self, service: UpstreamName) -> None:
        """Lets other processes know of the failed trial; otherwise they would close the breaker."""
        try:
            with self._database.begin() as connection:
                note_failed_trial(connection, service)
        except StoreUnavailable as error:
            self._log.debug("breaker-state-not-kept", service=service, reason=str(error))

    def _read_shared_state(self) -> None:
        self._next_reading = self._monotonic() + times.BREAKER_POLL_SECONDS
        try:
            with self._writing:
                self._write_late()
            with self._database.read() as connection:
                rows = read_breakers(connection)
        except StoreUnavailable as error:
            self._log.debug("breaker-state-not-read", reason=str(error))
            return
        with self._lock:
            for name, circuit in self._circuits.items():
                row = rows.get(name)
                if row is not None and circuit.shared != (row.state, row.changed_at):
                    if circuit.shared is not None and circuit.shared[0] == row.state:
                        # A trial in some process has failed since the last reading.
                        circuit.half_open_since = self._monotonic()
                    circuit.shared = (row.state, row.changed_at)
                    self._adopt(circuit, row)

    def _adopt(self, circuit: Circuit, row: "BreakerRow") -> None:
        """Adopts the state that another process found. A state that this process wrote itself changes nothing."""
        if row.state == BreakerState.OPEN and circuit.state is BreakerState.CLOSED:
            moment = self._monotonic()
            circuit.open(moment, None)
            circuit.next_ping, circuit.opened_at = moment, row.opened_at
        elif row.state == BreakerState.CLOSED and circuit.state is not BreakerState.CLOSED:
            circuit.close()


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """The stored state of one service's breaker: `open` (down) or `closed`, and when it was last set or confirmed."""

    service: str
    state: str
    opened_at: datetime | None
    changed_at: datetime
    reason: str | None


def read_breakers(connection: Connection) -> dict[str, BreakerRow]:
    """The stored states of all breakers that have ever been opened, by service."""
    return {row.service: BreakerRow(*row) for row in connection.execute(select(breakers))}


def set_breaker(
    connection: Connection, service: str, state: str, *, opened_at: datetime | None = None, reason: str | None = None
) -> bool:
    """Sets a breaker to `state`. Returns False, and changes nothing, if it is in that state already."""
    values = {"state": state, "opened_at": opened_at, "changed_at": now(), "reason": reason}
    statement = insert_into(connection.dialect.name, breakers).values(values | {"service": service})
    statement = statement.on_conflict_do_update(
        index_elements=[breakers.c.service], set_=values, where=breakers.c.state != state
    )
    return connection.execute(statement).rowcount == 1


def note_failed_trial(connection: Connection, service: str) -> None:
    """Updates `changed_at` of an open breaker, so that other processes see that a call tried the service and failed."""
    still_open = (breakers.c.service == service) & (breakers.c.state == "open")
    connection.execute(update(breakers).where(still_open).values(changed_at=now()))
