"""Lets the answers of one event loop go out one after another, with a look at what came in between."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Whoever awaits `mine` goes on in a round of the event loop of its own.

    Requests that arrive together wait for the same latency, so their waits end together, and a loop does all that is
    due before it looks at what came in. Without turns the next requests are thus read together again, and every call
    takes the latency and the work for all the others: a rhythm that no service of many threads has.
    """

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def mine(self) -> None:
        """Return when it is the caller's turn."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._next, loop)
        await turn

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = self._waiting.popleft()
        if not turn.done():
            turn.set_result(None)
        if self._waiting:
            loop.call_soon(self._next, loop)
