"""Receives batches from the main queue, and pauses while a required service is unavailable."""

from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic

import structlog

from sync.failure_log import FailureLog
from sync.pipeline.outages import OutageWatch
from sync.pipeline.queue_context import DrainControl, QueueContext
from sync.queues.heartbeat import Heartbeat
from sync.queues.queue import BATCH, Message, Queue, QueueUnavailable
from sync.settings import times

#: The number of parallel receives when a queue has many messages; each returns at most ten messages.
_RECEIVERS = 4


class Receiver:
    """Receives the messages of one queue, and has the heartbeat keep them hidden."""

    def __init__(
        self, queue_context: QueueContext, main: Queue, heartbeat: Heartbeat, outage: OutageWatch, control: DrainControl
    ) -> None:
        self._queue_context = queue_context
        self._main = main
        self._heartbeat = heartbeat
        self._outage = outage
        self._control = control
        self._threads = ThreadPoolExecutor(_RECEIVERS + 1, thread_name_prefix=f"receive {queue_context.queue}")
        self._paused = False
        self._failing = FailureLog(
            "sync.pipeline.receive", "receive-failed", "receive-works-again", queue=queue_context.queue
        )
        self._log = structlog.get_logger("sync.pipeline.receive")

    def close(self) -> None:
        """Ends the threads once their receives have returned."""
        self._threads.shutdown()

    def wait_for_services(self) -> bool:
        """Waits while a required service is unavailable. Returns whether messages may be received now.

        Returns False if the drain is stopping, or if the outage has lasted for longer than the drain may wait. If the
        drain may wait without a limit, returns False after the usual pause between two batches, so that the caller can
        react.
        """
        since = monotonic()
        while not self._control.stopping:
            self._control.note_progress()
            usable = self._outage.services_usable()
            self._log_pause(paused=not usable)
            if usable:
                return True
            self._outage.note()
            if self._outage.too_long():
                return False
            self._outage.announce()
            if not self._outage.has_limit and monotonic() - since > self._queue_context.settings.drain_interval_seconds:
                return False
            self._control.wait(times.POLL_SECONDS)
        return False

    def receive_ahead(self) -> Future[list[Message]]:
        """Starts to receive the next batch in a separate thread, while the current batch is handled."""
        return self._threads.submit(self.receive_batch)

    def receive_batch(self) -> list[Message]:
        """Receives messages until a receive is empty, the batch is full, or `BATCH_RECEIVE_SECONDS` have passed.

        While a service is being tried, receives at most one message. Returns early if the drain is asked to stop.

        Raises `QueueUnavailable`. Raises `StoreUnavailable` if the database is unavailable; in that case, nothing is
        received, since a receive would only bring messages nearer to the dead letter queue.
        """
        self._queue_context.database.ping(writing=True)
        most = self._outage.most_to_receive()
        if most is not None:
            return self._receive(times.LONG_POLL_SECONDS, most)
        messages = self._receive(times.LONG_POLL_SECONDS)
        deadline = monotonic() + times.BATCH_RECEIVE_SECONDS
        more = bool(messages)
        while more and len(messages) < self._queue_context.settings.drain_batch_size and monotonic() < deadline:
            if self._control.stopping:
                break
            received = self._receive_at_once()
            messages.extend(message for some in received for message in some)
            more = all(received)
        return messages

    def _receive_at_once(self) -> list[list[Message]]:
        """Makes several receives in parallel. Returns the messages of each, or none for a failed receive.

        A failed receive does not affect the messages of the other receives. If the fault persists, receiving the next
        batch fails.
        """
        received: list[list[Message]] = []
        for receive in [self._threads.submit(self._receive, 0) for _ in range(_RECEIVERS)]:
            try:
                received.append(receive.result())
            except QueueUnavailable as error:
                self._failing.failed(str(error))
                received.append([])
            except Exception:  # whatever the error is, the other receives have messages to handle
                self._log.exception("receive-failed", queue=self._queue_context.queue)
                received.append([])
            else:
                self._failing.worked()
        return received

    def _receive(self, wait_seconds: int, most: int = BATCH) -> list[Message]:
        messages = self._main.receive(
            most, wait_seconds, self._queue_context.settings.hmpps_sqs_visibility_timeout_seconds
        )
        self._heartbeat.track(messages)
        self._control.note_progress()
        return messages

    def _log_pause(self, *, paused: bool) -> None:
        if paused == self._paused:
            return
        self._paused = paused
        down = [str(name) for name in self._queue_context.breakers.open_services(self._queue_context.upstreams)]
        event = "receiving-paused" if paused else "receiving-resumed"
        # Not a warning: a terminal would show a line for each queue, in addition to the outage itself.
        self._log.info(event, queue=self._queue_context.queue, down=down)
