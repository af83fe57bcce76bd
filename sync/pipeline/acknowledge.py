"""The end of each message: deleted, or visible again after its wait, with the cause of its failure recorded."""

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from sync.clock import now
from sync.domains.registry import queue_of
from sync.failures import Failure
from sync.outage_log import OutageLog
from sync.pipeline.coalesce import Task
from sync.pipeline.envelope import MAPPING_RETRY
from sync.pipeline.failure_counts import FailureCounts
from sync.pipeline.outcome import Outcome
from sync.pipeline.queue_context import QueueContext
from sync.queues.heartbeat import Heartbeat
from sync.queues.queue import Message, Queue, QueueUnavailable
from sync.queues.requeue import WaitsFor, attributes_of_copy, pause_seconds
from sync.store.database import StoreUnavailable
from sync.store.failures import FailedAttempt, record_failures


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended.

    failure: recorded, except while a creation is awaited, for then nothing has failed yet.
    wait_seconds: when its messages come again, instead of the configured wait.
    waits_for: its messages wait on the queue as copies, without using up their receives.
    least_seconds: its messages come again no earlier than that.
    """

    task: Task
    outcome: Outcome
    failure: Failure | None = None
    wait_seconds: int | None = None
    waits_for: WaitsFor | None = None
    least_seconds: int = 0


#: Recorded for a message that was returned untried and may become a dead letter for it.
_NOT_COPIED = Failure(
    "hand back", None, None, None, None, "handed back at its last receive, and no copy could be sent", recoverable=True
)


class Acknowledger:
    """Acknowledges the messages of one queue. `failures` counts why attempts failed."""

    def __init__(self, context: QueueContext, main: Queue, heartbeat: Heartbeat) -> None:
        self._context = context
        self._queue = main
        self._heartbeat = heartbeat
        self.failures = FailureCounts()
        self._max_receives: int | None = None
        self._reading_policy = self._outage_log("redrive-policy-not-read", "redrive-policy-read-again")
        self._deleting = self._outage_log("messages-not-deleted", "messages-deleted-again")
        self._hiding = self._outage_log("visibility-not-changed", "visibility-changed-again")
        self._copying = self._outage_log("copies-not-sent", "copies-sent-again")
        self._log = structlog.get_logger("sync.pipeline.acknowledge")

    def return_untried(self, messages: Sequence[Message]) -> None:
        """Returns messages that were not tried to the queue, where others can receive them at once."""
        copies = {each.receipt_handle: (None, 0) for each in messages if each.receive_count >= self._most_receives()}
        copied = self._send_copies(copies, messages)
        done = [each for each in messages if each.receipt_handle in copied]
        self._finish(done, {0: [each for each in messages if each.receipt_handle not in copied]})

    def acknowledge(self, ends: Sequence[TaskEnd]) -> Counter[Outcome]:
        """Records what is to be recorded, then deletes messages or returns them; the outcomes counted by message.

        Without the database nothing is deleted, for its telemetry could be lost: the messages come again, and their
        effects are then found done. A message that was not tried to its end, or whose failure is not recorded, must not
        become a dead letter: at its last receive a copy takes its place.
        """
        recorded = self._record(ends)
        if not recorded:
            ends = [replace(end, outcome=Outcome.DEFERRED) if end.outcome.is_final else end for end in ends]
        copies = {
            message.receipt_handle: (end.waits_for, delay)
            for end in ends
            for message in end.task.messages
            if (delay := self._delay_of_copy(end, message, recorded=recorded)) is not None
        }
        copied = self._send_copies(copies, [message for end in ends for message in end.task.messages])
        not_copied = copies.keys() - copied
        ends = [_failed_if(end, not_copied) for end in ends]
        if not_copied:
            self._record([end for end in ends if _handles(end.task) & not_copied])
        outcomes: Counter[Outcome] = Counter()
        done: list[Message] = []
        waiting: defaultdict[int, list[Message]] = defaultdict(list)
        for end in ends:
            self._count(end, outcomes)
            for message in end.task.messages:
                if end.outcome.is_final or message.receipt_handle in copied:
                    done.append(message)
                else:
                    waiting[self._wait(end, message)].append(message)
        self._finish(done, waiting)
        return outcomes

    def _delay_of_copy(self, end: TaskEnd, message: Message, *, recorded: bool) -> int | None:
        """In how many seconds a copy replaces a message; None for a message that comes again itself."""
        if end.waits_for is not None:
            return pause_seconds(message, end.waits_for) if end.wait_seconds is None else end.wait_seconds
        untried = end.outcome is Outcome.DEFERRED or not (recorded or end.outcome.is_final)
        if untried and message.receive_count >= self._most_receives():
            return self._wait(end, message)
        return None

    def _send_copies(self, copies: Mapping[str, tuple[WaitsFor | None, int]], messages: Sequence[Message]) -> set[str]:
        """Sends copies, wanted by receipt handle; the handles of the messages of which a copy was sent.

        A death before the deletion of the originals delivers both, as SQS itself may deliver a message twice.
        """
        groups: defaultdict[tuple[WaitsFor | None, int], list[Message]] = defaultdict(list)
        for message in messages:
            if message.receipt_handle in copies:
                groups[copies[message.receipt_handle]].append(message)
        copied: set[str] = set()
        for (waits_for, delay), group in groups.items():
            left = self._queue.copy(group, partial(attributes_of_copy, waits_for=waits_for), delay)
            copied |= {message.receipt_handle for message in group if message not in left}
            properties = {"waits_for": waits_for and waits_for.name.lower(), "messages": len(group), "seconds": delay}
            self._log.info("messages-wait", queue=self._context.queue, **properties)
            _note(self._copying, left)
        return copied

    def _record(self, ends: Sequence[TaskEnd]) -> bool:
        """Writes telemetry and failures; whether they are in the database."""
        failed = self._failed_attempts(ends)
        try:
            for attempt in failed:
                self.failures.add(attempt.failure)
                self._context.telemetry.track("message-failed", attempt.properties())
                self._track_last(attempt)
            self._context.telemetry.flush()
            if failed:
                with self._context.database.begin() as connection:
                    record_failures(connection, failed)
        except StoreUnavailable as error:
            self._log.debug("database-unavailable", queue=self._context.queue, reason=str(error), messages=len(ends))
            return False
        except Exception:  # a fault in one record must not keep the others from being acknowledged
            self._log.exception("failures-not-recorded", queue=self._context.queue, messages=len(ends))
        return True

    def _failed_attempts(self, ends: Sequence[TaskEnd]) -> list[FailedAttempt]:
        return [
            FailedAttempt(
                time=now(),
                queue=self._context.queue,
                message_id=task.message.message_id,
                sns_message_id=task.sns_message_id,
                event_type=task.event_type,
                entity=task.entity,
                attempt=task.message.receive_count,
                failure=end.failure,
            )
            for end in ends
            if end.failure is not None and end.waits_for is not WaitsFor.CREATION
            for task in (*end.task.coalesced, end.task)
        ]

    def _track_last(self, attempt: FailedAttempt) -> None:
        """Tracks that SQS moves a message to the dead letter queue, if this was its last attempt."""
        most = self._most_receives()
        if attempt.attempt < most:
            return
        event_type = attempt.event_type or ""
        # Text from elsewhere must not become the name of a telemetry event.
        known = event_type == MAPPING_RETRY or queue_of(event_type) is not None
        settings, queue = self._context.settings, self._context.queue
        properties = {
            "queueName": self._queue.name,
            "dlqName": settings.queue(queue).dlq_name,
            "messageId": attempt.message_id,
            "maxReceiveCount": most,
            "timeouts": ",".join(map(str, settings.event_visibility_timeouts(queue, event_type))),
        }
        self._context.telemetry.track(f"{event_type if known else 'message'}-sent-to-dlq", properties)

    def _most_receives(self) -> int:
        """After how many receives a message becomes a dead letter: the redrive policy of the queue, read once."""
        if self._max_receives is None:
            try:
                most = self._queue.max_receives()
            except QueueUnavailable as error:
                self._reading_policy.failed(str(error))
                return self._context.settings.hmpps_sqs_max_receive_count
            self._reading_policy.worked()
            self._max_receives = sys.maxsize if most is None else most
        return self._max_receives

    def _count(self, end: TaskEnd, outcomes: Counter[Outcome]) -> None:
        coalesced = Outcome.COALESCED if end.outcome.is_final else end.outcome
        for task, outcome in (*((each, coalesced) for each in end.task.coalesced), (end.task, end.outcome)):
            outcomes[outcome] += 1
            if self._context.on_message_end is not None:
                self._context.on_message_end(self._context.queue, outcome, task.message.receive_count)

    def _wait(self, end: TaskEnd, message: Message) -> int:
        if end.wait_seconds is not None:
            return end.wait_seconds
        waits = self._context.settings.event_visibility_timeouts(self._context.queue, end.task.event_type or "")
        return max(waits[min(message.receive_count, len(waits)) - 1], end.least_seconds)

    def _finish(self, done: Sequence[Message], waiting: Mapping[int, Sequence[Message]]) -> None:
        """Deletes what is done, and lets the others come again after so many seconds."""
        self._heartbeat.release(done)
        # What is not deleted comes again when its visibility timeout ends, and its effects are then found done.
        if done:
            _note(self._deleting, self._queue.delete(done))
        for seconds, messages in waiting.items():
            self._heartbeat.release(messages)
            if messages:
                _note(self._hiding, self._queue.change_visibility(messages, seconds))

    def _outage_log(self, fails: str, works: str) -> OutageLog:
        return OutageLog("sync.pipeline.acknowledge", fails, works, queue=self._context.queue)


def _handles(task: Task) -> set[str]:
    return {message.receipt_handle for message in task.messages}


def _failed_if(end: TaskEnd, not_copied: set[str]) -> TaskEnd:
    """The end as a failure if a message of it is among those of which no copy could be sent."""
    if not _handles(end.task) & not_copied:
        return end
    return replace(end, outcome=Outcome.FAILED, failure=end.failure or _NOT_COPIED, waits_for=None)


def _note(log: OutageLog, left: Sequence[Message]) -> None:
    """Notes whether a call of SQS succeeded, or for how many messages it failed."""
    if left:
        log.failed("SQS did not do it", len(left))
    else:
        log.worked()
