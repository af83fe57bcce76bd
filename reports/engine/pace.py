"""How many calls may be under way to one service: as many as allowed while all is well, fewer when it struggles."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: So many refusals within `BURST_SECONDS` are a burst; a single one is an accident.
BURST = 3
BURST_SECONDS = 1.0
#: Refusals among so many answers for each are those of single records, no sign of a service with too much to do.
RARE = 20
#: A service is slow when its answers take so many times as long as when all was well, and a good part of a second
#: longer.
SLOW_FACTOR = 4.0
SLOW_SECONDS = 0.25
#: After each change the service is given time to settle before the next one.
SETTLE_SECONDS = 1.0
#: The way back to the full number is made in so many steps.
STEPS_BACK = 8
LONGEST_PAUSE_SECONDS = 60.0
_SMOOTHING = 0.05
_WARM_UP_ANSWERS = 20


class Pace:
    """The number of workers that may call one service now. Safe to share between threads.

    It starts at `maximum` and never exceeds it, halves on bursts of refusals (429, 503, 500) and on slow answers,
    stands still for as long as `Retry-After` says, and comes back step by step.
    """

    def __init__(self, maximum: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.maximum = maximum
        #: Workers whose number is below this may work; read without a lock in the hot path.
        self.allowed = maximum
        #: When the service may be called again; 0 when it may now. Read without a lock in the hot path.
        self.paused_until = 0.0
        self.lowest = maximum
        self._monotonic = monotonic
        self._changed = threading.Condition()
        #: When the last refusals came, and how many calls had been answered by then.
        self._refusals: deque[tuple[float, int]] = deque(maxlen=BURST)
        self._settled_at = 0.0
        self._answers = 0
        self._smoothed = 0.0
        self._usual = 0.0

    def answered(self, seconds: float) -> None:
        """Tells that a call was answered, and after how long."""
        self._answers += 1
        if self._answers <= _WARM_UP_ANSWERS:
            self._smoothed += (seconds - self._smoothed) / self._answers
            self._usual = self._smoothed
            return
        self._smoothed += _SMOOTHING * (seconds - self._smoothed)
        if self._smoothed < self._usual:
            self._usual = self._smoothed
        if self._smoothed > SLOW_FACTOR * self._usual and self._smoothed > self._usual + SLOW_SECONDS:
            self._halve()
        elif self.allowed < self.maximum:
            self._come_back()

    def refused(self, retry_after: float | None = None) -> None:
        """Tells that the service has too much to do; `retry_after` is the wait it asked for, in seconds."""
        now = self._monotonic()
        with self._changed:
            if retry_after:
                self.paused_until = max(self.paused_until, now + min(retry_after, LONGEST_PAUSE_SECONDS))
            self._refusals.append((now, self._answers))
            began, answers = self._refusals[0]
            together = now - began <= BURST_SECONDS and self._answers - answers < BURST * RARE
            burst = len(self._refusals) == BURST and together
        if burst or retry_after:
            self._halve()

    def pause(self, seconds: float) -> None:
        """Stops all workers for a while: the service is taken to be down."""
        with self._changed:
            self.paused_until = max(self.paused_until, self._monotonic() + min(seconds, LONGEST_PAUSE_SECONDS))

    def wait_turn(self, number: int, given_up: Callable[[], bool]) -> None:
        """Returns when worker `number` may work, or when `given_up()`."""
        with self._changed:
            while not given_up():
                now = self._monotonic()
                if self.paused_until > now:
                    self._changed.wait(min(self.paused_until - now, 0.5))
                    continue
                self.paused_until = 0.0
                if number < self.allowed:
                    return
                self._changed.wait(0.5)

    def wake(self) -> None:
        """Lets waiting workers look again."""
        with self._changed:
            self._changed.notify_all()

    def _halve(self) -> None:
        with self._changed:
            now = self._monotonic()
            if now - self._settled_at < SETTLE_SECONDS and self._settled_at:
                return
            self._set(max(1, self.allowed // 2), now)

    def _come_back(self) -> None:
        now = self._monotonic()
        if now - self._settled_at < SETTLE_SECONDS:
            return
        with self._changed:
            if now - self._settled_at >= SETTLE_SECONDS:
                self._set(min(self.maximum, self.allowed + max(1, self.maximum // STEPS_BACK)), now)

    def _set(self, limit: int, now: float) -> None:
        self.allowed = limit
        self.lowest = min(self.lowest, limit)
        self._settled_at = now
        self._smoothed = min(self._smoothed, SLOW_FACTOR * self._usual)
        self._refusals.clear()
        self._changed.notify_all()
