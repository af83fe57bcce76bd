"""Reads many items in parallel within a service's concurrency limit, retries failed reads and waits out an outage."""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from collections import deque
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from sync.clock import LONDON
from sync.errors import BreakerOpen, SyncError, UpstreamError
from sync.outage_text import counts_as_down_since, wait_text
from sync.settings import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import tzinfo
    from queue import Queue

    from sync.upstream.concurrency_limit import ConcurrencyLimit

Item = TypeVar("Item")
Value = TypeVar("Value")

#: How long a service may be down in total before its reads are abandoned.
OUTAGE_SECONDS = 600.0
#: How long a thread waits while another thread probes the service.
_PROBE_SECONDS = 0.05
#: How often `get_with_heartbeat` calls `tick` while it waits.
_TICK_SECONDS = 0.5
#: The longest `Retry-After` that is honoured.
_LONGEST_ASKED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FailedRead:
    """Why something could not be read. reason: a clause for people. network: whether no response was received."""

    reason: str
    network: bool


class ParallelReader(Generic[Item, Value]):
    """A pool of threads that call `read(item)` for every item, and pass the value or the failed read to `on_result`.

    `on_result` is called from many threads, exactly once for each item unless the reader is stopped. Reads that fail
    with a recoverable error are retried, and an outage of the service is waited out. An unexpected exception in `read`
    does not end the thread, but becomes a failed read.

    A few items that always fail are not an outage. So if only items that have failed are left, or if the service seems
    to be down, the witness is read first: an item that was read successfully earlier. If the witness can be read
    again, the breaker learns that the service works, and items that still fail are abandoned after their last attempt.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[Item], Value],
        on_result: Callable[[Item, Value | FailedRead], None],
        limit: ConcurrencyLimit,
        outage_seconds: float = OUTAGE_SECONDS,
        zone: tzinfo = LONDON,
    ) -> None:
        """Starts no thread yet.

        name: the name of the service, for the names of the threads. limit: the concurrency limit of the service.
        outage_seconds: how long the service may be down in total. zone: the time zone in which `waits_for` gives the
        time.
        """
        self._name = name
        self._read = read
        self._on_result = on_result
        self._limit = limit
        self._pending: deque[tuple[Item, int]] = deque()
        self._later: list[tuple[float, float, Item, int]] = []
        #: When the first item in `_later` is due; read without a lock in the hot path.
        self._due = math.inf
        #: The last item that could be read, or None: reading it again shows whether the service works.
        self._witness: Item | None = None
        self._probing = threading.Lock()
        #: The number of items without a result, including items that are being read and may have to be retried.
        self._left = 0
        self._changed = threading.Condition()
        self._closed = False
        self._stopped = False
        self._outage_left = outage_seconds
        #: When the service went down, or None if it is up; read without a lock in the hot path.
        self._down_since: float | None = None
        #: The error that showed that the service is down; it belongs to `_down_since`.
        self._down: BreakerOpen | None = None
        self._zone = zone
        self._threads: list[threading.Thread] = []

    def add(self, items: Iterable[Item]) -> None:
        """Adds items to read, and starts threads for them if the limit allows more threads."""
        added = [(item, 0) for item in items]
        with self._changed:
            # Threads start before their work is added, because busy threads would delay the start of the others.
            self._start_threads(len(self._pending) + len(added))
            self._left += len(added)
            self._pending.extend(added)
            self._changed.notify_all()

    def _start_threads(self, wanted: int) -> None:
        for number in range(len(self._threads), min(self._limit.maximum, wanted)):
            # What the thread reads belongs to the trace of the run.
            work, name = copy_context().run, f"{self._name}-{number}"
            thread = threading.Thread(target=work, args=(self._work, number), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Lets the threads end once every item that was added has a result."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Stops the reading: calls in progress finish, and the remaining items are not read."""
        self._stopped = True
        self._pending.clear()
        self._due = math.inf
        self.close()
        self._limit.wake()

    def join(self) -> None:
        """Waits until every thread has ended; call `close` or `stop` first."""
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        limit, pending, read = self._limit, self._pending, self._read
        while True:
            if number >= limit.allowed or limit.paused_until:
                limit.wait_until_allowed(number, self._over)
            try:
                item, attempt = self._overdue() if self._due <= time.perf_counter() else pending.popleft()
            except IndexError:
                waiting = self._next()
                if waiting is None:
                    return
                item, attempt = waiting
            if (self._down_since is not None or (attempt and not pending)) and not self._may_read(item, attempt):
                continue
            try:
                value = read(item)
            except Exception as error:
                self._failed(item, attempt, error)
            else:
                self._witness = item
                if self._down_since is not None:
                    self._up_again()
                self._finish(item, value)

    def _may_read(self, item: Item, attempt: int) -> bool:
        """Whether `item` may be read now; the witness, if there is one, is read first, by one thread at a time.

        If another thread is reading the witness, or if the breaker is open, `item` is not read now: it is read later,
        or is abandoned if the outages have lasted too long in total.
        """
        witness = self._witness
        if witness is None or witness == item:
            return True
        if not self._probing.acquire(blocking=False):
            with self._changed:
                self._changed.wait(_PROBE_SECONDS)
            self._again(item, attempt, 0)
            return False
        try:
            self._read(witness)
        except BreakerOpen as error:
            self._failed(item, attempt, error)
            return False
        except Exception:  # the witness is of no more use; the item itself will show whether the service works
            self._witness = None
        else:
            if self._down_since is not None:
                self._up_again()
        finally:
            self._probing.release()
        return True

    @property
    def waits_for(self) -> str | None:
        """What the reader is waiting for, as text for the progress report, or None in normal operation."""
        with self._changed:
            if self._down is not None and self._down_since is not None:
                return outage_text(self._down, self._outage_left, self._zone)
        if self._later and not self._pending:
            return "retrying failed reads"
        return None

    def _finish(self, item: Item, value: Value | FailedRead) -> None:
        self._on_result(item, value)
        with self._changed:
            self._left -= 1
            if self._closed and not self._left:
                self._changed.notify_all()
                self._limit.wake()

    def _over(self) -> bool:
        # No thread ends while an item is being read: it may have to be retried.
        return self._stopped or (self._closed and not self._left)

    def _next(self) -> tuple[Item, int] | None:
        with self._changed:
            while True:
                if self._stopped:
                    return None
                if self._pending:
                    return self._pending.popleft()
                now = time.perf_counter()
                if self._due <= now:
                    return self._pop_later()
                if self._over():
                    return None
                self._changed.wait(self._later[0][0] - now if self._later else None)

    def _overdue(self) -> tuple[Item, int]:
        """An item that is due for a retry, or, if another thread has taken that item, one that has not been read yet.

        Raises `IndexError` if there is neither.
        """
        with self._changed:
            if self._due > time.perf_counter():
                return self._pending.popleft()
            return self._pop_later()

    def _pop_later(self) -> tuple[Item, int]:
        _, _, item, attempt = heapq.heappop(self._later)
        self._due = self._later[0][0] if self._later else math.inf
        return item, attempt

    def _failed(self, item: Item, attempt: int, error: Exception) -> None:
        if isinstance(error, BreakerOpen) and self._worth_waiting(error) and not self._stopped:
            self._limit.pause(times.OPEN_BREAKER_PAUSE_SECONDS)
            self._again(item, attempt, times.OPEN_BREAKER_PAUSE_SECONDS)
            return
        if self._down_since is not None and not isinstance(error, BreakerOpen):
            self._up_again()  # the breaker let the call through, whatever came of it
        again_in = seconds_to_retry(error, attempt)
        if again_in is None or self._stopped:
            self._finish(item, failed_read(error))
        else:
            self._again(item, attempt + 1, again_in)

    def _worth_waiting(self, error: BreakerOpen) -> bool:
        """Whether the outages so far have lasted less time in total than is allowed; notes when an outage begins."""
        now = time.monotonic()
        with self._changed:
            if self._down_since is None:
                self._down, self._down_since = error, now
            return now - self._down_since < self._outage_left

    def _up_again(self) -> None:
        with self._changed:
            if self._down_since is not None:
                self._outage_left -= time.monotonic() - self._down_since
                self._down_since = None

    def _again(self, item: Item, attempt: int, seconds: float) -> None:
        with self._changed:
            if self._stopped:
                return
            heapq.heappush(self._later, (time.perf_counter() + seconds, random.random(), item, attempt))
            self._due = self._later[0][0]
            self._changed.notify()


def seconds_to_retry(error: Exception, attempt: int, pauses: Sequence[float] | None = None) -> float | None:
    """The seconds from the failed `attempt` (counted from 0) to the next attempt, or None if retrying is pointless.

    pauses: the seconds before each attempt after the first, without jitter; `READ_RETRY_SECONDS` by default.
    """
    if pauses is None:
        pauses = times.READ_RETRY_SECONDS
    if not isinstance(error, SyncError) or not error.recoverable or attempt >= len(pauses):
        return None
    if isinstance(error, UpstreamError) and error.no_route:
        return None
    asked = (error.retry_after if isinstance(error, UpstreamError) else None) or 0.0
    return max(_with_jitter(pauses[attempt]), min(asked, _LONGEST_ASKED_SECONDS))


def retry(
    read: Callable[[], Value],
    wait: Callable[[float], object],
    hold_seconds: float = 0.0,
    pauses: Sequence[float] | None = None,
) -> Value:
    """Calls `read` until it succeeds. Raises the `SyncError` of the last call if retrying is pointless.

    wait: sleeps for the given number of seconds before the next call; if it returns true, the error is raised instead.
    hold_seconds: how long to wait in total while the breaker is open. A call that the breaker stops does not count as
    an attempt, because nothing was sent, and the error is raised once the time has been used up. If it is 0, such a
    call counts as any other. pauses: as for `seconds_to_retry`.
    """
    attempt, held = 0, 0.0
    while True:
        try:
            return read()
        except SyncError as error:
            if isinstance(error, BreakerOpen) and hold_seconds:
                if held >= hold_seconds:
                    raise
                pause = _with_jitter(times.OPEN_BREAKER_PAUSE_SECONDS)
                held += pause
            else:
                again_in = seconds_to_retry(error, attempt, pauses)
                if again_in is None:
                    raise
                pause = again_in
                attempt += 1
            if wait(pause):
                raise


def _with_jitter(seconds: float) -> float:
    """A random time from `seconds` to twice as long, so that threads do not retry in step."""
    return seconds * (1 + random.random())


def outage_text(error: BreakerOpen, seconds: float, zone: tzinfo) -> str:
    """That a read waits for up to `seconds` for a service, which one, and since when (in `zone`) it has been down."""
    return wait_text(seconds, counts_as_down_since(error.service, error.since, zone))


class Waiting(Protocol):
    """A reader that can say what it is waiting for."""

    @property
    def waits_for(self) -> str | None:
        """What the reader is waiting for, as text for the progress report, or None in normal operation."""


def get_with_heartbeat(results: Queue[Value], tick: Callable[[str | None], None], *readers: Waiting) -> Value:
    """The next of the `results`; waits for it if necessary.

    tick: called periodically during the wait with what one of the `readers` is waiting for, or with None if none of
    them is waiting. It may raise an error to end the wait.
    """
    while True:
        try:
            return results.get(timeout=_TICK_SECONDS)
        except Empty:
            tick(next((each.waits_for for each in readers if each.waits_for), None))


def failed_read(error: Exception) -> FailedRead:
    """An error as a failed read; the text of an unexpected error is left out, because it may contain anything."""
    if isinstance(error, UpstreamError):
        return FailedRead(str(error), network=error.status is None)
    if isinstance(error, SyncError):
        return FailedRead(str(error), network=isinstance(error, BreakerOpen))
    return FailedRead(f"unexpected {type(error).__name__}", network=False)
