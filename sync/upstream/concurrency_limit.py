"""Limits how many calls to one service are in flight: the maximum while the service is well, fewer while it struggles.

Each service has one limit, which all its callers in the process share. The limit increases additively and decreases
multiplicatively (AIMD), as in TCP: it halves when the service throttles calls or becomes slow, and grows back to the
maximum step by step. After an outage, it starts from a few calls and grows by one with each success.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

import structlog

#: How many throttled calls within `BURST_SECONDS` lower the limit. A single throttled call may be a coincidence.
BURST = 3
BURST_SECONDS = 1.0
#: One throttled call in this many successes is blamed on its record, and is not a sign of overload.
_RARE = 20
#: A service is slow when, for `SETTLE_SECONDS`, its responses take `_SLOW_FACTOR` times as long as usual and at least
#: `_SLOW_SECONDS` longer. A shorter period does not count, since all calls in flight look slow after a moment without
#: CPU time.
_SLOW_FACTOR = 4.0
_SLOW_SECONDS = 0.25
#: How long the service gets to settle after each change of the limit, and how long it must be slow before a change.
SETTLE_SECONDS = 1.0
#: The number of steps from 0 to the maximum when the limit grows back.
STEPS_BACK = 8
#: The limit at the end of an outage.
FIRST_IN_FLIGHT = 2
MAX_PAUSE_SECONDS = 60.0
#: How often the usual response time is measured again, since it differs between night and day.
BASELINE_SECONDS = 600.0
_SMOOTHING = 0.05
_WARM_UP_RESPONSES = 20
_POLL_SECONDS = 0.5


class ConcurrencyLimit:
    """A fair semaphore whose size adapts to the state of `service`, between 1 and `maximum`.

    It is safe to share between threads. A call is made inside a `with` block of the limit. A released slot goes to the
    thread that has waited longest. A `threading` semaphore is not fair in this way: a thread that makes one call after
    another would take its slot again before a waiting thread had woken up.

    The threads of a parallel reader do not all queue for slots, since a call by another caller would then wait until
    each of these threads had made a call. Instead, the threads are numbered from 0 and use `wait_until_allowed` before
    each call to the service.
    """

    def __init__(self, service: str, maximum: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.maximum = maximum
        #: The current limit. It is read without the lock where many calls are made.
        self.allowed = maximum
        #: When `wait_until_allowed` lets threads continue; 0 means now. It is read without the lock, like `allowed`.
        self.paused_until = 0.0
        self._monotonic = monotonic
        self._log = structlog.get_logger("sync.upstream.concurrency_limit").bind(service=service)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._in_flight = 0
        self._waiting: deque[threading.Lock] = deque()
        #: When each of the last `BURST` throttled calls happened, and how many calls had succeeded by then.
        self._throttled: deque[tuple[float, int]] = deque(maxlen=BURST)
        self._successes = 0
        self._changed_at = 0.0
        self._starting = False
        #: The smoothed response time in seconds, and its minimum since `_baseline_at`.
        self._smoothed = 0.0
        self._baseline = 0.0
        self._baseline_at = 0.0
        self._slow_since = math.inf

    @property
    def waiting(self) -> int:
        """The number of threads that are waiting for a slot."""
        return len(self._waiting)

    def __enter__(self) -> None:
        with self._lock:
            if self._in_flight < self.allowed and not self._waiting:
                self._in_flight += 1
                return
            # The thread that releases a slot unlocks the turn of the thread that gets it.
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:
            self._give_up(turn)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._in_flight -= 1
            self._admit()

    def on_success(self, seconds: float | None = None) -> None:
        """Records a successful call. `seconds` is its response time, or None if that does not show the service's speed.

        Adapts the limit to the response times.
        """
        self._successes += 1
        now = self._monotonic()
        if self._starting:
            self._grow(1, now)
        if seconds is None:
            return
        if self._successes <= _WARM_UP_RESPONSES or not self._baseline:
            self._smoothed += (seconds - self._smoothed) / min(self._successes, _WARM_UP_RESPONSES)
            self._baseline, self._baseline_at = self._smoothed, now
            return
        slow = max(_SLOW_FACTOR * self._baseline, self._baseline + _SLOW_SECONDS)
        # Cap the time of a single response, so that one very slow response does not count as much as many slow ones.
        self._smoothed += _SMOOTHING * (min(seconds, 2 * slow) - self._smoothed)
        if self._smoothed < self._baseline or now - self._baseline_at >= BASELINE_SECONDS:
            self._baseline, self._baseline_at = self._smoothed, now
        if self._smoothed > slow:
            self._slow_since = min(self._slow_since, now)
            if now - self._slow_since >= SETTLE_SECONDS:
                self._halve(now)
            return
        self._slow_since = math.inf
        if self.allowed < self.maximum:
            self._grow(max(1, self.maximum // STEPS_BACK), now, SETTLE_SECONDS)

    def on_throttled(self, retry_after: float | None = None) -> None:
        """Records a throttled call; `retry_after` is the wait that the service asks for, in seconds, if any.

        Halves the limit if the service asks for a wait, or if `BURST` calls were throttled close together.
        """
        now = self._monotonic()
        with self._lock:
            self._throttled.append((now, self._successes))
            first, successes = self._throttled[0]
            together = now - first <= BURST_SECONDS and self._successes - successes < BURST * _RARE
            burst = len(self._throttled) == BURST and together
        if retry_after:
            self.pause(retry_after)
        if burst or retry_after:
            self._halve(now)

    def restart(self) -> None:
        """Starts again with a few concurrent calls, because an outage of the service has only just ended."""
        with self._lock:
            self._starting = self.maximum > FIRST_IN_FLIGHT
            self._set(min(FIRST_IN_FLIGHT, self.maximum), self._monotonic())

    def pause(self, seconds: float) -> None:
        """Holds the threads in `wait_until_allowed` for `seconds`, but for at most `MAX_PAUSE_SECONDS`.

        Does not hold back other threads: their calls are left to the breaker.
        """
        with self._lock:
            self.paused_until = max(self.paused_until, self._monotonic() + min(seconds, MAX_PAUSE_SECONDS))

    def wait_until_allowed(self, number: int, given_up: Callable[[], bool]) -> None:
        """Returns when thread `number` of a reader may begin a call, or when `given_up` returns true."""
        with self._changed:
            while not given_up():
                now = self._monotonic()
                if self.paused_until > now:
                    self._changed.wait(min(self.paused_until - now, _POLL_SECONDS))
                    continue
                self.paused_until = 0.0
                if number < self.allowed:
                    return
                self._changed.wait(_POLL_SECONDS)

    def wake(self) -> None:
        """Makes the threads in `wait_until_allowed` check again whether their reader has given up."""
        with self._changed:
            self._changed.notify_all()

    def _halve(self, now: float) -> None:
        with self._lock:
            if self._changed_at and now - self._changed_at < SETTLE_SECONDS:
                return
            self._starting = False
            # The times measured so far belong to the old limit.
            self._smoothed = min(self._smoothed, _SLOW_FACTOR * self._baseline)
            self._slow_since = math.inf
            self._set(max(1, self.allowed // 2), now)
        self._log.info("concurrency_reduced", allowed=self.allowed)

    def _grow(self, step: int, now: float, rest: float = 0.0) -> None:
        with self._lock:
            if self.allowed == self.maximum or now - self._changed_at < rest:
                return
            self._set(min(self.maximum, self.allowed + step), now)
            if self.allowed < self.maximum:
                return
            self._starting = False
        self._log.info("concurrency_restored", allowed=self.maximum)

    def _set(self, limit: int, now: float) -> None:
        self.allowed = limit
        self._changed_at = now
        self._throttled.clear()
        self._admit()
        self._changed.notify_all()

    def _admit(self) -> None:
        """Hands free slots to the threads that have waited longest. A slot is never free while it changes hands."""
        while self._waiting and self._in_flight < self.allowed:
            self._in_flight += 1
            self._waiting.popleft().release()

    def _give_up(self, turn: threading.Lock) -> None:
        """Removes `turn` from the queue or, if it has been given a slot in the meantime, frees that slot."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        self.__exit__(None, None, None)
