"""Keeps messages hidden while they are in hand, waiting in the batch or in work, so none is delivered twice."""

import threading
from collections.abc import Iterable
from typing import Self

import structlog

from sync.outage_log import OutageLog
from sync.queues.queue import BATCH, Message, Queue

_RENEWALS_IN_A_TIMEOUT = 3


class Heartbeat:
    """One thread that renews the visibility of every message in hand, well before it runs out.

    `visibility_seconds` is what each renewal asks for. Use as a context manager.
    """

    def __init__(self, queue: Queue, visibility_seconds: int) -> None:
        self._queue = queue
        self._seconds = visibility_seconds
        self._lock = threading.Lock()
        self._in_hand: dict[str, Message] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._renewing = OutageLog(
            "sync.queues.heartbeat", "visibility-not-renewed", "visibility-renewed-again", queue=queue.name
        )
        self._log = structlog.get_logger("sync.queues.heartbeat")

    def hold(self, messages: Iterable[Message]) -> None:
        """Covers `messages` from now on; they were received or renewed just before."""
        with self._lock:
            self._in_hand.update((message.receipt_handle, message) for message in messages)

    def let_go(self, messages: Iterable[Message]) -> None:
        """Ends the cover of `messages`. Call it before their deletion or a change of their visibility.

        A renewal under way is waited for, so that it cannot undo the change.
        """
        with self._lock:
            for message in messages:
                self._in_hand.pop(message.receipt_handle, None)

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
                in_hand = list(self._in_hand.values())
            for start in range(0, len(in_hand), BATCH):
                try:
                    self._renew(in_hand[start : start + BATCH])
                except Exception:  # whatever it is, the next beat must come
                    self._log.exception("heartbeat-broke", queue=self._queue.name)

    def _renew(self, batch: list[Message]) -> None:
        # Under the lock, so that none is renewed after it was let go; a batch at a time, so that nobody waits long.
        with self._lock:
            batch = [message for message in batch if message.receipt_handle in self._in_hand]
            failed = self._queue.change_visibility(batch, self._seconds) if batch else []
        if failed:
            self._renewing.failed("SQS did not do it", len(failed))
        elif batch:
            self._renewing.worked()
