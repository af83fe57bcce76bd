"""The limit of calls under way to one service, first come, first served."""

import threading
from collections import deque
from types import TracebackType


class InFlight:
    """At most `most` threads are inside the `with` of this at once; whoever leaves lets in the one who waits longest.

    A semaphore of `threading` lets in whoever comes by when a place is free: a thread that makes one call after another
    takes its own place again before those who wait have woken up, so that somebody who wants a single call among many
    busy threads gets it when they have finished.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    @property
    def waiting(self) -> int:
        """How many threads wait for a place."""
        return len(self._waiting)

    def __enter__(self) -> None:
        # Whoever hands a place over unlocks the turn of the one who gets it.
        turn = threading.Lock()
        turn.acquire()
        try:
            with self._lock:
                if self._free:
                    self._free -= 1
                    return
                self._waiting.append(turn)
            turn.acquire()
        except BaseException:
            self._give_up(turn)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            if self._waiting:
                # The place is handed over, never free in between.
                self._waiting.popleft().release()
            else:
                self._free += 1

    def _give_up(self, turn: threading.Lock) -> None:
        """Leaves the line, or the place that was handed over meanwhile."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        if not turn.locked():
            self.__exit__(None, None, None)
