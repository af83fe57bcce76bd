"""Drains one queue: receives, groups, handles and acknowledges its messages.

| step | module | what it does |
| --- | --- | --- |
| receive | `receive` | receives a micro-batch; the heartbeat keeps its messages hidden from then on |
| group | `coalesce` | parses each body (`envelope`), and makes one group for each entity, in the order of the events |
| handle | `batch`, `group_runner`, `handle` | handles the groups in parallel, according to the rules of the domain |
| acknowledge | `acknowledge` | deletes finished messages, and returns failed ones to the queue after a wait |

`outages` explains what happens while a service or the database is unavailable.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from time import monotonic
from types import TracebackType
from typing import Any, Self

import structlog

from sync.errors import FailureCounts, SyncError
from sync.pipeline.acknowledge import Acknowledger
from sync.pipeline.batch import Batch
from sync.pipeline.coalesce import MessageGroup, coalesce
from sync.pipeline.outages import OnWait, OutageWatch, UpstreamsUnavailable
from sync.pipeline.queue_context import DrainControl, QueueContext
from sync.pipeline.receive import Receiver
from sync.pipeline.task_end import ReturnedMessage
from sync.queues.heartbeat import Heartbeat
from sync.queues.queue import Message, Queue
from sync.settings import times
from sync.store.database import StoreUnavailable


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """The number of deliveries in one or more batches, by outcome. Each delivery has exactly one outcome.

    A message that comes back is another delivery, so it counts again. received: the number of all deliveries. seconds:
    how long the drain took, including its waits.
    """

    queue: str
    received: int = 0
    applied: int = 0
    coalesced: int = 0
    ignored: int = 0
    duplicate: int = 0
    retry_queued: int = 0
    switched_off: int = 0
    unhandled: int = 0
    ambiguous: int = 0
    failed: int = 0
    unreadable: int = 0
    deferred: int = 0
    batches: int = 0
    seconds: float = 0.0

    def __add__(self, other: "BatchSummary") -> "BatchSummary":
        """The sum of both summaries; `queue` is "all" if their queues differ."""
        name = self.queue if self.queue == other.queue else "all"
        mine, theirs = asdict(self), asdict(other)
        return BatchSummary(name, **{key: mine[key] + theirs[key] for key in mine if key != "queue"})

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON; seconds are rounded to three decimal places."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


class Drain:
    """Drains the main queue of one domain. It is a context manager; any thread may call `stop`.

    `summary` has the outcomes of the last call to `run_batch` or `run_until_empty`, even if that call raised an error.
    `hold_seconds`: how long messages are held during an outage of a required service or the database before they are
    returned to the queue; None holds them until the outage ends. `on_wait`: called, with a line for people, when a
    drain with a limit begins to wait for an outage to end.
    """

    def __init__(
        self,
        queue_context: QueueContext,
        main: Queue,
        hold_seconds: float | None = None,
        on_wait: OnWait = lambda _line: None,
    ) -> None:
        settings = queue_context.settings
        self.queue = queue_context.queue
        self.summary = BatchSummary(self.queue)
        self._queue_context = queue_context
        self._control = DrainControl(settings.drain_grace_seconds)
        self._outage = OutageWatch(queue_context, hold_seconds, on_wait)
        self._heartbeat = Heartbeat(main, settings.hmpps_sqs_visibility_timeout_seconds)
        self._receiver = Receiver(queue_context, main, self._heartbeat, self._outage, self._control)
        self._acknowledger = Acknowledger(queue_context, main, self._heartbeat)
        self._ahead: Future[list[Message]] | None = None
        #: When to receive again after a receive in advance failed, on the monotonic clock.
        self._receive_again_at = math.inf
        #: How many batches have been handled in the current call, and the maximum for this call.
        self._batches = 0
        self._most_batches: float = 1
        self._closing = ExitStack()
        self._log = structlog.get_logger("sync.pipeline.drain")

    def __enter__(self) -> Self:
        self._closing.enter_context(self._heartbeat)
        self._closing.callback(self._receiver.close)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def stop(self) -> None:
        """Asks the drain to stop.

        The drain receives no more messages. For up to `DRAIN_GRACE_SECONDS`, it handles those that it has. Then it
        returns the rest to the queue. Groups that are ready are still started during the grace period. Parked groups
        are returned at once, except those that wait because their first event is too recent. If a service is
        unavailable, all groups that are not running are returned at once.
        """
        self._control.stop()

    @property
    def failures(self) -> FailureCounts:
        """The failed attempts since the start of the last call to `run_batch` or `run_until_empty`, by reason."""
        return self._acknowledger.failures

    @property
    def deferrals(self) -> Counter[str]:
        """The number of deferred deliveries since the start of the last call to `run_batch` or `run_until_empty`.

        They are counted by reason.
        """
        return self._acknowledger.deferrals

    @property
    def returned(self) -> Mapping[str, ReturnedMessage]:
        """The messages that the last call to `run_batch` or `run_until_empty` left on the queue.

        The keys are those of `sync.store.waiting_messages`, which the copies of a message keep.
        """
        return self._acknowledger.returned

    def seconds_since_progress(self) -> float:
        """The seconds since the drain last received or handled messages, or waited for an outage to end."""
        return self._control.seconds_since_progress()

    def run_batch(self) -> BatchSummary:
        """Drains one micro-batch and returns the outcomes of its deliveries.

        Raises `QueueUnavailable`. A drain with a limit (`hold_seconds`) raises `UpstreamsUnavailable` if an outage
        lasts for longer than the limit, or if messages were deferred and a service is not up yet. A drain without a
        limit raises `StoreUnavailable` if it cannot receive because the database is unavailable.
        """
        with self._counted(1):
            if not self._receiver.wait_for_services():
                self._end_if_too_long()
            else:
                self._work(self._receive())
                self._outage.note()
                if self._outage.has_limit and self.summary.deferred and not self._outage.all_up():
                    raise self._unavailable()
        return self.summary

    def run_until_empty(self, max_batches: int | None = None) -> BatchSummary:
        """Drains micro-batches until a receive comes back empty, or `max_batches` have been drained.

        While one batch is handled, the next is received, and its messages are handled as soon as threads are free.
        Returns the outcomes of all deliveries: a message that comes back counts again. Raises the same errors as
        `run_batch`.
        """
        with self._counted(math.inf if max_batches is None else max_batches):
            try:
                while not self._control.stopping and self._batches < self._most_batches:
                    received_now = self._ahead is None
                    if received_now and not self._receiver.wait_for_services():
                        self._end_if_too_long()
                        continue
                    messages = self._receive()
                    if not messages and received_now and (self._outage.all_up() or not self._outage.has_limit):
                        break
                    self._work(messages)
                    self._outage.note()
                    self._end_if_too_long()
            finally:
                self._return_to_queue()
        return self.summary

    @contextmanager
    def _counted(self, most_batches: float) -> Iterator[None]:
        """Resets the counts, so that a long-lived drain does not keep all failed messages. Measures how long it took.

        The summary has the seconds even if the block raises an error.
        """
        began = monotonic()
        self.summary = BatchSummary(self.queue)
        self._acknowledger.failures = FailureCounts()
        self._acknowledger.deferrals = Counter()
        self._acknowledger.returned = {}
        self._batches, self._most_batches = 0, most_batches
        self._receive_again_at = math.inf
        try:
            yield
        finally:
            self.summary = replace(self.summary, seconds=monotonic() - began)

    def _receive(self) -> list[Message]:
        """Receives the next batch, or waits for it if it is already being received.

        A drain with a limit (`hold_seconds`) also waits for the database. Raises the same errors as `run_batch`.
        """
        while True:
            ahead, self._ahead = self._ahead, None
            try:
                messages = self._receiver.receive_batch() if ahead is None else ahead.result()
            except StoreUnavailable:
                self._outage.note_database(available=False)
                if not self._outage.has_limit:
                    raise
                self._end_if_too_long()
                if self._control.stopping:
                    return []
                self._outage.announce()
                # Waiting for an outage to end does not count as a hang.
                self._control.note_progress()
                self._control.wait(times.DATABASE_POLL_SECONDS)
            else:
                self._outage.note_database(available=True)
                return messages

    def _work(self, messages: list[Message]) -> None:
        """Handles a batch and the batches that join it. Adds the outcomes of their deliveries to the summary."""
        if not messages:
            return
        before = self._batches
        batch = Batch(self._queue_context, self._acknowledger, self._outage, self._control)
        try:
            batch.run(self._groups(messages), self._more)
        except BaseException:
            # No message stays hidden for longer than its visibility timeout.
            self._heartbeat.release_all()
            raise
        finally:
            self.summary += BatchSummary(
                self.queue,
                received=batch.outcomes.total(),
                batches=self._batches - before,
                **{outcome.value: number for outcome, number in batch.outcomes.items()},
            )
        if batch.gave_up:
            raise self._unavailable()

    def _groups(self, messages: list[Message]) -> list[MessageGroup]:
        """Returns the groups of a batch, and starts to receive the next batch in the meantime."""
        self._batches += 1
        self._receive_ahead()
        return coalesce(messages, self._queue_context.domain)

    def _more(self) -> list[MessageGroup]:
        """The groups of the next batch, or none if it has not been received yet."""
        if self._ahead is None:
            self._receive_ahead()
            return []
        if not self._ahead.done():
            return []
        error = self._ahead.exception()
        if error is not None:
            self._receive_again_later(error)
            return []
        messages, self._ahead = self._ahead.result(), None
        return self._groups(messages) if messages else []

    def _receive_again_later(self, error: BaseException) -> None:
        """Receives again after a pause, because a receive in advance failed with `error`.

        If no receive has succeeded by the time the current groups end, or if `error` is not a `SyncError`, `_receive`
        raises the error.
        """
        if not isinstance(error, SyncError):
            return
        if self._receive_again_at == math.inf:
            self._receive_again_at = monotonic() + times.RECEIVE_RETRY_SECONDS
        elif monotonic() >= self._receive_again_at:
            self._receive_again_at = math.inf
            self._log.warning("receive-failed", queue=self.queue, reason=str(error))
            self._receive_ahead()

    def _receive_ahead(self) -> None:
        """Starts to receive the next batch if the drain may handle another batch and all services are up."""
        if self._batches < self._most_batches and self._outage.all_up():
            self._ahead = self._receiver.receive_ahead()

    def _end_if_too_long(self) -> None:
        """Raises `UpstreamsUnavailable` if an outage has lasted for longer than the drain may wait."""
        if self._outage.too_long():
            raise self._unavailable()

    def _unavailable(self) -> UpstreamsUnavailable:
        error = self._outage.error()
        self._outage.restart()
        return error

    def _return_to_queue(self) -> None:
        """Returns to the queue any batch received in advance, so that its messages can be received again at once."""
        if self._ahead is None:
            return
        ahead, self._ahead = self._ahead, None
        try:
            messages = ahead.result()
        except SyncError as error:
            self._log.warning("receive-failed", queue=self.queue, reason=str(error))
            return
        self._acknowledger.return_untried(messages)
