"""Leases: one holder at a time for an entity, among all threads and processes that share the database.

A lease outlives its holder by at most its own length. It is taken over at once if its holder is known to be dead, that
is, a process of the same machine that no longer exists, unless what that process was doing may still be under way in
NOMIS.

A holder that could not renew a lease in time has lost it, possibly without noticing: it was stopped, or cut off from
the database. `ensure_held` raises in that case, before anything is written.

A process is named after the boot id of its machine, its process namespace (a container has its own), its number and its
start time: a name is never used again, and any process in the same namespace can tell whether the named one is gone.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import ColumnElement, Connection, Interval, TextClause, bindparam, delete, func, select, text, update

from sync.clock import now
from sync.failures import LeaseBusy
from sync.store.database import Database, StoreUnavailable
from sync.store.tables import leases
from sync.store.types import SharedDateTime, UtcDateTime

_RENEWALS_IN_A_LEASE = 3
_LONGEST_NAME = 80
_UNKNOWN_PLACE = "?"

#: As text, since SQLAlchemy compiles an INSERT … ON CONFLICT again for each execution: with 64 messages in flight that
#: took 29% more CPU for each message of a drain on PostgreSQL, and 16% more on SQLite.
_ACQUIRE = (
    "INSERT INTO leases (key, owner, expires_at) VALUES (:the_key, :the_owner, :expiry) "
    "ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at "
    "WHERE leases.expires_at < :moment"
)
_MINE = (leases.c.key == bindparam("the_key")) & (leases.c.owner == bindparam("the_owner"))
_RELEASE = delete(leases).where(_MINE)
#: Numbers the acquisitions of this process, whatever they are for.
_numbers = itertools.count(1)
_HOLDER = select(leases.c.owner).where(leases.c.key == bindparam("the_key"))


@dataclass(slots=True)
class _Request:
    """What a thread wants from the database: the lease of `key` for `length`, or its release (`length` None).

    The result of `taken` is whether the lease is then held.
    """

    key: str
    owner: str
    length: timedelta | None = None
    take_over: bool = False
    taken: Future[bool] = field(default_factory=Future)


@dataclass(slots=True)
class _Held:
    """A lease that is held: its owner in the database, its thread, its end by the monotonic clock, and its length."""

    owner: str
    thread: int
    until: float
    length: timedelta


class Leases:
    """The leases that one process holds. Safe to share between threads, which exclude each other as processes do.

    `owner` names the holder for people; `seconds` is how long a lease outlives its holder's last renewal.
    """

    def __init__(
        self, database: Database, owner: str, seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._monotonic = monotonic
        self._length = timedelta(seconds=seconds)
        self._owner = f"{owner[:_LONGEST_NAME]}|{this_process()}"
        expiry: ColumnElement[datetime] = bindparam("expiry", type_=SharedDateTime)
        if database.dialect == "postgresql":
            # Many machines share a server, so the server's own clock counts.
            expiry = func.clock_timestamp(type_=UtcDateTime) + bindparam("length", type_=Interval)
        self._acquisition = _acquisition(database.dialect)
        self._renewal = update(leases).where(_MINE).values(expires_at=expiry)
        self._taking_over = (
            update(leases)
            .where(leases.c.key == bindparam("the_key"), leases.c.owner == bindparam("the_holder"))
            .values(owner=bindparam("the_owner"), expires_at=expiry)
        )
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._unreleased: set[tuple[str, str]] = set()
        #: Requests that no thread has begun to commit, and the lock of the thread that commits.
        self._waiting: list[_Request] = []
        self._committing = threading.Lock()
        self._write_before = threading.local()
        self._stopping = threading.Event()
        self._renewing: threading.Thread | None = None

    def acquire(self, key: str, *, take_over: bool = True, least_seconds: float = 0.0) -> bool:
        """Takes the lease of `key`; returns False if another thread or process holds it. Raises `StoreUnavailable`.

        Without `take_over`, even the lease of a dead process cannot be taken until it expires. The lease lasts at least
        `least_seconds` after its last renewal.
        """
        length = max(self._length, timedelta(seconds=least_seconds))
        # Unique for each acquisition: the owner in the database shows which one has the lease, and a holder that lost
        # its lease cannot release the lease of the next holder.
        owner = f"{self._owner}|{next(_numbers)}"
        until = self._monotonic() + length.total_seconds()
        with self._lock:
            if key in self._held:
                return False
            self._held[key] = _Held(owner, threading.get_ident(), until, length)
        taken = False
        try:
            if self._unreleased:
                self._release_left_over()
            request = _Request(key, owner, length, take_over)
            with self._lock:
                self._waiting.append(request)
            self._commit_waiting(wait=True)
            taken = request.taken.result()
        except StoreUnavailable:
            # It may still be taken: the connection may have been lost during the commit.
            with self._lock:
                self._unreleased.add((key, owner))
            raise
        finally:
            if not taken:
                self._forget(key)
        return taken

    def release(self, key: str) -> None:
        """Releases the lease of `key`; if the database is unavailable, as soon as it is back."""
        with self._lock:
            held = self._held.pop(key, None)
            if held is None:
                return
            request = _Request(key, held.owner)
            request.taken.add_done_callback(lambda taken: self._keep_unreleased(request, taken))
            # Before another thread of this process can ask for the same lease.
            self._waiting.append(request)
        self._commit_waiting(wait=False)

    def expire_after(self, key: str, seconds: float) -> None:
        """Lets the lease of `key` expire in `seconds`: until then nobody can take it, this process included.

        For work whose request may still be under way. If the database is unavailable, the lease expires when it would
        have anyway.
        """
        held = self._forget(key)
        if held is None:
            return
        times = self._times(timedelta(seconds=seconds))
        try:
            with self._database.begin() as connection:
                connection.execute(self._renewal, {"the_key": key, "the_owner": held.owner} | times)
        except StoreUnavailable as error:
            structlog.get_logger().debug("lease-expiry-not-set", key=key, reason=str(error))

    def ensure_held(self) -> None:
        """Raises `LeaseBusy` if a lease taken by this thread has expired, so that another process may hold it."""
        thread, moment = threading.get_ident(), self._monotonic()
        limit = getattr(self._write_before, "limit", None)
        if limit is not None and limit[0] <= moment:
            raise LeaseBusy(limit[1])
        with self._lock:
            for key, held in self._held.items():
                if held.thread == thread and held.until <= moment:
                    raise LeaseBusy(key)

    @contextmanager
    def write_within(self, seconds: float, key: str) -> Iterator[None]:
        """Lets `ensure_held` raise for the lease `key` in the `with` block, in this thread, after `seconds`.

        For a write that others expect to have been sent by then, even if this process died.
        """
        self._write_before.limit = (self._monotonic() + seconds, key)
        try:
            yield
        finally:
            self._write_before.limit = None

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
        """Renews all leases held, and releases those that could not be released before. Raises `StoreUnavailable`."""
        self._release_left_over()
        with self._lock:
            held = sorted(self._held.items())
        if not held:
            return
        moment = self._monotonic()
        kept = []
        with self._database.begin() as connection:
            # One statement each: only then does the row count show for each lease whether it was still held.
            for key, each in held:
                values = {"the_key": key, "the_owner": each.owner} | self._times(each.length)
                if connection.execute(self._renewal, values).rowcount == 1:
                    kept.append(each)
        for each in kept:
            each.until = moment + each.length.total_seconds()

    def start_renewing(self) -> None:
        """Renews the leases in a background thread until `stop`."""
        self._stopping.clear()
        self._renewing = threading.Thread(target=self._renew_until_stopped, name="lease-renewal", daemon=True)
        self._renewing.start()

    def stop(self) -> None:
        """Stops renewing. Leases still held expire by themselves, since their work may still be under way."""
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

    def _commit_waiting(self, *, wait: bool) -> None:
        """Commits the requests of all threads together. Without `wait`, leaves them to a thread that is committing.

        With 64 messages in flight a transaction for each request made a drain on PostgreSQL a quarter slower (263
        against 364 messages a second); on SQLite it made little difference.
        """
        # Checked again after each commit: a thread that did not wait relies on the one that was committing.
        while self._waiting and self._committing.acquire(blocking=wait):
            try:
                with self._lock:
                    requests, self._waiting = self._waiting, []
                # In the order of their keys, and releases apart from acquisitions, so that transactions of different
                # processes never deadlock. Releases first, since the same lease may have been asked for again.
                requests.sort(key=lambda each: each.key)
                self._commit_together([each for each in requests if each.length is None])
                self._commit_together([each for each in requests if each.length is not None])
            finally:
                self._committing.release()

    def _commit_together(self, requests: list[_Request]) -> None:
        """Commits requests, all of them releases or all acquisitions."""
        if not requests:
            return
        try:
            with self._database.begin() as connection:
                taken = self._apply(connection, requests)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StoreUnavailable) and len(requests) > 1:
                # What is wrong with one of them does not concern the others.
                for each in requests:
                    self._commit_together([each])
                return
            for each in requests:
                each.taken.set_exception(error)
            return
        for each, result in zip(requests, taken, strict=True):
            each.taken.set_result(result)

    def _apply(self, connection: Connection, requests: list[_Request]) -> list[bool]:
        """Releases or acquires leases; returns whether each is held now.

        All in one execution: on PostgreSQL it takes one round trip.
        """
        values = [
            {"the_key": each.key, "the_owner": each.owner, **({} if each.length is None else self._times(each.length))}
            for each in requests
        ]
        if requests[0].length is None:
            connection.execute(_RELEASE, values)
            return [False] * len(requests)
        if connection.execute(self._acquisition, values).rowcount == len(requests):
            return [True] * len(requests)
        return [self._is_taken(connection, *each) for each in zip(requests, values, strict=True)]

    def _is_taken(self, connection: Connection, request: _Request, values: dict[str, object]) -> bool:
        """Whether a lease was acquired, or could be taken over from a dead process."""
        holder = connection.execute(_HOLDER, values).scalar()
        if holder == request.owner:
            return True
        if holder is None or not request.take_over or not holder_is_gone(holder):
            return False
        return connection.execute(self._taking_over, values | {"the_holder": holder}).rowcount == 1

    def _keep_unreleased(self, request: _Request, taken: Future[bool]) -> None:
        if taken.exception() is not None:
            with self._lock:
                self._unreleased.add((request.key, request.owner))

    def _release_left_over(self) -> None:
        """Releases what could not be released while the database was unavailable."""
        with self._lock:
            left_over = sorted(self._unreleased)
        if not left_over:
            return
        with self._database.begin() as connection:
            connection.execute(_RELEASE, [{"the_key": key, "the_owner": owner} for key, owner in left_over])
        with self._lock:
            self._unreleased.difference_update(left_over)

    def _forget(self, key: str) -> _Held | None:
        with self._lock:
            return self._held.pop(key, None)

    def _times(self, length: timedelta) -> dict[str, object]:
        if self._database.dialect == "postgresql":
            return {"length": length}
        moment = now()
        return {"moment": moment, "expiry": moment + length}


def _acquisition(dialect: str) -> TextClause:
    """The statement that inserts a lease, or takes over an expired one."""
    names = (bindparam("the_key", type_=leases.c.key.type), bindparam("the_owner", type_=leases.c.owner.type))
    if dialect == "postgresql":
        by_server = _ACQUIRE.replace(":expiry", "clock_timestamp() + :length").replace(":moment", "clock_timestamp()")
        return text(by_server).bindparams(*names, bindparam("length", type_=Interval))
    times = (bindparam("expiry", type_=SharedDateTime), bindparam("moment", type_=SharedDateTime))
    return text(_ACQUIRE).bindparams(*names, *times)


def holder_is_gone(owner: str) -> bool:
    """Whether the `owner` of a lease is known to be dead: a process of this machine that no longer exists."""
    return process_is_gone(owner.rpartition("|")[0].rpartition("|")[2])


def this_process() -> str:
    """The name of this process."""
    return f"{_place()}/{os.getpid()}/{_start_of(os.getpid())}"


def process_is_gone(name: str) -> bool:
    """Whether the process called `name` has certainly ended. False if this process cannot know."""
    place, _, rest = name.partition("/")
    number, _, start = rest.partition("/")
    if not number.isdigit() or not start.isdigit() or place == _UNKNOWN_PLACE or place != _place():
        return False
    return _start_of(int(number)) != start


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return _UNKNOWN_PLACE
    return f"{boot[:13]}:{namespace.strip('pid:[]')}"


def _start_of(number: int) -> str | None:
    """When a process was started, in ticks since boot; None if there is no such process, or only a zombie."""
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may itself contain spaces and brackets; the state and numbers follow the last bracket.
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]
