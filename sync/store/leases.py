"""Leases: one holder at a time for an entity, among all threads and processes that share the database.

A lease outlives its holder by at most the length of the lease. If the holder is known to be dead (a process on the same
machine that no longer exists), another process can take over the lease at once, unless the lease covers work that may
still be under way in NOMIS.

A holder that could not renew a lease in time has lost it. The holder may not have noticed this if it was suspended or
cut off from the database. That is why `ensure_held` is called before each write: it raises `LeaseBusy` in this case.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import ColumnElement, Connection, Interval, TextClause, bindparam, delete, func, select, text, update

from sync.clock import now
from sync.errors import LeaseBusy
from sync.store.column_types import SharedDateTime, UtcDateTime
from sync.store.database import Database, StoreUnavailable
from sync.store.group_commit import GroupCommit, Request
from sync.store.process_names import process_is_gone, this_process
from sync.store.tables import leases

_RENEWALS_IN_A_LEASE = 3
#: While at least this many leases are held, a commit waits a moment for the requests of other threads, like
#: `commit_siblings` of PostgreSQL. Without the wait, most commits serve one thread, and a drain with 64 messages in
#: flight uses a sixth more CPU.
_COMMIT_SIBLINGS = 32
_LONGEST_NAME = 80

#: SQL as text, since SQLAlchemy compiles an INSERT … ON CONFLICT again for each execution. With 64 messages in flight,
#: that took 29% more CPU for each message of a drain on PostgreSQL, and 16% more on SQLite.
_ACQUIRE = (
    "INSERT INTO leases (key, owner, expires_at) VALUES (:the_key, :the_owner, :expiry) "
    "ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at "
    "WHERE leases.expires_at < :moment"
)
_MINE = (leases.c.key == bindparam("the_key")) & (leases.c.owner == bindparam("the_owner"))
_RELEASE = delete(leases).where(_MINE)
#: Numbers all acquisitions in this process.
_numbers = itertools.count(1)
_HOLDER = select(leases.c.owner).where(leases.c.key == bindparam("the_key"))


@dataclass(slots=True, eq=False)
class _Request(Request):
    """A thread's request: to acquire the lease of `key` for `length`, or to release it if `length` is None.

    Its result is whether the thread holds the lease afterwards.
    """

    key: str
    owner: str
    length: timedelta | None = None
    take_over: bool = False


@dataclass(slots=True)
class _Held:
    """A held lease: its owner in the database, its thread, its end on the monotonic clock, and its length."""

    owner: str
    thread: int
    until: float
    length: timedelta


class Leases:
    """The leases that one process holds. Threads can share an instance: they exclude each other as processes do.

    `owner` names the holder for people; `seconds` is how long a lease lasts after its last renewal.
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
            # Many machines share a server, so the server's clock counts.
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
        self._commits: GroupCommit[_Request] = GroupCommit(self._commit, lambda: len(self._held) >= _COMMIT_SIBLINGS)
        self._write_before = threading.local()
        self._stopping = threading.Event()
        self._renewing: threading.Thread | None = None

    def acquire(self, key: str, *, take_over: bool = True, least_seconds: float = 0.0) -> bool:
        """Acquires the lease of `key`; returns False if another thread or process holds it. Raises `StoreUnavailable`.

        Without `take_over`, a held lease cannot be acquired before it expires, even if its holder is dead. The acquired
        lease lasts for at least `least_seconds` after its last renewal.
        """
        length = max(self._length, timedelta(seconds=least_seconds))
        # The owner is unique for each acquisition. So the database shows which acquisition has the lease, and a holder
        # that has lost its lease cannot release that of the next holder.
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
            request = _Request(key, owner, length, take_over, waits=True)
            taken = self._commits.result_of(request, must_lead=self._commits.add(request))
        except StoreUnavailable:
            # The lease may have been acquired anyway, if the connection was lost during the commit.
            with self._lock:
                self._unreleased.add((key, owner))
            raise
        finally:
            if not taken:
                self._forget(key)
        return taken

    def release(self, key: str) -> None:
        """Releases the lease of `key`. If the database is unavailable, the lease is released later."""
        with self._lock:
            held = self._held.pop(key, None)
            if held is None:
                return
            request = _Request(key, held.owner, waits=False)
            request.result.add_done_callback(lambda result: self._keep_unreleased(request, result))
            # The request is added under the lock, so that no other thread of this process can ask for the same lease
            # first.
            must_lead = self._commits.add(request)
        if must_lead:
            self._commits.lead()

    def expire_after(self, key: str, seconds: float) -> None:
        """Stops renewing the lease of `key`, and makes it expire in `seconds`.

        Until then, the lease cannot be acquired, not even by this process. This is for work with a request that may
        still be under way. If the database is unavailable, the lease expires at the time that its last renewal set.
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
        """Raises `LeaseBusy` if a lease of this thread has expired, since another process may then hold it.

        It also raises `LeaseBusy` if the time limit of `write_within` has passed.
        """
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
        """Makes `ensure_held` raise `LeaseBusy(key)` in this thread if the `with` block takes longer than `seconds`.

        This is for a write that must not be sent late: other processes assume that, after this time, it has been sent
        or never will be, even if this process has died.
        """
        self._write_before.limit = (self._monotonic() + seconds, key)
        try:
            yield
        finally:
            self._write_before.limit = None

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Holds the lease of `key` in the `with` block. Raises `LeaseBusy` if another thread or process holds it."""
        if not self.acquire(key):
            raise LeaseBusy(key)
        try:
            yield
        finally:
            self.release(key)

    def renew(self) -> None:
        """Renews all held leases, and releases those that could not be released earlier. Raises `StoreUnavailable`."""
        self._release_left_over()
        with self._lock:
            held = sorted(self._held.items())
        if not held:
            return
        moment = self._monotonic()
        kept = []
        with self._database.begin() as connection:
            # One statement for each lease, so that the row count shows whether that lease was still held.
            for key, each in held:
                values = {"the_key": key, "the_owner": each.owner} | self._times(each.length)
                if connection.execute(self._renewal, values).rowcount == 1:
                    kept.append(each)
        for each in kept:
            each.until = moment + each.length.total_seconds()

    def start_renewing(self) -> None:
        """Renews the leases in a background thread until `stop` is called."""
        self._stopping.clear()
        self._renewing = threading.Thread(target=self._renew_until_stopped, name="lease-renewal", daemon=True)
        self._renewing.start()

    def stop(self) -> None:
        """Stops renewing. Leases still held are left to expire, since the work that they cover may not be finished."""
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

    def _commit(self, requests: list[_Request]) -> None:
        """Commits the requests of several threads together.

        With 64 messages in flight, a separate transaction for each request made a drain on PostgreSQL more than a
        quarter slower (263 instead of 364 messages a second). On SQLite it made little difference.
        """
        # Requests are applied in the order of their keys, with releases and acquisitions separate, so that processes
        # never deadlock. Releases come first, since the same lease may have been requested again.
        requests.sort(key=lambda each: each.key)
        self._commit_together([each for each in requests if each.length is None])
        self._commit_together([each for each in requests if each.length is not None])

    def _commit_together(self, requests: list[_Request]) -> None:
        """Commits requests, which are either all releases or all acquisitions."""
        if not requests:
            return
        try:
            with self._database.begin() as connection:
                taken = self._apply(connection, requests)
        except Exception as error:
            if not isinstance(error, StoreUnavailable) and len(requests) > 1:
                # An error in one request must not affect the others.
                for each in requests:
                    self._commit_together([each])
                return
            for each in requests:
                each.result.set_exception(error)
            return
        for each, result in zip(requests, taken, strict=True):
            each.result.set_result(result)

    def _apply(self, connection: Connection, requests: list[_Request]) -> list[bool]:
        """Releases or acquires leases. Returns, for each request, whether its thread holds the lease afterwards.

        All requests go into one execution, which is one round trip on PostgreSQL.
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
        """Whether `request` got its lease. Takes the lease over from a dead process if the request allows that."""
        holder = connection.execute(_HOLDER, values).scalar()
        if holder == request.owner:
            return True
        if holder is None or not request.take_over or not holder_is_gone(holder):
            return False
        return connection.execute(self._taking_over, values | {"the_holder": holder}).rowcount == 1

    def _keep_unreleased(self, request: _Request, result: Future[bool]) -> None:
        if result.exception() is not None:
            with self._lock:
                self._unreleased.add((request.key, request.owner))

    def _release_left_over(self) -> None:
        """Releases the leases that could not be released while the database was unavailable."""
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
    """The SQL statement that inserts a lease, or takes over an expired one."""
    names = (bindparam("the_key", type_=leases.c.key.type), bindparam("the_owner", type_=leases.c.owner.type))
    if dialect == "postgresql":
        by_server = _ACQUIRE.replace(":expiry", "clock_timestamp() + :length").replace(":moment", "clock_timestamp()")
        return text(by_server).bindparams(*names, bindparam("length", type_=Interval))
    times = (bindparam("expiry", type_=SharedDateTime), bindparam("moment", type_=SharedDateTime))
    return text(_ACQUIRE).bindparams(*names, *times)


def holder_is_gone(owner: str) -> bool:
    """Whether the `owner` of a lease is known to be dead: a process on this machine that no longer exists."""
    return process_is_gone(owner.rpartition("|")[0].rpartition("|")[2])
