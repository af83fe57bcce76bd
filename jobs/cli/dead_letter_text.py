"""What the `dlq` commands print: queues, messages, why they failed, and what happened to those sent back."""

from typing import TYPE_CHECKING

from jobs.cli.output import counts_text, duration_text, local_time, print_json, print_table, say
from jobs.operations.dead_letters import DlqState
from jobs.operations.duplicate_rows import closing_command
from jobs.operations.retry_dead_letters import BatchResult, BatchState
from reports.presentation.text import count
from sync import clock
from sync.repair.dead_letter_report import NOT_REQUESTED, DeadLetterReport, FailureClass, SameReason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from sync.errors import Failure
    from sync.repair.dead_letter_queue import RetryResult
    from sync.repair.dead_letters import DeadLetterMessage

#: How many reasons are listed for a queue, and how many message ids are shown for a reason.
_MOST_REASONS = 5
_SAMPLES = 3


def print_states(states: "Sequence[DlqState]", zone: "ZoneInfo") -> None:
    """Prints a line for each queue, then how many messages failed for each reason, and what the classes mean.

    If no queue could be read, `states` is empty, and nothing is printed.
    """
    if not states:
        return
    print_table(
        ("QUEUE", "MESSAGES", "IN FLIGHT", "OLDEST", "CLASSES", "TYPES", "DLQ"),
        [
            (
                state.queue,
                state.counts.visible,
                state.counts.in_flight,
                duration_text((clock.now() - state.oldest).total_seconds()) if state.oldest else "",
                counts_text(state.classes, in_words=False),
                counts_text(state.types, in_words=False),
                state.dlq_name,
            )
            for state in states
        ],
    )
    rows = [(state, reason) for state in states for reason in state.reasons[:_MOST_REASONS]]
    if rows:
        say()
        print_table(
            ("QUEUE", "MESSAGES", "CLASS", "REASON"),
            [
                (state.queue, len(reason.reports), reason.first.failure_class.value, reason.first.reason)
                for state, reason in rows
            ],
        )
    for state in states:
        if others := state.reasons[_MOST_REASONS:]:
            messages = count(sum(len(reason.reports) for reason in others), "message")
            say(f"{state.queue}: {messages} failed for {count(len(others), 'other reason')}")
    say_notes(states, zone)
    for name in dict.fromkeys(name for state in states for name in state.classes):
        failure_class = FailureClass(name)
        say(f"{name}: {failure_class.meaning}. What to do: {failure_class.action}.")
    for queue in dict.fromkeys(state.queue for state, _ in rows):
        say(f"Next: prisoner-to-nomis dlq show {queue}")


def partial_text(state: DlqState) -> str:
    """For a queue that was only partly read, says how many of its messages were read."""
    return f"{state.queue}: {state.read} of about {state.counts.visible} read"


def say_notes(states: "Sequence[DlqState]", zone: "ZoneInfo") -> None:
    """For each queue, prints how many messages were read, if not all were.

    Also prints how many messages have just been sent back, by housekeeping or by a person.
    """
    for state in states:
        if state.is_partial:
            say(partial_text(state))
        if state.sent_back is not None:
            one = state.sent_back.messages == 1
            sent = f"{count(state.sent_back.messages, 'message')} {'was' if one else 'were'} sent back"
            rest = (
                "it may be on the main queue; if it fails, it comes back here."
                if one
                else "they may be on the main queue; the messages that fail come back here."
            )
            at, until = (
                f"{moment.astimezone(zone):%H:%M:%S}" for moment in (state.sent_back.at, state.sent_back.until)
            )
            say(f"{state.queue}: {sent} at {at}. Until {until} {rest}")


def say_batch(batch: BatchResult) -> None:
    """Prints what happened to a batch that was sent back."""
    sent = f"{count(len(batch.sent), 'message')} sent back"
    if batch.state is BatchState.HANDLED:
        say(f"{sent}: handled")
    elif batch.state is BatchState.FAILED:
        others = f", {len(batch.waiting)} not handled yet" if batch.waiting else ""
        say(f"{sent}: {len(batch.failed)} failed again{others}")
    else:
        say(f"{sent}: {len(batch.sent) - len(batch.waiting)} handled, {len(batch.waiting)} not handled in time")


def say_dry_run(messages: "Sequence[DeadLetterMessage]", what: str, *, as_json: bool) -> None:
    """Prints the messages below a line with their number and the text `what`, or prints them as JSON."""
    if as_json:
        print_json([message.as_dict() for message in messages])
        return
    say(f"{count(len(messages), 'message')} {what}")
    for message in messages:
        say(f"  {message.message_id}  {message.type}  {_ids(message)}".rstrip())


def say_retried(result: "RetryResult") -> None:
    """Prints how many messages were sent back, and why the others stay.

    Each reason is printed once, with the id of the message if only one stays for that reason, or else with the number
    of messages.
    """
    say(f"{result.queue}: {len(result.retried)} of {count(result.found, 'message')} sent back")
    by_reason: dict[str, list[DeadLetterMessage]] = {}
    for each in result.left:
        by_reason.setdefault(each.reason, []).append(each.dead_letter)
    for reason, messages in by_reason.items():
        if reason == NOT_REQUESTED:
            say(f"  left {count(len(messages), 'other message')}")
        elif len(messages) == 1:
            say(f"  left {messages[0].message_id}  {messages[0].type}: {reason}")
        else:
            say(f"  left {count(len(messages), 'message')}: {reason}; see: prisoner-to-nomis dlq show {result.queue}")


def show_message(found: DeadLetterReport, zone: "ZoneInfo") -> None:
    """Prints one message: its event and ids, its last failure, how many times it failed, and what to do."""
    message = found.dead_letter
    say(f"{message.message_id}  {message.type}  {found.failure_class}")
    sent = local_time(message.sent_at, zone)
    given_up = "; given up on by housekeeping" if found.given_up else ""
    attempts, redrives = count(found.attempts, "failed attempt"), count(found.redrives, "time")
    say(f"  sent      {sent}; {attempts}, sent back {redrives}{given_up}")
    if message.ids:
        say(f"  about     {_ids(message)}")
    if message.problem:
        say(f"  problem   {message.problem}")
    if found.failure is not None:
        failure = found.failure.failure
        say(f"  failed    {local_time(found.failure.time, zone)}{_where(failure)}: {failure.reason}")
    elif not message.problem and found.failure_class is FailureClass.UNKNOWN:
        say(f"  failed    {found.failure_class.meaning}")
    if found.next_redrive is not None:
        say(f"  waits     until {local_time(found.next_redrive, zone)}; then housekeeping sends it back")
    _say_advice(found)


def show_reason(reason: SameReason, queue: str, zone: "ZoneInfo") -> None:
    """Prints the messages that failed for one reason: a single message in full, or else their number and some ids."""
    if len(reason.reports) == 1:
        show_message(reason.first, zone)
        return
    message, reports = reason.first.dead_letter, reason.reports
    say(f"{count(len(reports), 'message')}  {message.type}  {reason.first.failure_class}")
    oldest, newest = (local_time(each.dead_letter.sent_at, zone) for each in (reports[0], reports[-1]))
    given_up = sum(each.given_up for each in reports)
    sent = oldest if oldest == newest else f"{oldest} to {newest}"
    say(f"  sent      {sent}{f'; {given_up} given up on by housekeeping' if given_up else ''}")
    failure = reason.first.failure
    if reason.first.failure_class is FailureClass.UNKNOWN:
        say(f"  failed    {reason.first.failure_class.meaning}")
    elif failure is None:
        say(f"  failed    {reason.first.reason}")
    else:
        step = f"at {failure.failure.step}: " if failure.failure.step else ""
        say(f"  failed    {step}{reason.first.reason}")
    waiting = [each.next_redrive for each in reports if each.next_redrive is not None]
    if waiting:
        until = local_time(min(waiting), zone)
        them = "it" if len(waiting) == 1 else "them"
        say(f"  waits     {len(waiting)} of them until {until} or later; then housekeeping sends {them} back")
    _say_advice(reason.first)
    for each in reports[:_SAMPLES]:
        say(f"  {each.dead_letter.message_id}  {_ids(each.dead_letter)}".rstrip())
    if len(reports) > _SAMPLES:
        say(f"  and {len(reports) - _SAMPLES} more: prisoner-to-nomis dlq show {queue} --all")


def _say_advice(found: DeadLetterReport) -> None:
    say(f"  advice    {found.hint}")
    if found.finding is not None:
        say(f"  finding   prisoner-to-nomis duplicates show {found.finding.id}")
        for statement in found.sql:
            say(f"  SQL       {statement}")
        say(f"  close     {closing_command(found.finding.id, 'NUMBER')}")


def _where(failure: "Failure") -> str:
    """The step, service, method, path and status of a failure, as far as they are known."""
    step = f" at {failure.step}" if failure.step else ""
    status = "" if failure.status is None else f"status {failure.status}"
    called = " ".join(str(part) for part in (failure.service, failure.method, failure.path, status) if part)
    return f"{step}: {called}" if called else step


def _ids(message: "DeadLetterMessage") -> str:
    return " ".join(f"{name}={value}" for name, value in message.ids.items() if isinstance(value, str | int | float))
