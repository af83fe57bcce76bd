"""Leases: one holder at a time for an entity, between all threads and processes that share the database.

A lease outlives its holder by its length at most. It is taken over at once where its holder is known to be dead: a
process of the same machine that is no longer there; save where what it was at may still be under way in NOMIS.

A holder that could not renew a lease in time has lost it, though it may not have noticed: it was stopped, or cut off
from the database. `ensure_held` tells it so before it writes.

Threads that ask at the same time are served together: one of them makes a single transaction for all, since a
transaction costs more than what any of them wants.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import ColumnElement, Connection, Interval, bindparam, delete, func, select, update

from sync.clock import now
from sync.failures import LeaseBusy
from sync.store.database import Database, StoreUnavailable
from sync.store.processes import process_is_gone, this_process
from sync.store.tables import insert_into, leases
from sync.store.types import SharedDateTime, UtcDateTime
from sync.store.upserts import made_ready

_RENEWALS_IN_A_LEASE = 3
_LONGEST_NAME = 80

_MINE = (leases.c.key == bindparam("the_key")) & (leases.c.owner == bindparam("the_owner"))
_RELEASE = delete(leases).where(_MINE)
_HOLDER = select(leases.c.owner).where(leases.c.key == bindparam("the_key"))


@dataclass(slots=True)
class _Held:
    """A lease that is held: under which name, by which thread, and until when at least, on the clock `monotonic`."""

    owner: str
    thread: int
    until: float
    length: timedelta


class _Asking:
    """A thread that asks for a lease: its turn comes when it is served, or when it is to serve the others."""

    def __init__(self, key: str, owner: str, inherits: bool, length: timedelta, asked_at: float) -> None:
        self.key = key
        self.owner = owner
        self.inherits = inherits
        self.length = length
        self.asked_at = asked_at
        self.thread = threading.get_ident()
        self.taken = False
        self.served = False
        self.error: BaseException | None = None
        self.turn = threading.Event()


class Leases:
    """The leases one process holds. Safe to share between threads, which exclude each other as processes do.

    `owner` is who holds them, for people; `seconds` is how long a lease outlives its holder's last renewal.
    """

    def __init__(
        self, database: Database, owner: str, seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._monotonic = monotonic
        self._length = timedelta(seconds=seconds)
        self._owner = f"{owner[:_LONGEST_NAME]}|{this_process()}"
        moment: ColumnElement[datetime] = bindparam("moment", type_=SharedDateTime)
        expiry: ColumnElement[datetime] = bindparam("expiry", type_=SharedDateTime)
        if database.dialect == "postgresql":
            # Many machines share it, so its own clock counts.
            moment = func.clock_timestamp(type_=UtcDateTime)
            expiry = moment + bindparam("length", type_=Interval)
        taking = insert_into(database.dialect, leases).values(
            key=bindparam("the_key"), owner=bindparam("the_owner"), expires_at=expiry
        )
        taking = taking.on_conflict_do_update(
            index_elements=[leases.c.key],
            set_={"owner": taking.excluded.owner, "expires_at": taking.excluded.expires_at},
            where=leases.c.expires_at < moment,
        )
        self._taking = made_ready(taking, database.dialect)
        self._renewal = update(leases).where(_MINE).values(expires_at=expiry)
        self._inheritance = (
            update(leases)
            .where(leases.c.key == bindparam("the_key"), leases.c.owner == bindparam("the_holder"))
            .values(owner=bindparam("the_owner"), expires_at=expiry)
        )
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._unreleased: dict[str, str] = {}
        self._asking: dict[str, _Asking] = {}
        self._serving = False
        self._stopping = threading.Event()
        self._renewing: threading.Thread | None = None

    def acquire(self, key: str, *, inherits: bool = True, least_seconds: float = 0.0) -> bool:
        """Takes the lease of `key`; False when another thread or process holds it. Raises `StoreUnavailable`.

        Without `inherits` that of a dead process is waited for too, until it runs out. It outlives its last renewal by
        `least_seconds` at least.
        """
        length = max(self._length, timedelta(seconds=least_seconds))
        # A name of its own for each taking, so that a holder that lost its lease cannot release that of the next one.
        asking = _Asking(key, f"{self._owner}|{next(self._numbers)}", inherits, length, self._monotonic())
        with self._lock:
            if key in self._held or key in self._asking:
                return False
            self._asking[key] = asking
            mine, self._serving = not self._serving, True
        if not mine:
            asking.turn.wait()
        if not asking.served:
            self._serve()
        if asking.error is not None:
            raise asking.error
        return asking.taken

    def release(self, key: str) -> None:
        """Gives the lease of `key` back; with the database away, as soon as it is there again."""
        with self._lock:
            held = self._held.pop(key, None)
            if held is None:
                return
            self._unreleased[key] = held.owner
            # Whoever is at it gives this one back too, with the next that asks.
            mine, self._serving = not self._serving, True
        if mine:
            self._serve()

    def linger(self, key: str, seconds: float) -> None:
        """Leaves the lease of `key` to run out in so many seconds: nobody has it until then, not even we.

        For work whose request may still be under way. With the database away it runs out when it would have anyway.
        """
        with self._lock:
            held = self._held.pop(key, None)
        if held is None:
            return
        times = self._times(timedelta(seconds=seconds))
        try:
            with self._database.begin() as connection:
                connection.execute(self._renewal, {"the_key": key, "the_owner": held.owner} | times)
        except StoreUnavailable as error:
            structlog.get_logger().debug("lease-left-as-it-was", key=key, reason=str(error))

    def ensure_held(self) -> None:
        """Raises `LeaseBusy` when a lease that the present thread took has run out, so that another may have it."""
        thread, moment = threading.get_ident(), self._monotonic()
        with self._lock:
            for key, held in self._held.items():
                if held.thread == thread and held.until <= moment:
                    raise LeaseBusy(key)

    def _serve(self) -> None:
        """Serves all who ask at present, and gives back what was released; then the next who asks serves, if any."""
        while True:
            with self._lock:
                askings = sorted(self._asking.values(), key=lambda asking: asking.key)
                released = _rows(self._unreleased)
            error = self._serve_together(askings, released)
            if error is not None and not isinstance(error, StoreUnavailable) and len(askings) + len(released) > 1:
                # What fails for one of them must not fail for the others too.
                error = self._serve_one_by_one(askings, released)
            with self._lock:
                for asking in askings:
                    del self._asking[asking.key]
                    if asking.taken:
                        until = asking.asked_at + asking.length.total_seconds()
                        self._held[asking.key] = _Held(asking.owner, asking.thread, until, asking.length)
                    asking.served = True
                following = next(iter(self._asking.values()), None)
                idle = following is None and (error is not None or len(self._unreleased) == 0)
                if idle:
                    self._serving = False
            for asking in askings:
                asking.turn.set()
            if following is not None:
                following.turn.set()
            if error is not None and not askings and not isinstance(error, StoreUnavailable):
                raise error
            if following is not None or idle:
                return

    def _serve_together(self, askings: list[_Asking], released: list[dict[str, str]]) -> BaseException | None:
        try:
            if self._database.dialect == "postgresql" and released and askings:
                # Each transaction takes its rows in the order of their keys, so that no two wait for each other.
                self._give_back(released)
                released = []
            with self._database.begin() as connection:
                if released:
                    connection.execute(_RELEASE, released)
                taken = [self._take(connection, asking) for asking in askings]
        except BaseException as error:
            for asking in askings:
                asking.error = error
            return error
        self._forget_unreleased(released)
        for asking, success in zip(askings, taken, strict=True):
            asking.taken = success
        return None

    def _serve_one_by_one(self, askings: list[_Asking], released: list[dict[str, str]]) -> BaseException | None:
        """The first error that concerns what was released; those who ask are told of their own."""
        failed = None
        for row in released:
            failed = failed or self._serve_together([], [row])
        for asking in askings:
            asking.error = None
            self._serve_together([asking], [])
        return failed

    def _give_back(self, released: list[dict[str, str]]) -> None:
        with self._database.begin() as connection:
            connection.execute(_RELEASE, released)
        self._forget_unreleased(released)

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Holds the lease of `key` for the `with` block, in one thread. Raises `LeaseBusy` when another holds it."""
        if not self.acquire(key):
            raise LeaseBusy(key)
        try:
            yield
        finally:
            self.release(key)

    def renew(self) -> None:
        """Renews all that is held, and gives back what could not be given back before. Raises `StoreUnavailable`."""
        with self._lock:
            held = _rows({key: each.owner for key, each in self._held.items()})
            lengths = {key: each.length for key, each in self._held.items()}
            unreleased = _rows(self._unreleased)
        if unreleased:
            self._give_back(unreleased)
        if not held:
            return
        moment = self._monotonic()
        with self._database.begin() as connection:
            # One by one, for only so is it told of each whether it was still ours.
            kept = [
                row
                for row in held
                if connection.execute(self._renewal, row | self._times(lengths[row["the_key"]])).rowcount == 1
            ]
        with self._lock:
            for row in kept:
                mine = self._held.get(row["the_key"])
                if mine is not None and mine.owner == row["the_owner"]:
                    mine.until = moment + mine.length.total_seconds()

    def start_renewing(self) -> None:
        """Renews in a thread of its own until `stop`."""
        self._stopping.clear()
        self._renewing = threading.Thread(target=self._renew_until_stopped, name="lease-renewal", daemon=True)
        self._renewing.start()

    def stop(self) -> None:
        """Ends the renewing. What is still held expires by itself, since its work may still be under way."""
        self._stopping.set()
        if self._renewing is not None:
            self._renewing.join()
            self._renewing = None

    def _renew_until_stopped(self) -> None:
        while not self._stopping.wait(self._length.total_seconds() / _RENEWALS_IN_A_LEASE):
            try:
                self.renew()
            except StoreUnavailable as error:
                structlog.get_logger().debug("leases-not-renewed", reason=str(error))

    def _forget_unreleased(self, released: list[dict[str, str]]) -> None:
        with self._lock:
            for row in released:
                if self._unreleased.get(row["the_key"]) == row["the_owner"]:
                    del self._unreleased[row["the_key"]]

    def _take(self, connection: Connection, asking: _Asking) -> bool:
        wanted = {"the_key": asking.key, "the_owner": asking.owner, **self._times(asking.length)}
        if connection.execute(self._taking, wanted).rowcount == 1:
            return True
        holder = connection.execute(_HOLDER, wanted).scalar() if asking.inherits else None
        if holder is None or not holder_is_gone(holder):
            return False
        return connection.execute(self._inheritance, wanted | {"the_holder": holder}).rowcount == 1

    def _times(self, length: timedelta) -> dict[str, object]:
        if self._database.dialect == "postgresql":
            return {"length": length}
        moment = now()
        return {"moment": moment, "expiry": moment + length}


def _rows(owners: dict[str, str]) -> list[dict[str, str]]:
    return [{"the_key": key, "the_owner": owner} for key, owner in sorted(owners.items())]


def holder_is_gone(owner: str) -> bool:
    """Whether the `owner` of a lease is known to be dead: a process of this machine that is no longer there."""
    return process_is_gone(owner.rpartition("|")[0].rpartition("|")[2])
