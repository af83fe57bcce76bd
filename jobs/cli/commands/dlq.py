"""`dlq`: the dead letter queues."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import AsJson, DryRun, Operator, Queue, Yes, parse_queue
from jobs.cli.confirmation import confirm, confirm_on_terminal, find_operator_name, operator_name
from jobs.cli.output import print_json, say
from jobs.errors import WorkError
from reports.presentation.text import count
from sync.settings import times

if TYPE_CHECKING:
    from jobs.operations.housekeeping import HousekeepingResult
    from jobs.operations.retry_dead_letters import Choice

app = typer.Typer(name="dlq", help="Messages that failed too often, and what to do about them.", no_args_is_help=True)

YesOnTerminal = Annotated[
    bool, typer.Option("--yes", help="Do not ask for confirmation. Without a terminal, the command never asks.")
]
Messages = Annotated[
    list[str] | None,
    typer.Option(
        "--message", metavar="ID", help="Only this message, by its id or the beginning of the id; repeatable."
    ),
]


ReadSeconds = Annotated[
    int,
    typer.Option(
        "--seconds",
        min=0,
        metavar="N",
        help="Read a dead letter queue for at most N seconds. The output says so if some messages were not read.",
    ),
]


@app.command("list")
def list_queues(seconds: ReadSeconds = times.DEAD_LETTER_READ_SECONDS, as_json: AsJson = False) -> None:
    """Shows the dead letter queues, and why their messages failed.

    The command reads the messages and counts them by class and reason. While it reads them, other consumers do not see
    them. The command also shows the age of the oldest message, and how many messages housekeeping has just sent back.
    """
    from jobs.cli.dead_letter_text import print_states
    from jobs.operations.dead_letters import check_errors, list_dlqs
    from jobs.runtime.application import open_application

    with open_application() as application:
        states, errors = list_dlqs(application, seconds)
        if as_json:
            print_json([state.as_dict() for state in states])
        else:
            print_states(states, application.settings.zone)
    check_errors(errors)


@app.command("show")
def show_dlq(
    queue: Queue,
    message: Annotated[str | None, typer.Option(metavar="ID", help="Only messages whose id begins with ID.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show each message separately, not grouped by reason.")] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="Maximum number of messages to show separately or as JSON.")
    ] = 100,
    seconds: ReadSeconds = times.DEAD_LETTER_READ_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Shows the messages of a dead letter queue, and why they failed.

    Messages that failed for the same reason are shown together, with some of their ids. --all and --message show each
    message separately: its event and ids, its last failure, how many times it failed, and what to do about it. While
    the command reads the messages, other consumers do not see them.
    """
    from jobs.cli.dead_letter_text import partial_text, say_notes, show_message, show_reason
    from jobs.operations.dead_letters import find_message, read_dlq
    from jobs.runtime.application import open_application

    with open_application() as application:
        most = limit if (every or as_json) and not message else None
        state = read_dlq(application, parse_queue(queue), most, seconds)
        found = find_message(state, message) if message else state.reports
        if as_json:
            print_json([each.as_dict() for each in found])
            if state.is_partial:
                say(partial_text(state), err=True)
            return
        zone = application.settings.zone
        if not found:
            say(f"The dead letter queue of {queue} is empty.")
        if every or message:
            for each in found:
                show_message(each, zone)
        else:
            for reason in state.reasons:
                show_reason(reason, queue, zone)
        say_notes([state], zone)


@app.command("retry")
def retry_dlq(
    queue: Queue,
    message: Messages = None,
    recoverable: Annotated[
        bool, typer.Option("--recoverable", help="Only messages that may succeed on a retry.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Send back only the N oldest messages, and leave the others in the dead letter queue.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Send back N messages at a time, each batch once the previous one is handled. Stop if a message "
            "fails again.",
        ),
    ] = None,
    wait: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="With --batch: seconds to wait for a batch to be handled.")
    ] = 60,
    dry_run: DryRun = False,
    yes: YesOnTerminal = False,
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Sends messages from a dead letter queue back to their queues.

    It sends them back however many times they have been redriven. A redrive does no harm, so the command asks for
    confirmation only on a terminal. After an outage or a correction, --batch 10 shows early whether messages now
    succeed. With --batch, if a message fails again or is not handled in time, the command exits 1 and leaves the other
    messages in the dead letter queue.
    """
    from jobs.cli.dead_letter_text import say_batch, say_dry_run, say_retried
    from jobs.operations.retry_dead_letters import (
        BatchResult,
        Choice,
        check_batches,
        preview_retry,
        retry_in_batches,
        retry_messages,
    )
    from jobs.runtime.application import open_application

    chosen = message or []
    choice = Choice(chosen, recoverable, limit)
    with open_application() as application:
        who = operator_name(application.settings, operator)
        if dry_run:
            messages = preview_retry(application, parse_queue(queue), choice)
            say_dry_run(messages, "would be sent back", as_json=as_json)
            return
        parse_queue(queue)
        confirm_on_terminal(_retry_question(queue, choice, batch), yes=yes)
        if batch is None:
            result = retry_messages(application, queue, choice, who)
            as_value, batches = result.as_dict(), list[BatchResult]()
        else:
            show = say_batch if not as_json else lambda _: None
            result, batches = retry_in_batches(application, queue, choice, who, batch, wait, show)
            as_value = result.as_dict() | {"batches": [each.as_dict() for each in batches]}
        if as_json:
            print_json(as_value)
        else:
            say_retried(result)
        check_batches(application, queue, batches)


@app.command("retry-all")
def retry_all_dlqs(
    dry_run: DryRun = False, yes: YesOnTerminal = False, operator: Operator = None, as_json: AsJson = False
) -> None:
    """Sends back messages from all dead letter queues.

    It sends back the messages that may succeed on a retry, as housekeeping does every ten minutes by default. A message
    that returns to its dead letter queue waits longer each time. The command gives up on a message that a retry cannot
    help, or that has returned more than HOUSEKEEPING_MAX_RETURNS times. An alert then says what to do, and `dlq retry`
    can still send the message back. A redrive does no harm, so the command asks for confirmation only on a terminal.
    The redrive is recorded as a run (`runs list`) and, if a person runs the command, as an action of that person.
    """
    from jobs.cli.dead_letter_text import say_dry_run, say_retried
    from jobs.operations.dead_letters import check_errors
    from jobs.operations.housekeeping import preview_housekeeping, run_housekeeping
    from jobs.operations.recorded_actions import recorded_action
    from jobs.runtime.application import open_application

    def show(done: "HousekeepingResult") -> None:
        if as_json:
            print_json([result.as_dict() for result in done.results.values()])
            return
        for result in done.results.values():
            say_retried(result)

    with open_application() as application:
        if dry_run:
            would_be, errors = preview_housekeeping(application)
            if as_json:
                print_json({queue: [message.as_dict() for message in messages] for queue, messages in would_be.items()})
            else:
                for queue, messages in would_be.items():
                    say_dry_run(messages, f"of {queue} would be sent back", as_json=False)
            check_errors(errors)
            return
        confirm_on_terminal(
            "This sends back, from all dead letter queues, the messages that may succeed on a retry. Continue?", yes=yes
        )
        who = find_operator_name(application.settings, operator)
        if who is None:
            run_housekeeping(application, show=show)
        else:
            with recorded_action(application, who, "dlq retry-all", "all queues") as ongoing:
                done = run_housekeeping(application, show=show)
                ongoing.details = done.counts()
                ongoing.outcome = (
                    f"{ongoing.details['retried']} of {count(ongoing.details['found'], 'message')} sent back"
                )


@app.command("purge")
def purge_dlq(
    queue: Queue,
    message: Messages = None,
    include_retries: Annotated[
        bool,
        typer.Option(
            "--include-retries", help="Also remove mapping retries. Their NOMIS records then stay without a mapping."
        ),
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A new file that the messages are written to first; below REPORTS_LOCATION by default.",
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
) -> None:
    """Removes messages from a dead letter queue for good.

    It removes all messages, or only those named with --message, and writes them to a file first. Without
    --include-retries, it refuses to remove mapping retries, since a record whose mapping is lost may be created a
    second time.
    """
    from jobs.cli.dead_letter_text import say_dry_run
    from jobs.operations.purge_dead_letters import check_export, exporter, plan_purge, purge
    from jobs.runtime.application import open_application

    with open_application() as application:
        who = operator_name(application.settings, operator)
        write = exporter(application, parse_queue(queue), export)
        messages, others = plan_purge(application, queue, message or [], include_retries=include_retries)
        say_dry_run(messages, "would be removed" if dry_run else "to remove", as_json=False)
        if others:
            say(f"{count(len(others), 'other message')} {'stays' if len(others) == 1 else 'stay'}")
        if messages:
            check_export(application, export)
        question = f"This removes {count(len(messages), 'message')} for good, after writing a copy to a file. Continue?"
        if not messages or not confirm(question, yes=yes, dry_run=dry_run):
            return
        done = purge(application, queue, messages, others, write, who)
    if done.removed == 0:
        raise WorkError("nothing was removed: the messages left the dead letter queue before you confirmed")
    say(f"{count(done.removed, 'message')} removed; the export is {done.place}")
    if done.arrived_since:
        arrived = count(done.arrived_since, "message")
        say(f"{arrived} left in the dead letter queue, having arrived after the list was made")


def _retry_question(queue: str, choice: "Choice", batch: int | None) -> str:
    if choice.named:
        which = f"the {len(choice.named)} messages that were named" if len(choice.named) > 1 else "the named message"
    else:
        which = "the messages that may succeed on a retry" if choice.recoverable_only else "all messages"
        which = which if choice.limit is None else f"up to {choice.limit} of {which}"
    at_a_time = "" if batch is None else f", {batch} at a time"
    return f"This sends back {which} from the dead letter queue of {queue}{at_a_time}. Continue?"
