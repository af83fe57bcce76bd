"""Ends the handling of each message, and records any failure.

A message is deleted, replaced by a copy, or made visible again after a wait.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy import Connection

from sync.clock import now
from sync.domains.registry import queue_of
from sync.errors import Failure, FailureCounts, fingerprint
from sync.events.context import Outcome
from sync.events.envelope import MAPPING_RETRY
from sync.failure_log import FailureLog
from sync.pipeline.coalesce import Task
from sync.pipeline.queue_context import QueueContext
from sync.pipeline.task_end import ReturnedMessage, TaskEnd
from sync.queues.heartbeat import Heartbeat
from sync.queues.queue import Message, Queue, QueueUnavailable
from sync.queues.requeue import (
    WaitsFor,
    attributes_of_copy,
    has_waited,
    is_waiting_copy,
    pause_seconds,
    waits_since,
)
from sync.store.database import StoreUnavailable
from sync.store.failed_attempts import FailedAttempt, record_failures
from sync.store.waiting_messages import WaitingMessage, end_waits, record_waits
from sync.tracing import traced

#: The failure of a message that may become a dead letter because no copy of it could be sent.
_NOT_COPIED = Failure(
    step="return to the queue",
    service=None,
    method=None,
    path=None,
    status=None,
    reason="it was returned untried, but no copy could be sent to replace it",
    recoverable=True,
)


@dataclass(frozen=True, slots=True)
class _Copy:
    """The copy that replaces a message: what it waits for, its delay in seconds, and the service that it waits for."""

    waits_for: WaitsFor | None
    delay: int
    service: str | None = None


class Acknowledger:
    """Acknowledges the messages of one queue.

    `failures` counts the failed attempts by reason, and `deferrals` the deliveries that were deferred, by reason.
    `returned` has the messages that are on the queue again, by the key that their copies keep.
    """

    def __init__(self, queue_context: QueueContext, main: Queue, heartbeat: Heartbeat) -> None:
        self._queue_context = queue_context
        self._queue = main
        self._heartbeat = heartbeat
        self.failures = FailureCounts()
        self.deferrals: Counter[str] = Counter()
        self.returned: dict[str, ReturnedMessage] = {}
        self._max_receives: int | None = None
        self._reading_policy = self._failure_log("redrive-policy-not-read", "redrive-policy-read-again")
        self._deleting = self._failure_log("messages-not-deleted", "messages-deleted-again")
        self._hiding = self._failure_log("visibility-not-changed", "visibility-changed-again")
        self._copying = self._failure_log("copies-not-sent", "copies-sent-again")
        self._log = structlog.get_logger("sync.pipeline.acknowledge")

    def return_untried(self, messages: Sequence[Message]) -> None:
        """Returns untried messages to the queue, from which they can be received again at once.

        A copy replaces each message that is at its last receive, so that no message becomes a dead letter untried.
        """
        copied = self._send_copies([(each, _Copy(None, 0)) for each in messages if self._is_last_receive(each)])
        done = [each for each in messages if each.receipt_handle in copied]
        self._finish(done, {0: [each for each in messages if each.receipt_handle not in copied]})

    def acknowledge(self, ends: Sequence[TaskEnd]) -> Counter[Outcome]:
        """Records how tasks ended and deletes or returns their messages. Returns the number of messages by outcome.

        Copies are sent first: only then is it known which messages become dead letters, and this is recorded too.

        While the database is unavailable, no message is deleted unless a copy replaces it, because telemetry could be
        lost. The messages are delivered again, and their next handler finds any work that was done. A message that was
        not handled to the end, or whose outcome is not recorded, must not become a dead letter: at its last receive, a
        copy replaces it.
        """
        ends = [self._fail_if_copied_before(end) for end in ends]
        ends, copied = self._copy(ends)
        if not self._record(ends, copied):
            ends = [
                replace(end, outcome=Outcome.DEFERRED, was_handled=True) if end.outcome.is_final else end
                for end in ends
            ]
            ends, copied = self._copy(ends, copied, recorded=False)
        outcomes: Counter[Outcome] = Counter()
        done: list[Message] = []
        waiting: defaultdict[int, list[Message]] = defaultdict(list)
        for end in ends:
            self._count(end, outcomes, copied)
            for message in end.task.messages:
                if end.outcome.is_final or message.receipt_handle in copied:
                    done.append(message)
                else:
                    waiting[self._wait(end, message)].append(message)
        self._finish(done, waiting)
        return outcomes

    def _fail_if_copied_before(self, end: TaskEnd) -> TaskEnd:
        """Turns `end` into a failure if it has a `failure_at_last_receive` and its message is to become a dead letter.

        This message becomes a dead letter if it is at its last receive, and is a copy that has waited for a lease.
        """
        if end.failure_at_last_receive is None or not self._is_last_receive(end.task.message):
            return end
        if not has_waited(end.task.message, WaitsFor.LEASE):
            return end
        return replace(end, outcome=Outcome.FAILED, failure=end.failure_at_last_receive)

    def _copy_of(self, end: TaskEnd, message: Message, *, recorded: bool) -> _Copy | None:
        """The copy that replaces a message, or None if the message itself is deleted or delivered again.

        `recorded`: whether the effect or the failure of the message is in the database, or will be.
        """
        if end.waits_for is not None:
            return _Copy(end.waits_for, self._wait(end, message), end.awaited_service)
        must_not_die = end.outcome is Outcome.DEFERRED or not recorded
        if end.is_copied or (must_not_die and self._is_last_receive(message)):
            return _Copy(WaitsFor.LEASE if end.failure_at_last_receive else None, self._wait(end, message))
        return None

    def _copy(
        self, ends: Sequence[TaskEnd], copied: Set[str] = frozenset(), *, recorded: bool = True
    ) -> tuple[list[TaskEnd], Set[str]]:
        """Sends the copies that replace messages of `ends`; skips messages whose receipt handles are in `copied`.

        Returns the ends, and the receipt handles of all messages copied so far. If a message could not be copied, its
        end is returned as a failure.
        """
        wanted = [
            (message, copy)
            for end in ends
            for message in end.task.messages
            if message.receipt_handle not in copied
            and (copy := self._copy_of(end, message, recorded=recorded)) is not None
        ]
        sent = self._send_copies(wanted)
        not_copied = {message.receipt_handle for message, _ in wanted} - sent
        return [_failed_if(end, not_copied) for end in ends], copied | sent

    def _send_copies(self, wanted: Sequence[tuple[Message, _Copy]]) -> set[str]:
        """Sends copies of messages. Returns the receipt handles of the messages that were copied.

        If the process dies before the originals are deleted, both the originals and the copies are delivered, just as
        SQS may deliver a message twice.
        """
        groups: defaultdict[_Copy, list[Message]] = defaultdict(list)
        for message, copy in wanted:
            groups[copy].append(message)
        copied: set[str] = set()
        for copy, group in groups.items():
            attributes = partial(attributes_of_copy, waits_for=copy.waits_for, service=copy.service)
            left = self._queue.copy(group, attributes, copy.delay)
            copied |= {message.receipt_handle for message in group if message not in left}
            properties = {"waits_for": copy.waits_for and copy.waits_for.stored, "messages": len(group)}
            self._log.info("messages-wait", queue=self._queue_context.queue, **properties, seconds=copy.delay)
            _note(self._copying, left)
        return copied

    def _record(self, ends: Sequence[TaskEnd], copied: Set[str]) -> bool:
        """Writes telemetry and failures; returns False if the database is unavailable.

        `copied`: the receipt handles of the messages that a copy replaces, which do not become dead letters.
        """
        failed = [(task, self._attempt(end, task)) for end in ends if end.has_failed for task in _tasks(end)]
        last = [
            (task, attempt)
            for task, attempt in failed
            if self._is_last_receive(task.message) and task.message.receipt_handle not in copied
        ]
        try:
            for task, attempt in failed:
                self.failures.add(attempt.failure)
                with traced(task.trace):
                    self._queue_context.telemetry.track("message-failed", attempt.properties())
            self._queue_context.telemetry.flush()
            self._write_outcomes([attempt for _, attempt in failed], ends)
            if last:
                # These events are not buffered: if they cannot be written now, copies replace the messages.
                with self._queue_context.database.begin() as connection:
                    for task, attempt in last:
                        with traced(task.trace):
                            self._track_last(connection, attempt)
        except StoreUnavailable as error:
            self._log.debug(
                "database-unavailable", queue=self._queue_context.queue, reason=str(error), messages=len(ends)
            )
            return False
        except Exception:  # a fault in one record must not prevent other messages from being acknowledged
            self._log.exception("failures-not-recorded", queue=self._queue_context.queue, messages=len(ends))
        return True

    def _write_outcomes(self, attempts: Sequence[FailedAttempt], ends: Sequence[TaskEnd]) -> None:
        """Records failed attempts in the database, and which messages of `ends` wait or no longer wait.

        Raises `StoreUnavailable`; any other error is only logged.
        """
        waiting = [self._waiting(end, task, end.awaited) for end in ends if end.awaited for task in _tasks(end)]
        ended = [
            task.key
            for end in ends
            if end.outcome is not Outcome.DEFERRED
            for task in _tasks(end)
            if task.message.receive_count > 1 or is_waiting_copy(task.message)
        ]
        if not (attempts or waiting or ended):
            return
        try:
            with self._queue_context.database.begin() as connection:
                record_failures(connection, attempts)
                end_waits(connection, self._queue_context.queue, ended)
                record_waits(connection, waiting)
        except StoreUnavailable:
            raise
        except Exception:
            self._log.exception("failures-not-recorded", queue=self._queue_context.queue, messages=len(attempts))

    def _waiting(self, end: TaskEnd, task: Task, awaited: WaitsFor) -> WaitingMessage:
        return WaitingMessage(
            queue=self._queue_context.queue,
            key=task.key,
            waits_for=awaited.stored,
            service=end.awaited_service,
            reason=None if end.cause is None else fingerprint(end.cause),
            since=waits_since(task.message, awaited, end.awaited_service),
            next_attempt_at=now() + timedelta(seconds=self._wait(end, task.message)),
        )

    def _attempt(self, end: TaskEnd, task: Task) -> FailedAttempt:
        assert end.failure is not None
        return FailedAttempt(
            time=now(),
            queue=self._queue_context.queue,
            message_id=task.message.message_id,
            sns_message_id=task.sns_message_id,
            event_type=task.event_type,
            entity=task.entity,
            attempt=task.message.receive_count,
            failure=end.failure,
        )

    def _track_last(self, connection: Connection, attempt: FailedAttempt) -> None:
        """Tracks that SQS will move a message to the dead letter queue, since `attempt` was its last attempt."""
        event_type = attempt.event_type or ""
        # Text from elsewhere must not become the name of a telemetry event.
        known = event_type == MAPPING_RETRY or queue_of(event_type) is not None
        settings, queue = self._queue_context.settings, self._queue_context.queue
        properties = {
            "queueName": self._queue.name,
            "dlqName": settings.queue(queue).dlq_name,
            "messageId": attempt.message_id,
            "maxReceiveCount": self._most_receives(),
            "timeouts": ",".join(map(str, settings.event_visibility_timeouts(queue, event_type))),
        }
        name = f"{event_type if known else 'message'}-sent-to-dlq"
        self._queue_context.telemetry.track_with(connection, name, properties)

    def _is_last_receive(self, message: Message) -> bool:
        """Whether SQS will move the message to the dead letter queue instead of delivering it again."""
        return message.receive_count >= self._most_receives()

    def _most_receives(self) -> int:
        """The number of receives after which a message becomes a dead letter.

        The queue's redrive policy is read once. Until it can be read, `HMPPS_SQS_MAX_RECEIVE_COUNT` applies.
        """
        if self._max_receives is None:
            try:
                most = self._queue.max_receives()
            except QueueUnavailable as error:
                self._reading_policy.failed(str(error))
                return self._queue_context.settings.hmpps_sqs_max_receive_count
            self._reading_policy.worked()
            self._max_receives = sys.maxsize if most is None else most
        return self._max_receives

    def _count(self, end: TaskEnd, outcomes: Counter[Outcome], copied: Set[str]) -> None:
        """Counts the messages of a task in `outcomes` and the metrics, and notes whether they are on the queue again.

        `copied`: the receipt handles of the messages that a copy replaces, which do not become dead letters.
        """
        coalesced = Outcome.COALESCED if end.outcome.is_final else end.outcome
        for task, outcome in (*((each, coalesced) for each in end.task.coalesced), (end.task, end.outcome)):
            outcomes[outcome] += 1
            if outcome is Outcome.DEFERRED:
                self.deferrals[end.why_deferred] += 1
            if outcome.is_final:
                self.returned.pop(task.key, None)
            else:
                self.returned[task.key] = self._returned(end, task, copied)
            if self._queue_context.on_message_end is not None:
                self._queue_context.on_message_end(self._queue_context.queue, outcome, task.message.receive_count)

    def _returned(self, end: TaskEnd, task: Task, copied: Set[str]) -> ReturnedMessage:
        """A message of a task that ended with an outcome that is not final."""
        message, is_deferred = task.message, end.outcome is Outcome.DEFERRED
        assert is_deferred or end.failure is not None
        return ReturnedMessage(
            queue=self._queue_context.queue,
            outcome=end.outcome,
            reason=end.why_deferred if end.failure is None or is_deferred else fingerprint(end.failure),
            call_failed=is_deferred and end.has_failed,
            due_at=now() + timedelta(seconds=self._wait(end, message)),
            is_dead=message.receipt_handle not in copied and self._is_last_receive(message),
        )

    def _wait(self, end: TaskEnd, message: Message) -> int:
        """The seconds before a message of a task is delivered again, as itself or as a copy."""
        if end.wait_seconds is not None:
            return end.wait_seconds
        if end.waits_for is not None:
            return pause_seconds(message, end.waits_for, end.awaited_service)
        return max(self._queue_context.seconds_after_failure(end.task.event_type, message), end.least_seconds)

    def _finish(self, done: Sequence[Message], waiting: Mapping[int, Sequence[Message]]) -> None:
        """Deletes the messages in `done`, and hides those in `waiting`, for as many seconds as their key says."""
        self._heartbeat.release(done)
        # If SQS does not delete a message, it is delivered again, and the next handler finds that the work is done.
        if done:
            _note(self._deleting, self._queue.delete(done))
        for seconds, messages in waiting.items():
            self._heartbeat.release(messages)
            if messages:
                _note(self._hiding, self._queue.change_visibility(messages, seconds))

    def _failure_log(self, fails: str, works: str) -> FailureLog:
        return FailureLog("sync.pipeline.acknowledge", fails, works, queue=self._queue_context.queue)


def _tasks(end: TaskEnd) -> tuple[Task, ...]:
    return (*end.task.coalesced, end.task)


def _failed_if(end: TaskEnd, not_copied: Set[str]) -> TaskEnd:
    """Turns `end` into a failure if one of its messages could not be copied.

    not_copied: the receipt handles of the messages that could not be copied.
    """
    if not_copied.isdisjoint(message.receipt_handle for message in end.task.messages):
        return end
    failure = end.failure or _NOT_COPIED
    return replace(end, outcome=Outcome.FAILED, failure=failure, waits_for=None, is_copied=False)


def _note(log: FailureLog, left: Sequence[Message]) -> None:
    """Notes in `log` whether a call to SQS succeeded. `left`: the messages for which it failed."""
    if left:
        log.failed("SQS did not accept the change", len(left))
    else:
        log.worked()
