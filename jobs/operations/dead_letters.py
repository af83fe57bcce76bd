"""Reads one dead letter queue, or each in turn, for operators, and finds the reasons why the messages failed."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from jobs.errors import UsageError, WorkError
from jobs.health.remedies import QueueFailure, joined_failures, queue_failure
from jobs.runtime.application import Application
from jobs.runtime.job_runs import HOUSEKEEPING_JOB
from sync import clock
from sync.errors import SyncError
from sync.queues.queue import QueueCounts
from sync.repair.dead_letter_queue import DeadLetterQueue
from sync.repair.dead_letter_report import DeadLetterReport, SameReason, group_by_reason, report_on
from sync.repair.dead_letters import DeadLetterMessage
from sync.settings.queues import QUEUES

Result = TypeVar("Result")


def dead_letter_queue(application: Application, queue: str) -> DeadLetterQueue:
    """The dead letter queue of the queue with the id `queue`. Raises `QueueUnavailable`."""
    return DeadLetterQueue(
        queue,
        application.queue_pair(queue),
        application.database,
        application.telemetry,
        lambda owner: application.queue_pair(owner).main,
    )


def for_each_queue(
    application: Application, work: Callable[[str], Result], errors: dict[str, QueueFailure] | None = None
) -> tuple[dict[str, Result], dict[str, QueueFailure]]:
    """Calls `work` for each queue. Returns its results, and the reasons for its failures, both by queue id.

    If a queue or the database cannot be used, the reason also says what to change. A failure at one queue does not stop
    the work on the others. errors: receives each reason as soon as the work on a queue fails, so that no reason is lost
    if the work on the others is interrupted.
    """
    results: dict[str, Result] = {}
    errors = {} if errors is None else errors
    for queue in QUEUES:
        try:
            results[queue] = work(queue)
        except (SyncError, WorkError) as error:
            errors[queue] = queue_failure(application.settings, error)
        except Exception as error:
            structlog.get_logger("jobs.operations.dead_letters").exception("dead-letter-queue-failed", queue=queue)
            errors[queue] = QueueFailure(type(error).__name__)
    return results, errors


def check_errors(errors: Mapping[str, QueueFailure]) -> None:
    """If the work on any queues failed, raises a `WorkError` that names those queues, grouped by reason."""
    if errors:
        raise WorkError(joined_failures(errors))


def find_ids(queue: str, messages: Sequence[DeadLetterMessage], named: Collection[str]) -> set[str]:
    """The ids of the messages that `named` identifies, each by its id or by a prefix that no other id has.

    Raises `UsageError` if an entry of `named` matches none of `messages`, or several of them.
    """
    return {_find_id(queue, [message.message_id for message in messages], name) for name in named}


def _find_id(queue: str, ids: Sequence[str], name: str) -> str:
    fitting = [name] if name in ids else [each for each in ids if name and each.startswith(name)]
    if not fitting:
        raise UsageError(f"the dead letter queue of {queue} holds no message {name}")
    if len(fitting) > 1:
        raise UsageError(f"{len(fitting)} message ids begin with {name}: {', '.join(fitting[:5])}; give more of the id")
    return fitting[0]


#: How many of the last runs of housekeeping are examined.
_RUNS_SEEN = 3


@dataclass(frozen=True, slots=True)
class SentBack:
    """How many messages housekeeping or `dlq retry-all` recently sent back from a dead letter queue.

    at: when that run ended. until: the latest time at which the messages may still be on the main queue,
    if every attempt fails.
    """

    messages: int
    at: datetime
    until: datetime

    def as_dict(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return {
            "messages": self.messages,
            "at": self.at.isoformat(timespec="seconds"),
            "until": self.until.isoformat(timespec="seconds"),
        }


@dataclass(frozen=True, slots=True)
class DlqState:
    """A dead letter queue with the messages that were read, oldest first.

    counts: the figures that SQS gave before the messages were read. sent_back: how many messages were sent back
    recently, and until when they may still be on the main queue; None if none were.
    """

    queue: str
    dlq_name: str
    counts: QueueCounts
    reports: tuple[DeadLetterReport, ...]
    sent_back: SentBack | None

    @property
    def read(self) -> int:
        """How many messages were read."""
        return len(self.reports)

    @property
    def is_partial(self) -> bool:
        """Whether some messages were not read, for example because the time ran out or the maximum was reached."""
        return self.read < self.counts.visible

    @property
    def oldest(self) -> datetime | None:
        """When the oldest of the messages that were read was first sent, or None if that is not known."""
        sent = (report.dead_letter.sent_at for report in self.reports)
        return min((moment for moment in sent if moment is not None), default=None)

    @property
    def types(self) -> Counter[str]:
        """How many messages of each type were read."""
        return Counter(report.dead_letter.type for report in self.reports)

    @property
    def classes(self) -> Counter[str]:
        """How many messages of each failure class were read."""
        return Counter(report.failure_class.value for report in self.reports)

    @property
    def reasons(self) -> list[SameReason]:
        """The messages grouped by the reason for their failure, the largest group first."""
        return group_by_reason(self.reports)

    def as_dict(self) -> dict[str, Any]:
        """The state as a JSON object."""
        return {
            "queue": self.queue,
            "dlqName": self.dlq_name,
            "messagesOnDlq": self.counts.visible,
            "messagesInFlight": self.counts.in_flight,
            "messagesRead": self.read,
            "oldest": None if self.oldest is None else self.oldest.isoformat(timespec="seconds"),
            "types": dict(self.types),
            "classes": dict(self.classes),
            "reasons": [reason.as_dict() for reason in self.reasons],
            "sentBack": None if self.sent_back is None else self.sent_back.as_dict(),
        }


def list_dlqs(application: Application, seconds: float) -> tuple[list[DlqState], dict[str, QueueFailure]]:
    """The state of each dead letter queue that could be read, and, by queue id, why each of the others could not.

    seconds: the maximum time for reading each queue.
    """
    states, errors = for_each_queue(application, lambda queue: read_dlq(application, queue, seconds=seconds))
    return list(states.values()), errors


def read_dlq(application: Application, queue: str, most: int | None = None, seconds: float | None = None) -> DlqState:
    """Reads one dead letter queue: at most `most` messages, for at most `seconds`; None sets no limit.

    Raises `QueueUnavailable` and `StoreUnavailable`.
    """
    dlq = dead_letter_queue(application, queue)
    counts = application.queue_pair(queue).dlq.counts()
    messages = dlq.peek(most, seconds) if counts.visible else []
    reports = tuple(report_on(application.database, queue, messages))
    return DlqState(queue, dlq.name, counts, reports, _just_sent_back(application, queue))


def find_message(state: DlqState, prefix: str) -> Sequence[DeadLetterReport]:
    """The messages whose ids begin with `prefix`. Raises `UsageError` if there are none."""
    found = [each for each in state.reports if each.dead_letter.message_id.startswith(prefix)]
    if not found:
        raise UsageError(f"the dead letter queue of {state.queue} holds no message {prefix}")
    return found


def _just_sent_back(application: Application, queue: str) -> SentBack | None:
    """How many messages were sent back to `queue` by the last run of housekeeping that sent any back to it.

    None if none of the last few runs sent any back, or once each message must have been handled or moved to the dead
    letter queue again.
    """
    for run in application.job_runs.recent(_RUNS_SEEN, HOUSEKEEPING_JOB):
        counts = run.counts.get("queues", {}).get(queue, {})
        messages = int(counts.get("retried", 0))
        if run.finished_at is not None and messages:
            until = run.finished_at + _longest_retry(application, queue)
            return SentBack(messages, run.finished_at, until) if clock.now() < until else None
    return None


def _longest_retry(application: Application, queue: str) -> timedelta:
    """How long a message that always fails stays on the main queue.

    This is the sum of the waits between its attempts, plus the maximum length of one attempt.
    """
    settings = application.settings
    retries = (application.queue_pair(queue).main.max_receives() or settings.hmpps_sqs_max_receive_count) - 1
    waits = settings.queue(queue).error_visibility_timeouts
    seconds = sum(waits[min(number, len(waits) - 1)] for number in range(retries)) if waits else 0
    return timedelta(seconds=seconds + settings.hmpps_sqs_visibility_timeout_seconds)
