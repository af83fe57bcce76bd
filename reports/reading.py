"""Reads one thing for each of many, side by side, at a pace that gives way; what fails is tried again, then counted."""

from __future__ import annotations

import gc
import heapq
import random
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty
from typing import TYPE_CHECKING, Generic, TypeVar

from reports.retrying import seconds_to_retry
from sync.failures import BreakerOpen, SyncError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from queue import SimpleQueue

    from reports.pace import Pace

Item = TypeVar("Item")
Value = TypeVar("Value")

#: How long a service may be down in all before its reads are given up.
OUTAGE_SECONDS = 600.0
_BREAKER_PAUSE_SECONDS = 1.0
#: How often whoever waits for what was read is within call.
_TICK_SECONDS = 0.5
_OVERLOADED = frozenset({429, 500, 503})


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why something could not be read: in plain words, and whether the network failed (no answer came at all)."""

    reason: str
    network: bool


class Reading(Generic[Item, Value]):
    """Threads that call `read(item)` for every item and hand the value, or why there is none, to `deliver`.

    `deliver` is called from many threads, exactly once for each item unless the reading is stopped. Errors that may
    pass are tried again; a service that is taken to be down is waited for. Nothing is ever raised out of a thread: an
    error that was not foreseen is delivered as unreadable.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[Item], Value],
        deliver: Callable[[Item, Value | Unreadable], None],
        pace: Pace,
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        self._name = name
        self._read = read
        self._deliver = deliver
        self._pace = pace
        self._pending: deque[tuple[Item, int]] = deque()
        self._later: list[tuple[float, float, Item, int]] = []
        #: Items that are neither delivered nor given up: those in work may come back to be tried again.
        self._left = 0
        self._changed = threading.Condition()
        self._closed = False
        self._stopped = False
        self._outage_left = outage_seconds
        #: Since when the service is down; read without a lock in the hot path.
        self._down_since: float | None = None
        self._threads: list[threading.Thread] = []

    def add(self, items: Iterable[Item]) -> None:
        """Gives work; threads are started when first needed."""
        added = [(item, 0) for item in items]
        with self._changed:
            # Threads come before their work, so that those which are there do not keep the others from starting.
            self._start_threads(len(self._pending) + len(added))
            self._left += len(added)
            self._pending.extend(added)
            self._changed.notify_all()

    def _start_threads(self, wanted: int) -> None:
        for number in range(len(self._threads), min(self._pace.maximum, wanted)):
            thread = threading.Thread(target=self._work, args=(number,), name=f"{self._name}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Says that no more is added: threads end when all is read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends at once: calls under way are finished, the rest is left unread."""
        self._stopped = True
        self._pending.clear()
        self.close()
        self._pace.wake()

    def join(self) -> None:
        """Returns when every thread has ended."""
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        pace, pending, read = self._pace, self._pending, self._read
        while True:
            if number >= pace.allowed or pace.paused_until:
                pace.wait_turn(number, self._over)
            try:
                item, attempt = pending.popleft()
            except IndexError:
                waiting = self._next()
                if waiting is None:
                    return
                item, attempt = waiting
            started = time.perf_counter()
            try:
                value = read(item)
            except Exception as error:
                self._failed(item, attempt, error)
            else:
                if self._down_since is not None:
                    self._up_again()
                pace.answered(time.perf_counter() - started)
                self._finish(item, value)

    def _finish(self, item: Item, value: Value | Unreadable) -> None:
        self._deliver(item, value)
        with self._changed:
            self._left -= 1
            if self._closed and not self._left:
                self._changed.notify_all()
                self._pace.wake()

    def _over(self) -> bool:
        # Nobody ends while an item is in work: those whose turn it is must be there should it be tried again.
        return self._stopped or (self._closed and not self._left)

    def _next(self) -> tuple[Item, int] | None:
        with self._changed:
            while True:
                if self._stopped:
                    return None
                if self._pending:
                    return self._pending.popleft()
                now = time.monotonic()
                if self._later and self._later[0][0] <= now:
                    _, _, item, attempt = heapq.heappop(self._later)
                    return item, attempt
                if self._over():
                    return None
                self._changed.wait(self._later[0][0] - now if self._later else None)

    def _failed(self, item: Item, attempt: int, error: Exception) -> None:
        if isinstance(error, BreakerOpen) and self._worth_waiting() and not self._stopped:
            self._pace.pause(_BREAKER_PAUSE_SECONDS)
            self._again(item, attempt, _BREAKER_PAUSE_SECONDS)
            return
        if isinstance(error, UpstreamError) and error.status in _OVERLOADED:
            self._pace.refused(error.retry_after if error.status in (429, 503) else None)
        again_in = seconds_to_retry(error, attempt)
        if again_in is None or self._stopped:
            self._finish(item, why_unreadable(error))
        else:
            self._again(item, attempt + 1, again_in)

    def _worth_waiting(self) -> bool:
        """Whether a service that is down was waited for less than `outage_seconds` in all."""
        now = time.monotonic()
        with self._changed:
            if self._down_since is None:
                self._down_since = now
            return now - self._down_since < self._outage_left

    def _up_again(self) -> None:
        with self._changed:
            if self._down_since is not None:
                self._outage_left -= time.monotonic() - self._down_since
                self._down_since = None

    def _again(self, item: Item, attempt: int, seconds: float) -> None:
        with self._changed:
            heapq.heappush(self._later, (time.monotonic() + seconds, random.random(), item, attempt))
            self._changed.notify()


def ticking(answers: SimpleQueue[Value], tick: Callable[[], None]) -> Value:
    """The next of `answers`; `tick` is called now and then while none has come, and may end the wait by raising."""
    while True:
        try:
            return answers.get(timeout=_TICK_SECONDS)
        except Empty:
            tick()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keeps the collector of garbage off all that is there already.

    A full collection looks at every object that the libraries brought, up to a tenth of a second without a call.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def why_unreadable(error: Exception) -> Unreadable:
    """An error as the reason that is reported; only errors of this program's own kinds tell their text."""
    if isinstance(error, UpstreamError):
        return Unreadable(str(error), network=error.status is None)
    if isinstance(error, SyncError):
        return Unreadable(str(error), network=isinstance(error, BreakerOpen))
    return Unreadable(f"unexpected {type(error).__name__}", network=False)
