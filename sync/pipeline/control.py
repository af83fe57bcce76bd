"""What the threads of one drain share about its course: whether it is to stop, and when it last made progress."""

import threading
import time


class DrainControl:
    """Stops a drain and watches its progress. Safe to share between threads.

    `grace_seconds`: how long work in flight may go on after `stop` before its messages are returned to the queue.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._stopping = threading.Event()
        self._grace_ends = 0.0
        self._progressed_at = time.monotonic()

    def stop(self) -> None:
        """Asks the drain to stop; the first call starts the grace period."""
        if not self._stopping.is_set():
            self._grace_ends = time.monotonic() + self._grace_seconds
            self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether the drain was asked to stop."""
        return self._stopping.is_set()

    @property
    def grace_over(self) -> bool:
        """Whether it was asked to stop and the grace period has ended."""
        return self.stopping and time.monotonic() >= self._grace_ends

    def wait(self, seconds: float) -> None:
        """Waits, but not longer than until the drain is asked to stop."""
        self._stopping.wait(seconds)

    def note_progress(self) -> None:
        """Notes that a message came to its end, or that an outage is being waited for."""
        self._progressed_at = time.monotonic()

    def seconds_since_progress(self) -> float:
        """The seconds since the last progress; they grow while the drain hangs."""
        return time.monotonic() - self._progressed_at
