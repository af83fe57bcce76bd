"""What `drain` shows: what it waits for, how the messages ended, and when those on the queues are tried again."""

import itertools
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.cli.output import counts_text, duration_text, print_json, say
from jobs.errors import WorkError
from reports.presentation.text import count
from sync.alerting import command
from sync.clock import now
from sync.events.context import Outcome
from sync.settings.queues import QUEUES

if TYPE_CHECKING:
    from datetime import datetime

    from jobs.operations.drain import DrainResult
    from sync.pipeline.outages import OnWait
    from sync.pipeline.task_end import ReturnedMessage

#: How many reasons are named for each outcome; the other messages with that outcome are counted together.
_MOST_REASONS = 5
#: The words for outcomes whose names, as JSON and metrics have them, are unclear to a reader.
_WORDS = {
    Outcome.COALESCED: "superseded",
    Outcome.IGNORED: "no change needed",
    Outcome.DUPLICATE: "already created",
    Outcome.RETRY_QUEUED: "mapping to follow",
    Outcome.SWITCHED_OFF: "switched off",
    Outcome.UNHANDLED: "unknown type",
    Outcome.AMBIGUOUS: "unknown outcome",
}
#: The outcomes of messages that are on their queue again, and the command that shows more about them.
_RETURNED = {
    Outcome.FAILED: command("telemetry", "--name", "message-failed"),
    Outcome.UNREADABLE: command("telemetry", "--name", "message-failed"),
    Outcome.DEFERRED: command("status"),
}
#: A shorter time is shown in seconds alone.
_MANY_SECONDS = 120
_NOW = "now"


def on_wait(wait_seconds: float, *, as_json: bool) -> "OnWait":
    """A callback that prints what a drain begins to wait for, if a person watches.

    That is so if stderr is a terminal and the output is not JSON. The drains of several queues share the callback: the
    line of one outage, which lasts for up to `wait_seconds`, is printed once.
    """
    if as_json or not sys.stderr.isatty():
        return lambda _line: None
    lock, said_at = threading.Lock(), dict[str, float]()

    def show(line: str) -> None:
        with lock:
            if time.monotonic() - said_at.get(line, -math.inf) >= wait_seconds:
                said_at[line] = time.monotonic()
                say(line, err=True)

    return show


def show_drain(result: "DrainResult", *, as_json: bool) -> None:
    """Prints what a drain did. Raises `WorkError` when the work itself failed."""
    if as_json:
        due = result.next_attempt_at
        next_attempt = None if due is None else due.isoformat(timespec="seconds")
        on_queue = sum(each.total for each in result.on_queue.values())
        print_json({"run": result.run_id, **result.as_dict(), "onQueue": on_queue, "nextAttemptAt": next_attempt})
    else:
        _print_result(result)
    if result.problem:
        raise WorkError(result.problem)


def in_words(counts: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of a drain, overall and of each queue, by the words for people instead of the names in JSON."""
    words: dict[str, str] = {outcome.value: word for outcome, word in _WORDS.items()}
    return {
        words.get(name, name): {queue: in_words(each) for queue, each in value.items()} if name == "queues" else value
        for name, value in counts.items()
    }


def _print_result(result: "DrainResult") -> None:
    totals = result.totals
    if not result.summaries:
        say("drained nothing")
        return
    returned = Counter(each.outcome for each in result.returned)
    # The totals count a message that was returned and came back once more, but each message is shown once.
    ended = {each.value: returned[each] if each in _RETURNED else totals[each] for each in Outcome}
    text = "nothing received"
    if received := sum(ended.values()):
        batches = count(totals["batches"], "batch", "batches")
        text = f"received {count(received, 'message')} in {batches}: {counts_text(in_words(ended))}"
    say(f"drained {', '.join(result.summaries)}: {text}; {duration_text(totals['seconds'])}")
    for outcome, more in _RETURNED.items():
        _print_reasons(outcome, [each for each in result.returned if each.outcome is outcome], more)
    _print_waits(result, [queue for queue in QUEUES if queue in result.outages], outage=True)
    _print_waits(result, [queue for queue in QUEUES if queue not in result.outages], outage=False)
    _print_dead([each for each in result.returned if each.is_dead])
    if ambiguous := totals[Outcome.AMBIGUOUS]:
        have = f"{count(ambiguous, 'creation')} {'has' if ambiguous == 1 else 'have'}"
        say(f"{have} an unknown outcome; see: {command('creations', 'list')}", err=True)


def _print_reasons(outcome: Outcome, messages: "Sequence[ReturnedMessage]", more: str) -> None:
    """Prints a line for each of the most frequent reasons, and one for all other messages with the same outcome."""
    numbers = Counter(each.reason for each in messages)
    named = numbers.most_common(_MOST_REASONS)
    for reason, number in named:
        called = sum(each.call_failed for each in messages if each.reason == reason)
        some = "" if called == number else f", {called} of them"
        after = f"{some} after a failed call" if called else ""
        say(f"{count(number, 'message')} {outcome}{after}: {reason}", err=True)
    if rest := numbers.total() - sum(number for _, number in named):
        say(f"{count(rest, 'message')} {outcome} for other reasons; see: {more}", err=True)


def _print_waits(result: "DrainResult", queues: Sequence[str], *, outage: bool) -> None:
    """Prints how many messages are still on `queues`, and the command that tries them again if no scheduler runs.

    outage: whether they are tried again after the outage that ended the drain.
    """
    returned = [each for each in result.returned if each.queue in queues]
    numbers = {queue: _on_queue(result, queue) for queue in queues}
    named = [queue for queue, number in numbers.items() if number]
    total = sum(numbers.values())
    if not total:
        return
    can_be_received = sum(result.on_queue[queue].visible for queue in named if queue in result.on_queue)
    times = [each.due_at for each in returned if not each.is_dead]
    times += itertools.chain.from_iterable(result.due_later.get(queue, ()) for queue in queues)
    if outage:
        again = f"{'it is' if total == 1 else 'they are'} tried again after the outage"
    elif can_be_received:
        which = "it" if total == 1 else "they" if can_be_received >= total else f"{can_be_received:,} of them"
        again = f"{which} can be tried again now"
    else:
        again = _next_attempts(times, total)
    place = "the queue" if len(named) == 1 else "their queues"
    drain = command("drain", *([] if len(named) == len(QUEUES) else named))
    wait = "waits" if total == 1 else "wait"
    say(f"{count(total, 'message')} {wait} on {place}; {again}, by a scheduler or with: {drain}", err=True)


def _on_queue(result: "DrainResult", queue: str) -> int:
    """How many messages are on a queue after the drain, without those that certainly become dead letters."""
    returned = [each for each in result.returned if each.queue == queue]
    if queue not in result.on_queue:
        return sum(not each.is_dead for each in returned)
    dead = sum(each.is_dead and each.due_at > now() for each in returned)
    return max(0, result.on_queue[queue].total - dead)


def _next_attempts(times: "Sequence[datetime]", total: int) -> str:
    """When `total` messages are tried again, as a clause; `times` are the times that are known."""
    if not times:
        return f"{'it is' if total == 1 else 'they are'} tried again later"
    first, last = _in_seconds(min(times)), _in_seconds(max(times))
    if total == 1:
        return f"it is tried again {first}"
    if len(times) < total:
        return f"the first is tried again {first} at the latest"
    return f"they are tried again {first}" if first == last else f"the first is tried again {first}, the last {last}"


def _print_dead(messages: "Sequence[ReturnedMessage]") -> None:
    """Prints when messages that have used up their attempts move to the dead letter queue."""
    if not messages:
        return
    have, them = ("has used up its", "it") if len(messages) == 1 else ("have used up their", "them")
    queues = {each.queue for each in messages}
    see = command("dlq", "show", *queues) if len(queues) == 1 else command("dlq", "list")
    when = _in_seconds(max(each.due_at for each in messages))
    move = f"moves {them} to the dead letter queue"
    if when == _NOW:
        moved = f"the next drain {move}, unless this one has already done so"
    else:
        moved = f"the next drain {when} or later {move}"
    say(f"{count(len(messages), 'message')} {have} attempts; {moved}; then see: {see}", err=True)


def _in_seconds(moment: "datetime") -> str:
    """`now`, or how long it is until `moment`: `in 8 s`, `in 10 min 0 s`."""
    seconds = math.ceil((moment - now()).total_seconds())
    if seconds <= 0:
        return _NOW
    return f"in {seconds} s" if seconds < _MANY_SECONDS else f"in {duration_text(seconds)}"
