"""The dead letter queues: looked at, sent back by hand, and sent back every ten minutes by the housekeeping."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from jobs.acting import who_acts
from jobs.composition import Program
from jobs.endings import UsageError, WorkError, one_line
from jobs.ledger import RunInHand, Trigger
from jobs.logging import bound
from sync import clock
from sync.diagnosis import Diagnosis, diagnose, not_chosen, over_the_limit
from sync.failures import SyncError
from sync.queues.dead_letters import DeadLetter, DeadLetterQueue, RetryResult
from sync.queues.queue import QueueCounts
from sync.settings import QUEUES
from sync.store.actions import record_action
from sync.store.returns import forget_returns

JOB = "dlq-housekeeping"
#: So many messages are looked at to find the oldest.
_LOOKED_AT = 100
#: SQS keeps a message for fourteen days at most.
_FORGOTTEN_AFTER = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class DlqState:
    """A dead letter queue at a glance. `oldest` is when its oldest message (among those looked at) was first sent."""

    queue: str
    dlq_name: str
    counts: QueueCounts
    oldest: datetime | None
    types: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """The state as JSON shows it."""
        return {
            "queue": self.queue,
            "dlqName": self.dlq_name,
            "messagesOnDlq": self.counts.visible,
            "messagesInFlight": self.counts.in_flight,
            "oldest": None if self.oldest is None else self.oldest.isoformat(timespec="seconds"),
            "types": dict(self.types),
        }


@dataclass(slots=True)
class HousekeepingResult:
    """What a re-drive of all dead letter queues did; `errors` has the queues that could not be worked, and why."""

    results: dict[str, RetryResult] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """The result as the ledger keeps it."""
        return {
            "found": sum(result.found for result in self.results.values()),
            "retried": sum(len(result.retried) for result in self.results.values()),
            "left": sum(len(result.left) for result in self.results.values()),
            "queues": {
                name: {"found": each.found, "retried": len(each.retried)} for name, each in self.results.items()
            },
            "errors": dict(self.errors),
        }


def read_queue(name: str) -> str:
    """One of the queue ids. Raises `UsageError` for any other name."""
    if name not in QUEUES:
        raise UsageError(f"there is no queue {name}; QUEUE is one of {', '.join(QUEUES)}")
    return name


def dead_letter_queue(program: Program, queue: str) -> DeadLetterQueue:
    """The dead letter queue of a queue id. Raises `QueueUnavailable`."""
    return DeadLetterQueue(queue, program.queue_pair(queue), program.database, program.telemetry)


def look_at_all(program: Program) -> list[DlqState]:
    """Every dead letter queue at a glance. Raises `QueueUnavailable`."""
    return [_state(program, queue) for queue in QUEUES]


def diagnosed(program: Program, queue: str, message_id: str | None, most: int) -> list[Diagnosis]:
    """The messages of a dead letter queue with what is known of them. Raises `UsageError` for an unknown message."""
    letters = dead_letter_queue(program, queue).look(None if message_id else most)
    if message_id:
        letters = [letter for letter in letters if letter.message.message_id.startswith(message_id)]
        if not letters:
            raise UsageError(f"the dead letter queue of {queue} holds no message {message_id}")
    return diagnose(program.database, queue, letters)


def retry_by_hand(program: Program, queue: str, message_ids: Collection[str], *, recoverable_only: bool) -> RetryResult:
    """Sends messages back, however often they came back before, and records who did it.

    Raises `QueueUnavailable`, and `UsageError` for messages that are not there.
    """
    chosen = not_chosen(program.database, queue, message_ids, recoverable_only=recoverable_only)
    result = dead_letter_queue(program, queue).retry(chosen)
    seen = {letter.message.message_id for letter in (*result.retried, *(each.letter for each in result.left))}
    details = {
        "messages": [letter.message.message_id for letter in result.retried],
        "recoverableOnly": recoverable_only,
        "left": len(result.left),
    }
    with program.database.begin() as connection:
        outcome = f"{len(result.retried)} of {result.found} messages sent back"
        record_action(connection, who_acts(), "dlq retry", result.dlq_name, details, outcome)
    if missing := set(message_ids) - seen:
        raise UsageError(f"the dead letter queue of {queue} holds no message {', '.join(sorted(missing))}")
    return result


def would_be_retried(
    program: Program, queue: str, message_ids: Collection[str], *, recoverable_only: bool
) -> list[DeadLetter]:
    """What `retry_by_hand` would send back."""
    letters = dead_letter_queue(program, queue).look()
    left = not_chosen(program.database, queue, message_ids, recoverable_only=recoverable_only)(letters)
    return [letter for letter in letters if letter.message.message_id not in left]


def run_housekeeping(
    program: Program, *, trigger: Trigger = Trigger.MANUAL, rerun_of: str | None = None
) -> HousekeepingResult:
    """A re-drive of all dead letter queues as a run of the ledger. Raises `WorkError` when a queue was out of reach."""
    with program.ledger.run(JOB, {}, trigger=trigger, rerun_of=rerun_of) as in_hand, bound(run_id=in_hand.id):
        return housekeep(program, in_hand)


def housekeep(program: Program, in_hand: RunInHand, asked: Callable[[], bool] = lambda: False) -> HousekeepingResult:
    """Sends back what did not come back too often, queue by queue; its counts are put into `in_hand`.

    Ends before the next queue once `asked` says so. One queue that is out of reach does not stop the others. Raises
    `WorkError` at the end when there was one.
    """
    result = HousekeepingResult()
    for queue in QUEUES:
        if asked():
            break
        limit = over_the_limit(program.database, queue, program.settings.housekeeping_max_returns)
        try:
            result.results[queue] = dead_letter_queue(program, queue).retry(limit)
        except SyncError as error:
            result.errors[queue] = one_line(error)
    in_hand.counts |= result.counts()
    if result.errors:
        raise WorkError("; ".join(f"{queue}: {reason}" for queue, reason in result.errors.items()))
    with program.database.begin() as connection:
        forget_returns(connection, clock.now() - _FORGOTTEN_AFTER)
    return result


def purge(
    program: Program, queue: str, letters: Sequence[DeadLetter], export: Callable[[Sequence[DeadLetter]], str]
) -> tuple[int, int, str]:
    """Removes `letters`, which were looked at before, once `export` has them safely stored, and records who did it.

    How many were removed, how many stay that came since, and where the export is. Raises `QueueUnavailable`.
    """
    stored: list[str] = []
    only = {letter.message.message_id for letter in letters}
    dlq = dead_letter_queue(program, queue)
    removed, left = dlq.purge(only, lambda these: stored.append(export(these)))
    place = stored[0] if stored else ""
    with program.database.begin() as connection:
        details = {"messages": sorted(only), "export": place}
        record_action(connection, who_acts(), "dlq purge", dlq.name, details, f"{removed} messages removed")
    return removed, len(left), place


def _state(program: Program, queue: str) -> DlqState:
    pair = program.queue_pair(queue)
    counts = pair.dlq.counts()
    letters = dead_letter_queue(program, queue).look(_LOOKED_AT) if counts.visible else []
    sent = [letter.message.sent_at for letter in letters if letter.message.sent_at is not None]
    types: dict[str, int] = {}
    for letter in letters:
        types[letter.type] = types.get(letter.type, 0) + 1
    return DlqState(queue, pair.dlq.name, counts, min(sent, default=None), types)
