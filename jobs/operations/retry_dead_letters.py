"""Sends dead letters back to their queues when an operator asks for it: all at once, or in batches.

No further batch is sent after one in which a message fails again or is not handled in time.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from jobs.errors import WorkError
from jobs.health.figures import read_breaker_states
from jobs.operations.dead_letters import dead_letter_queue, find_ids
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from jobs.runtime.job_runs import DRAIN_JOB, SCHEDULER_JOB, JobRun, RunStatus
from reports.presentation.text import count
from sync import clock
from sync.alerting import command
from sync.errors import fingerprint
from sync.queues.queue import BATCH, QueueUnavailable
from sync.queues.requeue import WaitsFor
from sync.repair.dead_letter_queue import RetriedBatch, RetryResult
from sync.repair.dead_letter_report import not_chosen
from sync.repair.dead_letters import DeadLetterMessage
from sync.settings import times
from sync.store.failed_attempts import attempts_at, last_number
from sync.store.waiting_messages import WaitingMessage, waiting_among
from sync.upstream.breaker_rules import BreakerState


class BatchState(StrEnum):
    """What happened to a batch that was sent back."""

    #: All its messages have been handled.
    HANDLED = "handled"
    #: An attempt at one of its messages failed.
    FAILED = "failed"
    #: No attempt failed, but some of its messages have not been handled.
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A batch that was sent back, and what happened to it.

    sent, waiting: the messages of the batch, and those of them that have neither failed nor been handled. failed: why
    each message that failed again did so. The keys of all three are the new SQS ids. on_queue: the total number of
    messages, at the end of the wait, on the main queues to which the batch was sent. idle: if the state is `WAITING`,
    those of these queues that nothing drained during the wait.
    """

    sent: Mapping[str, DeadLetterMessage]
    state: BatchState
    failed: Mapping[str, str]
    on_queue: int
    waiting: Mapping[str, WaitingMessage] = field(default_factory=dict)
    idle: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The batch as a JSON object."""
        return {
            "messagesRetriedCount": len(self.sent),
            "state": self.state,
            "failedAgain": [{"messageId": message_id, "reason": reason} for message_id, reason in self.failed.items()],
            "notHandled": [
                {"messageId": message_id, "waitsFor": each.waits_for, "reason": each.reason}
                for message_id, each in self.waiting.items()
            ],
            "messagesOnQueue": self.on_queue,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """Which messages of a dead letter queue to send back: all, or some.

    named: only the messages that these ids, or prefixes of ids, identify. recoverable_only: only messages that may
    succeed on a retry. limit: the maximum number of messages; the oldest of those that meet the other conditions are
    chosen.
    """

    named: Collection[str] = ()
    recoverable_only: bool = False
    limit: int | None = None


def preview_retry(application: Application, queue: str, choice: Choice) -> list[DeadLetterMessage]:
    """The messages that a retry with `choice` would send back, oldest first.

    Raises `QueueUnavailable`, and `UsageError` if a named message is not on the dead letter queue.
    """
    return _chosen(application, queue, dead_letter_queue(application, queue).peek(), choice)


def retry_messages(application: Application, queue: str, choice: Choice, who: str) -> RetryResult:
    """Sends messages back, however many times they have been redriven, and records the retry under the name `who`.

    Raises `QueueUnavailable`, and `WorkError` if a message could not be sent. If a named message is not on the dead
    letter queue, raises `UsageError` before anything is sent.
    """
    return _retry(application, queue, choice, who, BATCH, lambda _: True)


def retry_in_batches(
    application: Application,
    queue: str,
    choice: Choice,
    who: str,
    size: int,
    seconds: float,
    show: Callable[[BatchResult], None],
) -> tuple[RetryResult, list[BatchResult]]:
    """Sends messages back in batches of up to `size`, each batch once the previous batch has been handled.

    Waits up to `seconds` for each batch to be handled, and then calls `show` with the result. Stops at the first batch
    in which a message fails again or is not handled in that time. Raises what `retry_messages` raises.
    """
    done: list[BatchResult] = []
    target_of = dead_letter_queue(application, queue).target_of
    with application.database.read() as connection:
        since = last_number(connection)

    def should_continue(batch: RetriedBatch) -> bool:
        if batch.sent:
            done.append(_wait(application, target_of, batch.sent, since, seconds))
            show(done[-1])
        return not done or done[-1].state is BatchState.HANDLED

    return _retry(application, queue, choice, who, size, should_continue, is_followed=True), done


def check_batches(application: Application, queue: str, batches: Sequence[BatchResult]) -> None:
    """If the last batch was not handled, raises a `WorkError` that says why the retry stopped."""
    last = batches[-1] if batches else None
    if last is None or last.state is BatchState.HANDLED:
        return
    try:
        others = application.queue_pair(queue).dlq.counts().total
    except QueueUnavailable:
        others = 0  # Why the retry stopped matters more than how many messages are left.
    stay = f"{count(others, 'message')} left on the dead letter queue"
    stopped = f"stopped with {stay}" if others else "stopped"
    if last.state is BatchState.FAILED:
        reasons = list(dict.fromkeys(last.failed.values()))
        if number := len(last.waiting):
            reasons.append(f"{count(number, 'other message')} {'has' if number == 1 else 'have'} not been handled yet")
        raise WorkError(f"{stopped}: {count(len(last.failed), 'message')} failed again: {'; '.join(reasons)}")
    number = len(last.waiting)
    raise WorkError(
        f"{stopped}: {count(number, 'message')} {'was' if number == 1 else 'were'} not handled in time: "
        f"{'; '.join(_why_waiting(application, last))}"
    )


def _why_waiting(application: Application, batch: BatchResult) -> list[str]:
    """Why messages of a batch have not been handled: a clause for each reason, with the number of messages.

    Each clause says when the next attempt is due or, for messages that wait for their turn, what the operator can do.
    """
    groups: dict[tuple[str, str | None], list[datetime]] = {}
    for each in batch.waiting.values():
        groups.setdefault((each.waits_for, each.reason), []).append(each.next_attempt_at)
    reasons = []
    for (waits_for, reason), moments in sorted(groups.items(), key=lambda group: -len(group[1])):
        number = len(moments)
        they_wait = f"{number} {'waits' if number == 1 else 'wait'}"
        if waits_for != WaitsFor.TURN.stored:
            at = f"{min(moments).astimezone(application.settings.zone):%H:%M:%S}"
            or_later = " or later" if min(moments) < max(moments) else ""
            cause = reason or "the record is in use elsewhere"
            reasons.append(f"{they_wait} until {at}{or_later} for the next attempt ({cause})")
        elif batch.idle:
            drain = command("drain", *batch.idle)
            reasons.append(f"{they_wait} on the queue, and nothing is draining it: type `{drain}` in another shell")
        elif down := [each for each in read_breaker_states(application) if each.state is not BreakerState.CLOSED]:
            names = ", ".join(each.service for each in down)
            reasons.append(f"{they_wait} on the queue until {names} can be called again: see `{command('check')}`")
        else:
            others = max(0, batch.on_queue - len(batch.waiting))
            reasons.append(
                f"{they_wait} on the queue, with {count(others, 'other message')}: allow more time with --wait"
            )
    return reasons


def _retry(
    application: Application,
    queue: str,
    choice: Choice,
    who: str,
    size: int,
    should_continue: Callable[[RetriedBatch], bool],
    *,
    is_followed: bool = False,
) -> RetryResult:
    """Sends the chosen messages back until all are sent or `should_continue` returns False after a batch.

    Records the retry.
    """
    dlq = dead_letter_queue(application, queue)
    with ExitStack() as stack:
        listing, named, only = None, set[str](), None
        if choice.named or choice.limit is not None:
            # SQS delivers the messages in any order, so which of them to send is decided before the first one is sent.
            listing = stack.enter_context(dlq.listing())
            named = find_ids(queue, listing.dead_letters, choice.named)
            only = {each.message_id for each in _chosen(application, queue, listing.dead_letters, choice)}
        why_left = not_chosen(application.database, queue, only, recoverable_only=choice.recoverable_only)
        chosen = {"named": sorted(named), "recoverableOnly": choice.recoverable_only}
        ongoing = stack.enter_context(recorded_action(application, who, "dlq retry", dlq.name, chosen))
        result = RetryResult(queue, dlq.name)
        with closing(dlq.retry_in_batches(why_left, who, size, is_followed=is_followed, listing=listing)) as batches:
            for batch in batches:
                result = result.with_batch(batch)
                ongoing.details |= {
                    "messages": [message.message_id for message in result.retried],
                    "left": len(result.left),
                }
                if not should_continue(batch):
                    break
        if result.found:
            dlq.track_retry(result)
        ongoing.outcome = f"{len(result.retried)} of {count(result.found, 'message')} sent back"
    if failed := [each.reason for each in result.left if each.failed]:
        sent = count(len(result.retried), "message")
        raise WorkError(f"sent back: {sent}; not sent back: {count(len(failed), 'message')}: {failed[0]}")
    return result


def _chosen(
    application: Application, queue: str, messages: Sequence[DeadLetterMessage], choice: Choice
) -> list[DeadLetterMessage]:
    """Those of `messages` that a retry with `choice` would send back, oldest first."""
    only = find_ids(queue, messages, choice.named) if choice.named else None
    left = not_chosen(application.database, queue, only, recoverable_only=choice.recoverable_only)(messages)
    return [message for message in messages if message.message_id not in left][: choice.limit]


def _wait(
    application: Application,
    target_of: Callable[[DeadLetterMessage], str],
    sent: Mapping[str, DeadLetterMessage],
    since: int,
    seconds: float,
) -> BatchResult:
    """Waits until the messages in `sent` have all been handled or one of them has failed, for at most `seconds`.

    Returns what happened to them.

    target_of: returns the id of the queue to which a message was sent. since: the number of the last failed attempt
    before the messages were sent.
    """
    by_queue: dict[str, dict[str, DeadLetterMessage]] = {}
    for message_id, letter in sent.items():
        by_queue.setdefault(target_of(letter), {})[message_id] = letter
    began, deadline = clock.now(), time.monotonic() + seconds
    while True:
        # A failure is recorded together with the end of the wait, so it is known once the message no longer waits.
        waiting = _waiting(application, by_queue)
        failed = _failed_since(application, by_queue, since)
        if failed or not waiting or time.monotonic() >= deadline:
            break
        time.sleep(times.RETRY_POLL_SECONDS)
    on_queue = sum(application.queue_pair(name).main.counts().total for name in by_queue)
    if failed:
        others = {message_id: each for message_id, each in waiting.items() if message_id not in failed}
        return BatchResult(sent, BatchState.FAILED, failed, on_queue, others)
    if not waiting:
        return BatchResult(sent, BatchState.HANDLED, {}, on_queue)
    idle = tuple(name for name in by_queue if not _is_drained(application, name, began))
    return BatchResult(sent, BatchState.WAITING, {}, on_queue, waiting, idle)


def _waiting(
    application: Application, by_queue: Mapping[str, Mapping[str, DeadLetterMessage]]
) -> dict[str, WaitingMessage]:
    """Those of the sent messages that still wait on their queues, by their new ids."""
    waiting: dict[str, WaitingMessage] = {}
    with application.database.read() as connection:
        for name, sent in by_queue.items():
            found = waiting_among(connection, name, (each.key for each in sent.values()))
            waiting |= {message_id: found[each.key] for message_id, each in sent.items() if each.key in found}
    return waiting


def _is_drained(application: Application, queue: str, since: datetime) -> bool:
    """Whether a scheduler is running, or a `drain` of the queue is running or ended after `since` (aware)."""
    if application.job_runs.in_progress(SCHEDULER_JOB):
        return True
    return any(
        queue in run.parameters.get("queues", ()) and (run.status == RunStatus.RUNNING or _ended_after(run, since))
        for run in application.job_runs.recent(job=DRAIN_JOB)
    )


def _ended_after(run: JobRun, moment: datetime) -> bool:
    return run.finished_at is not None and run.finished_at >= moment


def _failed_since(
    application: Application, by_queue: Mapping[str, Mapping[str, DeadLetterMessage]], since: int
) -> dict[str, str]:
    """Why each sent message that failed again did so, by its new id.

    Only failed attempts with numbers above `since` count.
    """
    failed: dict[str, str] = {}
    with application.database.read() as connection:
        for name, sent in by_queue.items():
            ids = ((message.sns_message_id, message_id) for message_id, message in sent.items())
            found = attempts_at(connection, name, ids, after=since)
            failed |= {message_id: fingerprint(each.last.failure) for message_id, each in found.items()}
    return failed
