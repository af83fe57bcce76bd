"""Sends dead-letter messages back to their queue by hand: all at once, or in batches until a message fails again."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobs.errors import WorkError
from jobs.operations.dead_letters import dead_letter_queue, find_ids
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from reports.presentation.text import count
from sync.domains.registry import queue_of
from sync.errors import fingerprint
from sync.queues.queue import BATCH, QueueUnavailable
from sync.repair.dead_letter_queue import RetriedBatch, RetryResult
from sync.repair.dead_letter_report import not_chosen
from sync.repair.dead_letters import DeadLetterMessage
from sync.settings import times
from sync.store.failed_attempts import attempts_at, last_number


class BatchState(StrEnum):
    """What happened to a batch that was sent back."""

    #: The queue is empty, and no attempt failed.
    HANDLED = "handled"
    #: An attempt at one of its messages failed.
    FAILED = "failed"
    #: Nothing failed, and the queue is not empty.
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A batch that was sent back, and what happened to it.

    failed: the messages that failed again, by their new SQS ids, with the reason. on_queue: the number of messages on
    the main queue when the wait ended.
    """

    sent: Mapping[str, DeadLetterMessage]
    state: BatchState
    failed: Mapping[str, str]
    on_queue: int

    def as_dict(self) -> dict[str, Any]:
        """The batch as JSON shows it."""
        return {
            "messagesRetriedCount": len(self.sent),
            "state": self.state,
            "failedAgain": [{"messageId": message_id, "reason": reason} for message_id, reason in self.failed.items()],
            "messagesOnQueue": self.on_queue,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """Which messages of a dead letter queue to send back: all, or some.

    named: those with these ids. recoverable_only: those that may succeed on a retry. limit: how many messages to send
    at most.
    """

    named: Collection[str] = ()
    recoverable_only: bool = False
    limit: int | None = None


def preview_retry(application: Application, queue: str, choice: Choice) -> list[DeadLetterMessage]:
    """The messages that would be sent back.

    Raises `UsageError` if a named message is not on the dead letter queue, and `QueueUnavailable`.
    """
    messages = dead_letter_queue(application, queue).peek()
    ids = find_ids(queue, messages, choice.named)
    left = not_chosen(application.database, queue, ids, recoverable_only=choice.recoverable_only)(messages)
    return [message for message in messages if message.message_id not in left][: choice.limit]


def retry_messages(application: Application, queue: str, choice: Choice, who: str) -> RetryResult:
    """Sends messages back, however often they were redriven before, and records the retry under the name `who`.

    Raises `UsageError` if a named message is not on the dead letter queue, before anything is sent; `WorkError` if a
    named message has since left the queue; and `QueueUnavailable`.
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
    """Sends messages back in batches of `size`, each batch once the previous batch has been handled.

    It waits for a batch for up to `seconds`, and then shows the batch. It stops at the first batch that fails again or
    is not handled in that time. Raises as `retry_messages` does.
    """
    done: list[BatchResult] = []
    with application.database.read() as connection:
        since = last_number(connection)

    def go_on(batch: RetriedBatch) -> bool:
        if batch.sent:
            done.append(_wait(application, queue, batch.sent, since, seconds))
            show(done[-1])
        return not done or done[-1].state is BatchState.HANDLED

    return _retry(application, queue, choice, who, size, go_on), done


def check_batches(application: Application, queue: str, batches: Sequence[BatchResult]) -> None:
    """Raises `WorkError` that says why the retry stopped, unless the last batch was handled."""
    last = batches[-1] if batches else None
    if last is None or last.state is BatchState.HANDLED:
        return
    try:
        others = application.queue_pair(queue).dlq.counts().total
    except QueueUnavailable:
        others = 0  # Why the retry stopped matters more than how many messages are left.
    stay = f"{count(others, 'message')} {'is' if others == 1 else 'are'} on the dead letter queue"
    stopped = f"stopped, {stay}" if others else "stopped"
    if last.state is BatchState.FAILED:
        reasons = dict.fromkeys(last.failed.values())
        raise WorkError(f"{stopped}: {count(len(last.failed), 'message')} failed again: {'; '.join(reasons)}")
    raise WorkError(
        f"{stopped}: the queue still holds {count(last.on_queue, 'message')}; a service may be "
        "unavailable, or nothing drains the queue: see `prisoner-to-nomis status`"
    )


def _retry(
    application: Application,
    queue: str,
    choice: Choice,
    who: str,
    size: int,
    go_on: Callable[[RetriedBatch], bool],
) -> RetryResult:
    """Sends messages back until all are sent or `go_on` returns False after a batch, and records the retry."""
    dlq = dead_letter_queue(application, queue)
    ids = find_ids(queue, dlq.peek(), choice.named) if choice.named else set[str]()
    chosen = {"named": sorted(ids), "recoverableOnly": choice.recoverable_only}
    stopped = False
    with recorded_action(application, who, "dlq retry", dlq.name, chosen) as ongoing:
        result = RetryResult(queue, dlq.name)
        why_left = not_chosen(application.database, queue, ids, recoverable_only=choice.recoverable_only)
        with closing(dlq.retry_in_batches(why_left, who, size, limit=choice.limit)) as batches:
            for batch in batches:
                result = result.with_batch(batch)
                ongoing.details |= {
                    "messages": [message.message_id for message in result.retried],
                    "left": len(result.left),
                }
                if not go_on(batch):
                    stopped = True
                    break
        if result.found:
            dlq.track_retry(result)
        ongoing.outcome = f"{len(result.retried)} of {count(result.found, 'message')} sent back"
    seen = {message.message_id for message in (*result.retried, *(each.dead_letter for each in result.left))}
    if (missing := ids - seen) and not stopped:
        raise WorkError(
            f"these messages are no longer on the dead letter queue of {queue}: {', '.join(sorted(missing))}"
        )
    if failed := [each.reason for each in result.left if each.failed]:
        sent = count(len(result.retried), "message")
        raise WorkError(f"sent back: {sent}; not sent back: {count(len(failed), 'message')}: {failed[0]}")
    return result


def _wait(
    application: Application, queue: str, sent: Mapping[str, DeadLetterMessage], since: int, seconds: float
) -> BatchResult:
    """What happens to messages within `seconds`.

    `since` is the number of the last failed attempt before the messages were sent.

    An empty queue counts only once SQS has reported it several times in a row, since its numbers lag behind.
    """
    by_queue: dict[str, dict[str, DeadLetterMessage]] = {}
    for message_id, message in sent.items():
        by_queue.setdefault(queue_of(message.type) or queue, {})[message_id] = message
    mains = [application.queue_pair(name).main for name in by_queue]
    deadline, times_empty = time.monotonic() + seconds, 0
    while True:
        on_queue = sum(main.counts().total for main in mains)
        times_empty = 0 if on_queue else times_empty + 1
        failed = _failed_since(application, by_queue, since)
        if failed:
            return BatchResult(sent, BatchState.FAILED, failed, on_queue)
        if times_empty == times.RETRY_EMPTY_POLLS:
            return BatchResult(sent, BatchState.HANDLED, {}, on_queue)
        if time.monotonic() >= deadline:
            return BatchResult(sent, BatchState.WAITING, {}, on_queue)
        time.sleep(times.RETRY_POLL_SECONDS)


def _failed_since(
    application: Application, by_queue: Mapping[str, Mapping[str, DeadLetterMessage]], since: int
) -> dict[str, str]:
    """The messages with a failed attempt after `since`, by their new ids, with the reason."""
    failed: dict[str, str] = {}
    with application.database.read() as connection:
        for name, sent in by_queue.items():
            ids = ((message.sns_message_id, message_id) for message_id, message in sent.items())
            found = attempts_at(connection, name, ids, after=since)
            failed |= {message_id: fingerprint(each.last.failure) for message_id, each in found.items()}
    return failed
