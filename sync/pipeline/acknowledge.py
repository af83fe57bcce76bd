"""The end of each message: deleted, or made visible again after its wait, with the cause recorded."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from sync.clock import now
from sync.domains.registry import queue_of
from sync.failures import Failure
from sync.outage_log import OutageLog
from sync.pipeline.coalesce import Task
from sync.pipeline.envelope import MAPPING_RETRY
from sync.pipeline.failure_counts import Reasons
from sync.pipeline.outcome import Outcome
from sync.queues.heartbeat import Heartbeat
from sync.queues.queue import Message, Queue
from sync.queues.requeue import WaitsFor, attributes_of_copy, pause_seconds
from sync.settings.declaration import Settings
from sync.store.database import Database, StoreUnavailable
from sync.store.failures import FailedAttempt, record_failures
from sync.store.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that came to its end. `wait_seconds` overrides the wait of the list, or that by how long it waits.

    `least_seconds`: the wait is at least as long.
    With `waits_for` its messages wait without using up their receives. `failure` is recorded, save while a creation is
    waited for: then nothing has failed yet.
    """

    task: Task
    outcome: Outcome
    failure: Failure | None = None
    wait_seconds: int | None = None
    waits_for: WaitsFor | None = None
    least_seconds: int = 0


#: Why a message may be a dead letter that was handed back.
_NO_COPY = Failure(
    "hand back", None, None, None, None, "handed back at its last receive, and no copy could be sent", recoverable=True
)

#: Told the queue id, what became of a message, and how often it had been received.
OnSettled = Callable[[str, Outcome, int], None]


class Settler:
    """Settles the messages of one queue."""

    def __init__(
        self,
        queue_name: str,
        queue: Queue,
        heartbeat: Heartbeat,
        settings: Settings,
        telemetry: Telemetry,
        database: Database,
        max_receives: Callable[[], int],
        on_settled: OnSettled | None = None,
    ) -> None:
        """`on_settled` is told of each message that came to an end; `reasons` has why attempts failed.

        `max_receives`: a message that was received so often and comes again is a dead letter.
        """
        self._name = queue_name
        self._queue = queue
        self._heartbeat = heartbeat
        self._settings = settings
        self._telemetry = telemetry
        self._database = database
        self._max_receives = max_receives
        self._on_settled = on_settled
        self.reasons = Reasons()
        self._deleting = _trouble("messages-not-deleted", "messages-deleted-again", queue_name)
        self._hiding = _trouble("visibility-not-changed", "visibility-changed-again", queue_name)
        self._copying = _trouble("copies-not-sent", "copies-sent-again", queue_name)
        self._log = structlog.get_logger("sync.pipeline.acknowledge")

    def hand_back(self, messages: Sequence[Message]) -> None:
        """Puts messages that nobody has looked at back on the queue, at once to be had by others."""
        wanted = {each.receipt_handle: (None, 0) for each in messages if each.receive_count >= self._max_receives()}
        copied = self._copy(wanted, messages)
        done = [each for each in messages if each.receipt_handle in copied]
        self._finish(done, {0: [each for each in messages if each.receipt_handle not in copied]})

    def settle(self, ended: Sequence[Ended]) -> Counter[Outcome]:
        """Records what is to be recorded, then deletes or hands back; the outcomes counted by message.

        Nothing is deleted whose telemetry is not in the database: with the database away, messages come again, and
        their effects are then found done. What nobody tried to its end, or whose failure is not recorded, is no dead
        letter: at its last receive a copy of it takes its place.
        """
        kept = self._keep(ended)
        if not kept:
            ended = [replace(end, outcome=Outcome.DEFERRED) if end.outcome.settled else end for end in ended]
        wanted = {
            message.receipt_handle: (end.waits_for, delay)
            for end in ended
            for message in end.task.messages
            if (delay := self._delay_of_copy(end, message, kept=kept)) is not None
        }
        copied = self._copy(wanted, [message for end in ended for message in end.task.messages])
        outcomes: Counter[Outcome] = Counter()
        done: list[Message] = []
        waiting: defaultdict[int, list[Message]] = defaultdict(list)
        lost: list[Ended] = []
        for end in ended:
            handles = {message.receipt_handle for message in end.task.messages}
            if handles & (wanted.keys() - copied):
                lost.append(replace(end, outcome=Outcome.FAILED, failure=end.failure or _NO_COPY, waits_for=None))
            outcome = lost[-1].outcome if lost and lost[-1].task is end.task else end.outcome
            self._count(outcomes, end.task, outcome)
            self._tell(end.task, outcome)
            for message in end.task.messages:
                if outcome.settled or message.receipt_handle in copied:
                    done.append(message)
                else:
                    waiting[self._wait(end, message)].append(message)
        if lost:
            self._keep(lost)
        self._finish(done, waiting)
        return outcomes

    def _delay_of_copy(self, end: Ended, message: Message, *, kept: bool) -> int | None:
        """When a copy is to take the place of a message, in seconds from now; None where it comes again itself."""
        if end.waits_for is not None:
            return pause_seconds(message, end.waits_for) if end.wait_seconds is None else end.wait_seconds
        unexplained = end.outcome is Outcome.DEFERRED or not (kept or end.outcome.settled)
        if unexplained and message.receive_count >= self._max_receives():
            return self._wait(end, message)
        return None

    def _copy(self, wanted: Mapping[str, tuple[WaitsFor | None, int]], messages: Sequence[Message]) -> set[str]:
        """Puts copies of messages on the queue; the receipt handles of those that are there.

        With a death before the deletion both are delivered, as SQS itself may deliver a message twice.
        """
        groups: defaultdict[tuple[WaitsFor | None, int], list[Message]] = defaultdict(list)
        for message in messages:
            if message.receipt_handle in wanted:
                groups[wanted[message.receipt_handle]].append(message)
        copied: set[str] = set()
        for (waits_for, delay), group in groups.items():
            left = self._queue.copy(group, partial(attributes_of_copy, waits_for=waits_for), delay)
            copied |= {message.receipt_handle for message in group if message not in left}
            told = {"waits_for": waits_for and waits_for.name.lower(), "messages": len(group), "seconds": delay}
            self._log.info("messages-wait", queue=self._name, **told)
            _note(self._copying, left)
        return copied

    def _keep(self, ended: Sequence[Ended]) -> bool:
        """Writes telemetry and failures; whether they are in the database."""
        try:
            failed = self._failed_attempts(ended)
            for attempt in failed:
                self.reasons.add(attempt.failure)
                self._telemetry.track("message-failed", attempt.properties())
                self._track_last(attempt)
            self._telemetry.flush()
            if failed:
                with self._database.begin() as connection:
                    record_failures(connection, failed)
        except StoreUnavailable as error:
            self._log.debug("database-unavailable", queue=self._name, reason=str(error), messages=len(ended))
            return False
        except Exception:  # a fault of one record must not keep all others from being settled
            self._log.exception("failures-not-recorded", queue=self._name, messages=len(ended))
        return True

    def _track_last(self, attempt: FailedAttempt) -> None:
        """Tracks that SQS moves a message to the dead letter queue, when this was its last attempt."""
        most = self._max_receives()
        if attempt.attempt < most:
            return
        event_type = attempt.event_type or ""
        # No text of others becomes the name of an event.
        known = event_type == MAPPING_RETRY or queue_of(event_type) is not None
        properties = {
            "queueName": self._queue.name,
            "dlqName": self._settings.queue(self._name).dlq_name,
            "messageId": attempt.message_id,
            "maxReceiveCount": most,
            "timeouts": ",".join(map(str, self._settings.event_visibility_timeouts(self._name, event_type))),
        }
        self._telemetry.track(f"{event_type if known else 'message'}-sent-to-dlq", properties)

    def _count(self, outcomes: Counter[Outcome], task: Task, outcome: Outcome) -> None:
        outcomes[outcome] += 1
        coalesced = Outcome.COALESCED if outcome.settled else outcome
        outcomes[coalesced] += len(task.coalesced)

    def _tell(self, task: Task, outcome: Outcome) -> None:
        if self._on_settled is None:
            return
        coalesced = Outcome.COALESCED if outcome.settled else outcome
        for each in task.coalesced:
            self._on_settled(self._name, coalesced, each.message.receive_count)
        self._on_settled(self._name, outcome, task.message.receive_count)

    def _wait(self, end: Ended, message: Message) -> int:
        if end.wait_seconds is not None:
            return end.wait_seconds
        waits = self._settings.event_visibility_timeouts(self._name, end.task.event_type or "")
        return max(waits[min(message.receive_count, len(waits)) - 1], end.least_seconds)

    def _finish(self, done: list[Message], waiting: dict[int, list[Message]]) -> None:
        self._heartbeat.let_go(done)
        left = self._queue.delete(done)
        # They come again when their visibility ends, and their effects are then found done.
        _note(self._deleting, left if done else None)
        for seconds, messages in waiting.items():
            self._heartbeat.let_go(messages)
            left = self._queue.change_visibility(messages, seconds)
            _note(self._hiding, left if messages else None)

    def _failed_attempts(self, ended: Sequence[Ended]) -> list[FailedAttempt]:
        return [
            FailedAttempt(
                time=now(),
                queue=self._name,
                message_id=task.message.message_id,
                sns_message_id=task.sns_message_id,
                event_type=task.event_type,
                entity=task.entity,
                attempt=task.message.receive_count,
                failure=end.failure,
            )
            for end in ended
            if end.failure is not None and end.waits_for is not WaitsFor.CREATION
            for task in (*end.task.coalesced, end.task)
        ]


def _trouble(begins: str, ends: str, queue_name: str) -> OutageLog:
    return OutageLog("sync.pipeline.acknowledge", begins, ends, queue=queue_name)


def _note(trouble: OutageLog, left: Sequence[Message] | None) -> None:
    """Notes for how many messages a call of SQS failed, none, or that there was no call (None)."""
    if left:
        trouble.failed("SQS did not do it", len(left))
    elif left is not None:
        trouble.worked()
