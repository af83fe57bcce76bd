"""Reads one thing for each of many in parallel, within the limit of the service; retries what fails, then counts it."""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from queue import Empty
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from reports.engine.retry import seconds_to_retry
from sync.failures import BreakerOpen, SyncError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from queue import SimpleQueue

    from sync.upstream.concurrency_limit import ConcurrencyLimit

Item = TypeVar("Item")
Value = TypeVar("Value")

#: How long a service may be down in all before its reads are given up.
OUTAGE_SECONDS = 600.0
_BREAKER_PAUSE_SECONDS = 1.0
#: How long an item waits whose turn to be tried alone has not come.
_TURN_SECONDS = 0.05
#: How often whoever waits for what was read is within call.
_TICK_SECONDS = 0.5


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

    Items that alone cannot be read are no outage. Where nothing else is left to be read, or the service is taken to be
    down, an item that could be read before is read again first: so a breaker sees that the service answers, and
    whatever fails all the same is given up after its attempts.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[Item], Value],
        deliver: Callable[[Item, Value | Unreadable], None],
        limit: ConcurrencyLimit,
        outage_seconds: float = OUTAGE_SECONDS,
        witness: Item | None = None,
    ) -> None:
        """`limit` is that of the service that is read; `witness` is an item that could be read before."""
        self._name = name
        self._read = read
        self._deliver = deliver
        self._limit = limit
        self._pending: deque[tuple[Item, int]] = deque()
        self._later: list[tuple[float, float, Item, int]] = []
        #: When the first of those is due; read without a lock in the hot path.
        self._due = math.inf
        #: An item that could be read, the last one: whether the service is down is told by reading it again.
        self.witness = witness
        self._one_at_a_time = threading.Lock()
        #: Items that are neither delivered nor given up: those in work may come back to be tried again.
        self._left = 0
        self._changed = threading.Condition()
        self._closed = False
        self._stopped = False
        self._outage_left = outage_seconds
        #: Since when the service is down; read without a lock in the hot path.
        self._down_since: float | None = None
        self._down = ""
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
        for number in range(len(self._threads), min(self._limit.maximum, wanted)):
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
        self._due = math.inf
        self.close()
        self._limit.wake()

    def join(self) -> None:
        """Returns when every thread has ended."""
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        limit, pending, read = self._limit, self._pending, self._read
        while True:
            if number >= limit.allowed or limit.paused_until:
                limit.wait_turn(number, self._over)
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
                self.witness = item
                if self._down_since is not None:
                    self._up_again()
                self._finish(item, value)

    def _may_read(self, item: Item, attempt: int) -> bool:
        """Whether the service answers, as another item shows; else `item` is put off. One thread at a time asks."""
        witness = self.witness
        if witness is None or witness == item:
            return True
        if not self._one_at_a_time.acquire(blocking=False):
            with self._changed:
                self._changed.wait(_TURN_SECONDS)
            self._again(item, attempt, 0)
            return False
        try:
            self._read(witness)
        except BreakerOpen as error:
            self._failed(item, attempt, error)
            return False
        except Exception:  # it is no witness any more; the item itself tells then
            self.witness = None
        else:
            if self._down_since is not None:
                self._up_again()
        finally:
            self._one_at_a_time.release()
        return True

    @property
    def waits_for(self) -> str | None:
        """What the reading waits for, in words for whoever follows it; None while it goes on as usual."""
        if self._down_since is not None:
            return f"waiting for {self._down}, which is taken to be down"
        if self._later and not self._pending:
            return "trying again what could not be read"
        return None

    def _finish(self, item: Item, value: Value | Unreadable) -> None:
        self._deliver(item, value)
        with self._changed:
            self._left -= 1
            if self._closed and not self._left:
                self._changed.notify_all()
                self._limit.wake()

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
                now = time.perf_counter()
                if self._due <= now:
                    return self._pop_later()
                if self._over():
                    return None
                self._changed.wait(self._later[0][0] - now if self._later else None)

    def _overdue(self) -> tuple[Item, int]:
        """An item whose time to be tried again has come; raises `IndexError` where another thread took it."""
        with self._changed:
            if self._due > time.perf_counter():
                return self._pending.popleft()
            return self._pop_later()

    def _pop_later(self) -> tuple[Item, int]:
        _, _, item, attempt = heapq.heappop(self._later)
        self._due = self._later[0][0] if self._later else math.inf
        return item, attempt

    def _failed(self, item: Item, attempt: int, error: Exception) -> None:
        if isinstance(error, BreakerOpen) and self._worth_waiting(error.service) and not self._stopped:
            self._limit.pause(_BREAKER_PAUSE_SECONDS)
            self._again(item, attempt, _BREAKER_PAUSE_SECONDS)
            return
        if self._down_since is not None and not isinstance(error, BreakerOpen):
            self._up_again()  # it was asked, whatever it answered
        again_in = seconds_to_retry(error, attempt)
        if again_in is None or self._stopped:
            self._finish(item, why_unreadable(error))
        else:
            self._again(item, attempt + 1, again_in)

    def _worth_waiting(self, service: str) -> bool:
        """Whether a service that is down was waited for less than `outage_seconds` in all."""
        now = time.monotonic()
        with self._changed:
            if self._down_since is None:
                self._down, self._down_since = service, now
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


def ticking(answers: SimpleQueue[Value], tick: Callable[[str | None], None], *readings: Reading[Any, Any]) -> Value:
    """The next of `answers`; `tick` is called now and then while none has come, and may end the wait by raising.

    It is told what the `readings` wait for, None while they go on as usual.
    """
    while True:
        try:
            return answers.get(timeout=_TICK_SECONDS)
        except Empty:
            tick(next((each.waits_for for each in readings if each.waits_for), None))


def why_unreadable(error: Exception) -> Unreadable:
    """An error as the reason that is reported; only errors of this program's own kinds tell their text."""
    if isinstance(error, UpstreamError):
        return Unreadable(str(error), network=error.status is None)
    if isinstance(error, SyncError):
        return Unreadable(str(error), network=isinstance(error, BreakerOpen))
    return Unreadable(f"unexpected {type(error).__name__}", network=False)
