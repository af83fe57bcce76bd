"""Releases an event loop's responses one at a time when they are due, so that new requests are read in between."""

from __future__ import annotations

import asyncio
from collections import deque


class ResponseTimer:
    """Lets each coroutine that awaits `at` continue at the given time, in a separate iteration of the event loop.

    Requests that arrive together have the same latency, so their waits end together. By itself, an event loop does all
    the work that is due before it reads new requests. The next requests would therefore be read together again, and
    every call would take as long as the latency plus the work for all the other calls. A real service with many threads
    does not behave like that.
    """

    def __init__(self) -> None:
        """Starts with nothing waiting."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def at(self, when: float) -> None:
        """Returns when it is the caller's turn, which is at the time `when` (by the loop's clock) or later."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        timer = loop.call_at(when, self._due, turn, loop)
        try:
            await turn
        finally:
            timer.cancel()

    def _due(self, turn: asyncio.Future[None], loop: asyncio.AbstractEventLoop) -> None:
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = self._waiting.popleft()
        if not turn.done():
            turn.set_result(None)
        if self._waiting:
            loop.call_soon(self._next, loop)


class Latency:
    """Makes calls to one service take about `seconds`, including the service's work and the imprecision of timers.

    The timers of asyncio wait for whole milliseconds, rounded up, and the work for a response takes time as well. The
    wait is therefore adjusted by a small step after each call: shortened if the call took too long, otherwise
    lengthened again. In the long run, about half of the calls take longer than `seconds`, and half take less.
    """

    _STEP_SECONDS = 0.00002
    _MOST_EARLY = 0.1

    def __init__(self, timer: ResponseTimer) -> None:
        """Starts without latency."""
        self.seconds = 0.0
        self._timer = timer
        self._early = 0.0

    async def keep(self, passed: float) -> None:
        """Waits until the response to a call that arrived `passed` seconds ago is due."""
        left = self.seconds - self._early - passed
        await self._timer.at(asyncio.get_running_loop().time() + left)

    def record_call(self, took: float) -> None:
        """Adjusts the wait by one step, given how long a call took in all (in seconds)."""
        step = self._STEP_SECONDS if took > self.seconds else -self._STEP_SECONDS
        self._early = min(max(self._early + step, 0.0), self._MOST_EARLY * self.seconds)
