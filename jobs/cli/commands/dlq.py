"""`dlq`: the dead letter queues."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import AsJson, DryRun, Operator, Queue, Yes, parse_queue
from jobs.cli.confirmation import confirm, confirm_on_terminal, find_operator_name, operator_name
from jobs.cli.output import counts_text, duration_text, local_time, print_json, print_table, say
from jobs.errors import WorkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.operations.dead_letters import DlqState
    from jobs.operations.housekeeping import HousekeepingResult
    from jobs.runtime.application import Application
    from sync.failures import Failure
    from sync.repair.dead_letters import DeadLetter, DeadLetterReport
    from sync.repair.redrive import RetryResult

app = typer.Typer(name="dlq", help="Messages that failed for good: why, and what to do.", no_args_is_help=True)

YesOnTerminal = Annotated[
    bool, typer.Option("--yes", help="Do it without asking. Without a terminal it is done without asking anyway.")
]
Messages = Annotated[
    list[str] | None,
    typer.Option(
        "--message", metavar="ID", help="Only this message, by its id or the beginning of it; may be repeated."
    ),
]


@app.command("list")
def list_queues(as_json: AsJson = False) -> None:
    """Each dead letter queue, and how many messages it holds.

    Also shows how old the oldest of them is, and their types.
    """
    from jobs.operations.dead_letters import check_errors, list_dlqs
    from jobs.runtime.application import open_application

    with open_application() as application:
        states, errors = list_dlqs(application)
    if as_json:
        print_json([state.as_dict() for state in states])
    else:
        _print_states(states)
    check_errors(errors)


def _print_states(states: "Sequence[DlqState]") -> None:
    from sync import clock

    print_table(
        ("QUEUE", "DLQ", "MESSAGES", "IN FLIGHT", "OLDEST", "TYPES"),
        [
            (
                state.queue,
                state.dlq_name,
                state.counts.visible,
                state.counts.in_flight,
                duration_text((clock.now() - state.oldest).total_seconds()) if state.oldest else "",
                counts_text(state.types, in_words=False),
            )
            for state in states
        ],
    )


@app.command("show")
def show_dlq(
    queue: Queue,
    message: Annotated[str | None, typer.Option(metavar="ID", help="Only messages whose id begins so.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many messages to show.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Each message of a dead letter queue, and why it failed.

    Its event and ids, its last failure, how often it was tried, and what to do. The messages are hidden from others
    only while they are read.
    """
    from jobs.operations.dead_letters import diagnose_messages
    from jobs.runtime.application import open_application

    with open_application() as application:
        found = diagnose_messages(application, parse_queue(queue), message, limit)
        if as_json:
            print_json([each.as_dict() for each in found])
            return
        if not found:
            say(f"The dead letter queue of {queue} is empty.")
        for each in found:
            _show(application, each)


@app.command("retry")
def retry_dlq(
    queue: Queue,
    message: Messages = None,
    recoverable: Annotated[
        bool, typer.Option("--recoverable", help="Only messages whose last failure may heal by itself.")
    ] = False,
    dry_run: DryRun = False,
    yes: YesOnTerminal = False,
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Sends messages of a dead letter queue back to their queue.

    However often they were redriven before. A redrive does no harm; it asks only on a terminal.
    """
    from jobs.operations.dead_letters import preview_retry, retry_messages
    from jobs.runtime.application import open_application

    chosen = message or []
    with open_application() as application:
        who = operator_name(application.settings, operator)
        if dry_run:
            letters = preview_retry(application, parse_queue(queue), chosen, recoverable_only=recoverable)
            _say_dry_run(letters, "would be sent back", as_json=as_json)
            return
        parse_queue(queue)
        which = f"{len(chosen)} of the messages" if chosen else "the messages" if not recoverable else "what may heal"
        confirm_on_terminal(f"Send {which} of the dead letter queue of {queue} back?", yes=yes)
        result = retry_messages(application, queue, chosen, who, recoverable_only=recoverable)
    if as_json:
        print_json(result.as_dict())
    else:
        _say_retried(result)


@app.command("retry-all")
def retry_all_dlqs(
    dry_run: DryRun = False, yes: YesOnTerminal = False, operator: Operator = None, as_json: AsJson = False
) -> None:
    """Sends the messages of all dead letter queues back.

    Those that a retry may heal, with pauses that grow for what comes back: what the housekeeping does every ten
    minutes. What a retry cannot heal, or came back more than HOUSEKEEPING_MAX_RETURNS times, is given up, with an alert
    that says what to do; `dlq retry` still sends it. A redrive does no harm; it asks only on a terminal. It is
    recorded as a run (`runs list`), and as an action of the person who runs it.
    """
    from jobs.operations.dead_letters import check_errors
    from jobs.operations.housekeeping import preview_housekeeping, run_housekeeping
    from jobs.operations.recorded_actions import recorded_action
    from jobs.runtime.application import open_application

    def show(done: "HousekeepingResult") -> None:
        if as_json:
            print_json([result.as_dict() for result in done.results.values()])
            return
        for result in done.results.values():
            _say_retried(result)

    with open_application() as application:
        if dry_run:
            would_be, errors = preview_housekeeping(application)
            if as_json:
                print_json({queue: [letter.as_dict() for letter in letters] for queue, letters in would_be.items()})
            else:
                for queue, letters in would_be.items():
                    _say_dry_run(letters, f"of {queue} would be sent back", as_json=False)
            check_errors(errors)
            return
        confirm_on_terminal("Send back the messages of all dead letter queues that a retry may heal?", yes=yes)
        who = find_operator_name(application.settings, operator)
        if who is None:
            run_housekeeping(application, show=show)
        else:
            with recorded_action(application, who, "dlq retry-all", "all queues") as ongoing:
                done = run_housekeeping(application, show=show)
                ongoing.details = done.counts()
                ongoing.outcome = f"{ongoing.details['retried']} of {ongoing.details['found']} messages sent back"


@app.command("purge")
def purge_dlq(
    queue: Queue,
    message: Messages = None,
    include_retries: Annotated[
        bool,
        typer.Option(
            "--include-retries", help="Also remove mapping retries, whose NOMIS records then stay without a mapping."
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
    """Removes messages of a dead letter queue for good.

    Takes all of them, or those that are named, and writes them to a file first. Refuses mapping retries, since a
    record that loses its mapping is made a second time.
    """
    from jobs.operations.dead_letters import check_export, exporter, plan_purge, purge
    from jobs.runtime.application import open_application

    with open_application() as application:
        who = operator_name(application.settings, operator)
        write = exporter(application, parse_queue(queue), export)
        letters, others = plan_purge(application, queue, message or [], include_retries=include_retries)
        _say_dry_run(letters, "would be removed" if dry_run else "to remove", as_json=False)
        if others:
            say(f"{others} others stay")
        if letters:
            check_export(application, export)
        if not letters or not confirm(f"Remove {len(letters)} messages for good?", yes=yes, dry_run=dry_run):
            return
        done = purge(application, queue, letters, write, who)
    if done.removed == 0:
        raise WorkError("nothing was removed: the messages went from the dead letter queue while you were asked")
    say(f"{done.removed} messages removed; they are kept in {done.place}")
    if done.arrived_since - others > 0:
        say(f"{done.arrived_since - others} messages arrived since you looked, and are still there")


def _say_dry_run(letters: "Sequence[DeadLetter]", what: str, *, as_json: bool) -> None:

    if as_json:
        print_json([letter.as_dict() for letter in letters])
        return
    say(f"{len(letters)} messages {what}")
    for letter in letters:
        say(f"  {letter.message.message_id}  {letter.type}  {_ids(letter)}".rstrip())


def _say_retried(result: "RetryResult") -> None:
    say(f"{result.queue}: {len(result.retried)} of {result.found} messages sent back")
    for each in result.left:
        say(f"  left {each.letter.message.message_id}  {each.letter.type}: {each.reason}")


def _show(application: "Application", found: "DeadLetterReport") -> None:

    zone = application.settings.zone
    letter = found.dead_letter
    say(f"{letter.message.message_id}  {letter.type}  {found.failure_class}")
    sent = local_time(letter.message.sent_at, zone)
    given_up = "; given up by the housekeeping" if found.given_up else ""
    say(f"  sent      {sent}; {found.attempts} failed attempts, sent back {found.redrives} times{given_up}")
    if letter.ids:
        say(f"  about     {_ids(letter)}")
    if letter.problem:
        say(f"  problem   {letter.problem}")
    if found.failure is not None:
        failure = found.failure.failure
        say(f"  failed    {local_time(found.failure.time, zone)}{_where(failure)}: {failure.reason}")
    say(f"  advice    {found.hint}")


def _where(failure: "Failure") -> str:
    """Step, service, method, path and status of a failure, as far as they are known."""
    step = f" at {failure.step}" if failure.step else ""
    status = "" if failure.status is None else f"status {failure.status}"
    called = " ".join(str(part) for part in (failure.service, failure.method, failure.path, status) if part)
    return f"{step}: {called}" if called else step


def _ids(letter: "DeadLetter") -> str:
    return " ".join(f"{name}={value}" for name, value in letter.ids.items() if isinstance(value, str | int | float))
