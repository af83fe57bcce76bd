"""Keeps messages hidden while they are in flight, parked or worked, so that none is delivered twice."""

import threading
from collections.abc import Iterable
from typing import Self

import structlog

from sync.outage_log import OutageLog
from sync.queues.queue import BATCH, Message, Queue

_RENEWALS_IN_A_TIMEOUT = 3


class Heartbeat:
    """One thread that renews the visibility of every tracked message, well before it ends.

    `visibility_seconds` is what each renewal asks for. Use as a context manager.
    """

    def __init__(self, queue: Queue, visibility_seconds: int) -> None:
        self._queue = queue
        self._seconds = visibility_seconds
        self._lock = threading.Lock()
        self._tracked: dict[str, Message] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._renewing = OutageLog(
            "sync.queues.heartbeat", "visibility-not-renewed", "visibility-renewed-again", queue=queue.name
        )
        self._log = structlog.get_logger("sync.queues.heartbeat")

    def track(self, messages: Iterable[Message]) -> None:
        """Keeps `messages` hidden from now on; they were received just before."""
        with self._lock:
            self._tracked.update((message.receipt_handle, message) for message in messages)

    def release(self, messages: Iterable[Message]) -> None:
        """Renews `messages` no longer. Call it before deleting them or changing their visibility.

        Waits for a renewal under way, so that it cannot undo the change.
        """
        with self._lock:
            for message in messages:
                self._tracked.pop(message.receipt_handle, None)

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
                except Exception:  # whatever it is, the next renewal must come
                    self._log.exception("heartbeat-failed", queue=self._queue.name)

    def _renew(self, batch: list[Message]) -> None:
        # Under the lock, so that none is renewed after its release; in batches, so that `release` does not wait long.
        with self._lock:
            batch = [message for message in batch if message.receipt_handle in self._tracked]
            failed = self._queue.change_visibility(batch, self._seconds) if batch else []
        if failed:
            self._renewing.failed("SQS did not do it", len(failed))
        elif batch:
            self._renewing.worked()
