"""Keeps messages hidden while they are handled or parked, so that they are not delivered twice.

`browsing` opens a queue so that its messages can be read. The messages that have been read stay on the queue, hidden
until the `with` block ends, unless the block deletes them.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import structlog

from sync.failure_log import FailureLog
from sync.queues.queue import BATCH, Message, Queue
from sync.settings import times

_RENEWALS_IN_A_TIMEOUT = 3


class Heartbeat:
    """A context manager with a thread that renews the visibility timeouts of all tracked messages well before they end.

    `visibility_seconds`: the timeout that each renewal sets.
    """

    def __init__(self, queue: Queue, visibility_seconds: int) -> None:
        self._queue = queue
        self._seconds = visibility_seconds
        self._lock = threading.Lock()
        self._tracked: dict[str, Message] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._renewing = FailureLog(
            "sync.queues.heartbeat", "visibility-not-renewed", "visibility-renewed-again", queue=queue.name
        )
        self._log = structlog.get_logger("sync.queues.heartbeat")

    def track(self, messages: Iterable[Message]) -> None:
        """Keeps `messages`, which must have just been received, hidden until they are released."""
        with self._lock:
            self._tracked.update((message.receipt_handle, message) for message in messages)

    def release(self, messages: Iterable[Message]) -> None:
        """Stops renewing the timeouts of `messages`.

        Call this before deleting the messages or changing their visibility. Waits for any renewal that is under way, so
        that the renewal cannot undo such a change.
        """
        with self._lock:
            for message in messages:
                self._tracked.pop(message.receipt_handle, None)

    def release_all(self) -> None:
        """Stops renewing the timeouts of all messages."""
        with self._lock:
            self._tracked.clear()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {self._queue.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._stopping.wait(self._seconds / _RENEWALS_IN_A_TIMEOUT):
            with self._lock:
                tracked = list(self._tracked.values())
            for start in range(0, len(tracked), BATCH):
                try:
                    self._renew(tracked[start : start + BATCH])
                except Exception:  # whatever the error is, the next renewal must take place
                    self._log.exception("heartbeat-failed", queue=self._queue.name)

    def _renew(self, batch: list[Message]) -> None:
        # Messages are renewed under the lock, so that none is renewed after its release, but in batches, so that
        # `release` does not wait for long.
        with self._lock:
            batch = [message for message in batch if message.receipt_handle in self._tracked]
            failed = self._queue.change_visibility(batch, self._seconds) if batch else []
        if failed:
            self._renewing.failed("SQS did not accept the change", len(failed))
        elif batch:
            self._renewing.worked()


#: How long a receive waits, in seconds, while fewer messages have come than the queue reported.
_LONG_POLL_SECONDS = 1


class Browse:
    """Reads messages from a queue, and keeps them in `messages`, by message id.

    Messages that are not deleted become visible again when `browsing` ends.
    """

    def __init__(self, queue: Queue, heartbeat: Heartbeat) -> None:
        self._queue = queue
        self._heartbeat = heartbeat
        self.messages: dict[str, Message] = {}
        self.deleted: set[str] = set()

    def receive(self, most: int | None = None, seconds: float | None = None) -> Iterator[list[Message]]:
        """Yields new messages a few at a time, until none are left, `most` have been read, or `seconds` have passed.

        None means no limit. Makes at least one receive, however small `seconds` is. Raises `QueueUnavailable`.
        """
        end = None if seconds is None else time.monotonic() + seconds
        expected = self._queue.counts().visible
        while most is None or len(self.messages) < most:
            size = BATCH if most is None else min(BATCH, most - len(self.messages))
            wait = _LONG_POLL_SECONDS if len(self.messages) < expected else 0
            received = self._queue.receive(size, wait, times.DEAD_LETTER_VISIBILITY_SECONDS)
            self._heartbeat.track(received)
            new = [message for message in received if message.message_id not in self.messages]
            # If SQS delivers a message twice, only the later receipt handle is valid.
            self.messages.update((message.message_id, message) for message in received)
            if not new:
                return
            yield new
            if end is not None and time.monotonic() >= end:
                return

    def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Deletes messages. Returns those that SQS did not delete.

        These become visible again when their visibility timeouts end.
        """
        self.deleted.update(message.message_id for message in messages)
        self._heartbeat.release(messages)
        return self._queue.delete(messages)

    def release(self, messages: Sequence[Message]) -> None:
        """Makes messages visible again before `browsing` ends. Call this only once nothing more is received."""
        for message in messages:
            self.messages.pop(message.message_id, None)
        self._heartbeat.release(messages)
        self._queue.change_visibility(messages, 0)


@contextmanager
def browsing(queue: Queue) -> Iterator[Browse]:
    """Opens `queue` for reading in the `with` block. Messages that are not deleted are visible again afterwards."""
    browse = None
    try:
        with Heartbeat(queue, times.DEAD_LETTER_VISIBILITY_SECONDS) as heartbeat:
            browse = Browse(queue, heartbeat)
            yield browse
    finally:
        ids = set() if browse is None else browse.messages.keys() - browse.deleted
        rest = [] if browse is None else [browse.messages[message_id] for message_id in ids]
        if queue.change_visibility(rest, 0):
            structlog.get_logger("sync.queues.heartbeat").warning(
                "messages-still-hidden", queue=queue.name, seconds=times.DEAD_LETTER_VISIBILITY_SECONDS
            )
