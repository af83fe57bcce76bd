"""The end of each message: deleted, or made visible again after its wait, with the cause recorded."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from sync.awaited import Pause, attributes_of_copy
from sync.clock import now
from sync.failures import Failure
from sync.gather import Task
from sync.outcome import Outcome
from sync.queues.heartbeat import Heartbeat
from sync.queues.queue import Message, Queue, QueueUnavailable
from sync.reasons import Reasons
from sync.settings import Settings
from sync.store.database import Database, StoreUnavailable
from sync.store.failures import FailedAttempt, record_failures
from sync.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that came to its end. `wait_seconds` overrides the wait of the list, for what is handed back.

    With `pause` its messages wait for a creation: copies of them come after it, and they are deleted.
    """

    task: Task
    outcome: Outcome
    failure: Failure | None = None
    wait_seconds: int | None = None
    pause: Pause | None = None


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
        on_settled: OnSettled | None = None,
    ) -> None:
        """`on_settled` is told of each message that came to an end; `reasons` has why attempts failed."""
        self._name = queue_name
        self._queue = queue
        self._heartbeat = heartbeat
        self._settings = settings
        self._telemetry = telemetry
        self._database = database
        self._on_settled = on_settled
        self.reasons = Reasons()
        self._log = structlog.get_logger("sync.settle")

    def settle(self, ended: Sequence[Ended]) -> Counter[Outcome]:
        """Records what is to be recorded, then deletes or hands back; the outcomes counted by message.

        Nothing is deleted whose telemetry is not in the database: with the database away, messages come again after
        their wait, and their effects are then found done.
        """
        waiting_for_creation = [end for end in ended if end.pause is not None]
        if waiting_for_creation:
            self._log.info("creations-awaited", queue=self._name, tasks=len(waiting_for_creation))
            ended = [end if end.pause is None else self._copied(end, end.pause) for end in ended]
        kept = self._keep(ended)
        done: list[Message] = []
        waiting: defaultdict[int, list[Message]] = defaultdict(list)
        outcomes: Counter[Outcome] = Counter()
        for end in ended:
            outcome = end.outcome if kept or not end.outcome.settled else Outcome.DEFERRED
            self._count(outcomes, end.task, outcome)
            self._tell(end.task, outcome)
            for message in end.task.messages:
                if outcome.settled or end.pause is not None:
                    done.append(message)
                else:
                    waiting[self._wait(end, message)].append(message)
        self._finish(done, waiting)
        return outcomes

    def _copied(self, end: Ended, pause: Pause) -> Ended:
        """Puts copies on the queue of messages that wait; where that fails, the attempt has failed.

        A copy that is there already then, or a death before the deletion, makes a second delivery: updates bear that.
        """
        try:
            for message in end.task.messages:
                self._queue.send(message.body, attributes_of_copy(message), pause.seconds)
        except QueueUnavailable as error:
            self._log.warning("copy-not-sent", queue=self._name, reason=str(error))
            return Ended(end.task, Outcome.FAILED, pause.missing)
        return end

    def _keep(self, ended: Sequence[Ended]) -> bool:
        """Writes telemetry and failures; whether they are in the database."""
        try:
            failed = self._failed_attempts(ended)
            for attempt in failed:
                self.reasons.add(attempt.failure)
                self._telemetry.track("message-failed", attempt.properties())
            self._telemetry.flush()
            if failed:
                with self._database.begin() as connection:
                    record_failures(connection, failed)
        except StoreUnavailable as error:
            self._log.error("database-away", queue=self._name, reason=str(error), messages=len(ended))
            return False
        except Exception:  # a fault of one record must not keep all others from being settled
            self._log.exception("failures-not-recorded", queue=self._name, messages=len(ended))
        return True

    def _count(self, outcomes: Counter[Outcome], task: Task, outcome: Outcome) -> None:
        outcomes[outcome] += 1
        absorbed = Outcome.COALESCED if outcome.settled else outcome
        outcomes[absorbed] += len(task.absorbed)

    def _tell(self, task: Task, outcome: Outcome) -> None:
        if self._on_settled is None:
            return
        absorbed = Outcome.COALESCED if outcome.settled else outcome
        for each in task.absorbed:
            self._on_settled(self._name, absorbed, each.message.receive_count)
        self._on_settled(self._name, outcome, task.message.receive_count)

    def _wait(self, end: Ended, message: Message) -> int:
        if end.wait_seconds is not None:
            return end.wait_seconds
        waits = self._settings.event_visibility_timeouts(self._name, end.task.event_type or "")
        return waits[min(message.receive_count, len(waits)) - 1]

    def _finish(self, done: list[Message], waiting: dict[int, list[Message]]) -> None:
        self._heartbeat.let_go(done)
        left = self._queue.delete(done)
        if left:
            # They come again when their visibility ends, and their effects are then found done.
            self._log.warning("messages-not-deleted", queue=self._name, messages=len(left))
        for seconds, messages in waiting.items():
            self._heartbeat.let_go(messages)
            left = self._queue.change_visibility(messages, seconds)
            if left:
                self._log.warning("visibility-not-changed", queue=self._name, messages=len(left))

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
            if end.failure is not None
            for task in (*end.task.absorbed, end.task)
        ]
