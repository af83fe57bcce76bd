"""Reads the messages of a queue without taking them: they are hidden meanwhile, and visible again at the end."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from sync.queues.heartbeat import Heartbeat
from sync.queues.queue import BATCH, Message, Queue
from sync.settings import times

#: The long poll for stragglers, while fewer messages have come than the queue reports.
_LONG_POLL_SECONDS = 1


class Browse:
    """The messages of a queue that have been read, by their ids. What is not deleted becomes visible again."""

    def __init__(self, queue: Queue, heartbeat: Heartbeat) -> None:
        self._queue = queue
        self._heartbeat = heartbeat
        self.messages: dict[str, Message] = {}
        self.deleted: set[str] = set()

    def receive(self, most: int | None = None, seconds: float | None = None) -> Iterator[list[Message]]:
        """Receives new messages, a few at a time, until none comes, `most` have come, or `seconds` have passed.

        At least one batch is received. Raises `QueueUnavailable`.
        """
        end = None if seconds is None else time.monotonic() + seconds
        expected = self._queue.counts().visible
        while most is None or len(self.messages) < most:
            size = BATCH if most is None else min(BATCH, most - len(self.messages))
            wait = _LONG_POLL_SECONDS if len(self.messages) < expected else 0
            received = self._queue.receive(size, wait, times.DEAD_LETTER_VISIBILITY_SECONDS)
            self._heartbeat.track(received)
            new = [message for message in received if message.message_id not in self.messages]
            # If SQS delivers a message twice, the later receipt handle is the valid one.
            self.messages.update((message.message_id, message) for message in received)
            if not new:
                return
            yield new
            if end is not None and time.monotonic() >= end:
                return

    def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Deletes messages; returns those that SQS did not delete, which come again after their visibility timeout."""
        self.deleted.update(message.message_id for message in messages)
        self._heartbeat.release(messages)
        return self._queue.delete(messages)


@contextmanager
def browsing(queue: Queue) -> Iterator[Browse]:
    """Reads the messages of `queue` in the `with` block; those that are not deleted are visible again after it."""
    browse = None
    try:
        with Heartbeat(queue, times.DEAD_LETTER_VISIBILITY_SECONDS) as heartbeat:
            browse = Browse(queue, heartbeat)
            yield browse
    finally:
        ids = set() if browse is None else browse.messages.keys() - browse.deleted
        rest = [] if browse is None else [browse.messages[message_id] for message_id in ids]
        if queue.change_visibility(rest, 0):
            structlog.get_logger("sync.queues.browse").warning(
                "messages-still-hidden", queue=queue.name, seconds=times.DEAD_LETTER_VISIBILITY_SECONDS
            )
