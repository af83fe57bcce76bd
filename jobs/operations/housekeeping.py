"""The dead letter queues: looked at, sent back by hand, and sent back every ten minutes by the housekeeping."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from jobs.cli.exit_codes import UsageError, WorkError, one_line
from jobs.operations.acting import recorded_action
from jobs.operations.drain import ALERT_SECONDS, send_waiting
from jobs.runtime.application import Application
from jobs.runtime.job_runs import ActiveRun, Trigger
from jobs.runtime.logging import bound
from sync import clock
from sync.failures import SyncError
from sync.queues.dead_letters import DeadLetter, DeadLetterQueue, RetryResult
from sync.queues.queue import QueueCounts
from sync.repair.dead_letter_report import Diagnosis, diagnose, not_chosen
from sync.repair.giving_up import Housekeeping
from sync.settings.declaration import QUEUES
from sync.store.failures import forget_redrives
from sync.store.findings import resolve_expired

JOB = "dlq-housekeeping"
#: So many messages are looked at to find the oldest.
_LOOKED_AT = 100
#: SQS keeps a message for fourteen days at most.
_FORGOTTEN_AFTER = timedelta(days=30)
_KEPT_BY_SQS = timedelta(days=15)
#: So many messages of a queue are looked at by one run of the housekeeping.
_MOST_LETTERS = 10_000

Result = TypeVar("Result")


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
    """What a re-drive of all dead letter queues did.

    `given_up`: how many messages of each queue were newly given up. `errors`: the queues where something failed, with
    the reason.
    """

    results: dict[str, RetryResult] = field(default_factory=dict)
    given_up: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """The result as the ledger keeps it."""
        return {
            "found": sum(result.found for result in self.results.values()),
            "retried": sum(len(result.retried) for result in self.results.values()),
            "left": sum(len(result.left) for result in self.results.values()),
            "givenUp": sum(self.given_up.values()),
            "queues": {
                name: {"found": each.found, "retried": len(each.retried)} for name, each in self.results.items()
            },
            "errors": dict(self.errors),
        }


def dead_letter_queue(application: Application, queue: str) -> DeadLetterQueue:
    """The dead letter queue of a queue id. Raises `QueueUnavailable`."""
    return DeadLetterQueue(
        queue,
        application.queue_pair(queue),
        application.database,
        application.telemetry,
        lambda owner: application.queue_pair(owner).main,
    )


def look_at_all(application: Application) -> tuple[list[DlqState], dict[str, str]]:
    """Every dead letter queue at a glance, and those that could not be looked at, and why."""
    states, errors = _of_each_queue(lambda queue: _state(application, queue))
    return list(states.values()), errors


def diagnosed(application: Application, queue: str, beginning: str | None, most: int) -> list[Diagnosis]:
    """The messages of a dead letter queue with what is known of them: all, or those whose id begins so.

    Raises `UsageError` when none does.
    """
    letters = dead_letter_queue(application, queue).look(None if beginning else most)
    if beginning:
        letters = [letter for letter in letters if letter.message.message_id.startswith(beginning)]
        if not letters:
            raise UsageError(f"the dead letter queue of {queue} holds no message {beginning}")
    return diagnose(application.database, queue, letters)


def chosen_ids(queue: str, letters: Sequence[DeadLetter], named: Collection[str]) -> set[str]:
    """The ids of the messages that are named, each by its id or so much of its beginning that it is the only one.

    Raises `UsageError` for a name that fits none of `letters`, or several.
    """
    return {_chosen_id(queue, [letter.message.message_id for letter in letters], name) for name in named}


def _chosen_id(queue: str, ids: Sequence[str], name: str) -> str:
    fitting = [name] if name in ids else [each for each in ids if name and each.startswith(name)]
    if not fitting:
        raise UsageError(f"the dead letter queue of {queue} holds no message {name}")
    if len(fitting) > 1:
        raise UsageError(f"{len(fitting)} messages begin with {name}: {', '.join(fitting[:5])}; give more of the id")
    return fitting[0]


def retry_by_hand(
    application: Application, queue: str, named: Collection[str], who: str, *, recoverable_only: bool
) -> RetryResult:
    """Sends messages back (all, or those that are `named`), however often they came back before, and records it.

    Raises `UsageError` when a named message is not there, before anything is sent; `WorkError` when it went meanwhile;
    and `QueueUnavailable`.
    """
    dlq = dead_letter_queue(application, queue)
    ids = chosen_ids(queue, dlq.look(), named) if named else set[str]()
    with recorded_action(application, who, "dlq retry", dlq.name, {"named": sorted(ids)}) as ongoing:
        result = dlq.retry(not_chosen(application.database, queue, ids, recoverable_only=recoverable_only), who)
        ongoing.details |= {
            "messages": [letter.message.message_id for letter in result.retried],
            "recoverableOnly": recoverable_only,
            "left": len(result.left),
        }
        ongoing.outcome = f"{len(result.retried)} of {result.found} messages sent back"
    seen = {letter.message.message_id for letter in (*result.retried, *(each.letter for each in result.left))}
    if missing := ids - seen:
        raise WorkError(f"went from the dead letter queue of {queue} meanwhile: {', '.join(sorted(missing))}")
    if failed := [each.reason for each in result.left if each.failed]:
        raise WorkError(f"{len(result.retried)} messages were sent back; {len(failed)} were not: {failed[0]}")
    return result


def would_be_retried(
    application: Application, queue: str, named: Collection[str], *, recoverable_only: bool
) -> list[DeadLetter]:
    """What `retry_by_hand` would send back. Raises `UsageError` when a named message is not there."""
    letters = dead_letter_queue(application, queue).look()
    ids = chosen_ids(queue, letters, named)
    left = not_chosen(application.database, queue, ids, recoverable_only=recoverable_only)(letters)
    return [letter for letter in letters if letter.message.message_id not in left]


def would_be_housekept(application: Application) -> tuple[dict[str, list[DeadLetter]], dict[str, str]]:
    """What a housekeeping run would send back, by queue, and the queues that could not be looked at, and why."""
    return _of_each_queue(lambda queue: _worth_sending(application, queue))


def _worth_sending(application: Application, queue: str) -> list[DeadLetter]:
    letters = dead_letter_queue(application, queue).look(_MOST_LETTERS)
    left = _housekeeping_of(application, queue).why_left(letters)
    return [letter for letter in letters if letter.message.message_id not in left]


def _housekeeping_of(application: Application, queue: str) -> Housekeeping:
    return Housekeeping(application.database, queue, application.settings.housekeeping_max_returns, clock.now())


def run_housekeeping(
    application: Application,
    *,
    show: Callable[[HousekeepingResult], None] = lambda _: None,
    trigger: Trigger = Trigger.MANUAL,
    rerun_of: str | None = None,
) -> HousekeepingResult:
    """A re-drive of all dead letter queues as a run of the ledger, with its alerts sent at the end.

    `show` is given the result, also where something failed. Raises `WorkError` then.
    """
    result = HousekeepingResult()
    with (
        application.job_runs.run(JOB, {}, trigger=trigger, rerun_of=rerun_of) as active_run,
        bound(run_id=active_run.id),
    ):
        try:
            housekeep(application, active_run, result)
        finally:
            send_waiting(application, ALERT_SECONDS)
            show(result)
    return result


def housekeep(
    application: Application,
    active_run: ActiveRun,
    result: HousekeepingResult,
    asked: Callable[[], bool] = lambda: False,
) -> None:
    """Sends back what a retry may heal, queue by queue, and records in `result` what was sent and given up.

    The counts go into `active_run`. Stops before the next queue once `asked` returns true. A message or queue that
    fails does not stop the others; `WorkError` is raised at the end if there was one.
    """

    def keep(queue: str) -> None:
        if asked():
            return
        housekeeping = _housekeeping_of(application, queue)
        done = result.results[queue] = dead_letter_queue(application, queue).retry(
            housekeeping.why_left, most=_MOST_LETTERS
        )
        unrecorded = housekeeping.record(application.telemetry)
        result.given_up[queue] = housekeeping.given_up - unrecorded
        problems = [each.reason for each in done.left if each.failed] + ["no finding could be recorded"] * unrecorded
        if problems:
            raise WorkError(f"{len(problems)} messages failed: {problems[0]}")

    result.errors |= _of_each_queue(keep)[1]
    application.telemetry.flush()
    active_run.counts |= result.counts()
    with application.database.begin() as connection:
        forget_redrives(connection, clock.now() - _FORGOTTEN_AFTER)
        resolve_expired(connection, clock.now() - _KEPT_BY_SQS)
    if result.errors:
        raise WorkError(problems_text(result.errors))


def problems_text(errors: Mapping[str, str]) -> str:
    """What went wrong with each queue, on one line."""
    return "; ".join(f"{queue}: {reason}" for queue, reason in errors.items())


def _of_each_queue(work: Callable[[str], Result]) -> tuple[dict[str, Result], dict[str, str]]:
    """What `work` gave for each queue; one that fails is named with its reason, and stops no other."""
    results: dict[str, Result] = {}
    errors: dict[str, str] = {}
    for queue in QUEUES:
        try:
            results[queue] = work(queue)
        except (SyncError, WorkError) as error:
            errors[queue] = one_line(error)
        except Exception as error:
            structlog.get_logger("jobs.operations.housekeeping").exception("dead-letter-queue-failed", queue=queue)
            errors[queue] = type(error).__name__
    return results, errors


def _state(application: Application, queue: str) -> DlqState:
    pair = application.queue_pair(queue)
    counts = pair.dlq.counts()
    letters = dead_letter_queue(application, queue).look(_LOOKED_AT) if counts.visible else []
    sent = [letter.message.sent_at for letter in letters if letter.message.sent_at is not None]
    types: dict[str, int] = {}
    for letter in letters:
        types[letter.type] = types.get(letter.type, 0) + 1
    return DlqState(queue, pair.dlq.name, counts, min(sent, default=None), types)
