"""`dlq`: the dead letter queues."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import say
from jobs.operations.acting import AS_HELP, DRY_RUN_HELP, YES_HELP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.operations.housekeeping import DlqState, HousekeepingResult
    from jobs.runtime.application import Application
    from sync.failures import Failure
    from sync.queues.dead_letters import DeadLetter, RetryResult
    from sync.repair.dead_letter_report import Diagnosis

app = typer.Typer(name="dlq", help="Messages that failed for good: why, and what to do.", no_args_is_help=True)

Queue = Annotated[
    str, typer.Argument(metavar="QUEUE", help="One of visit, incentive, activity, appointment, sentencing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help=DRY_RUN_HELP)]
YesOnTerminal = Annotated[
    bool, typer.Option("--yes", help="Do it without asking. Without a terminal it is done without asking anyway.")
]
As = Annotated[str | None, typer.Option("--as", metavar="NAME", help=AS_HELP)]
Messages = Annotated[
    list[str] | None,
    typer.Option(
        "--message", metavar="ID", help="Only this message, by its id or the beginning of it; may be repeated."
    ),
]


@app.command("list")
def list_dlqs(as_json: AsJson = False) -> None:
    """Each dead letter queue, and how many messages it holds.

    How old the oldest of them is, and of which types they are, is said too.
    """
    from jobs.cli.exit_codes import WorkError
    from jobs.cli.output import print_json
    from jobs.operations.housekeeping import look_at_all, problems_text
    from jobs.runtime.application import open_application

    with open_application() as application:
        states, errors = look_at_all(application)
    if as_json:
        print_json([state.as_dict() for state in states])
    else:
        _print_states(states)
    if errors:
        raise WorkError(problems_text(errors))


def _print_states(states: "Sequence[DlqState]") -> None:
    from jobs.cli.output import counts_text, duration_text, print_table
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
    from jobs.cli.output import print_json
    from jobs.cli.queue_names import parse_queue
    from jobs.operations.housekeeping import diagnosed
    from jobs.runtime.application import open_application

    with open_application() as application:
        found = diagnosed(application, parse_queue(queue), message, limit)
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
    named: As = None,
    as_json: AsJson = False,
) -> None:
    """Sends messages of a dead letter queue back to their queue.

    However often they came back before. A re-drive does no harm; it asks only on a terminal.
    """
    from jobs.cli.output import print_json
    from jobs.cli.queue_names import parse_queue
    from jobs.operations.acting import confirm_on_terminal, operator_name
    from jobs.operations.housekeeping import retry_by_hand, would_be_retried
    from jobs.runtime.application import open_application

    chosen = message or []
    with open_application() as application:
        who = operator_name(application.settings, named)
        if dry_run:
            letters = would_be_retried(application, parse_queue(queue), chosen, recoverable_only=recoverable)
            _say_dry_run(letters, "would be sent back", as_json=as_json)
            return
        parse_queue(queue)
        which = f"{len(chosen)} of the messages" if chosen else "the messages" if not recoverable else "what may heal"
        confirm_on_terminal(f"Send {which} of the dead letter queue of {queue} back?", yes=yes)
        result = retry_by_hand(application, queue, chosen, who, recoverable_only=recoverable)
    if as_json:
        print_json(result.as_dict())
    else:
        _say_retried(result)


@app.command("retry-all")
def retry_all_dlqs(
    dry_run: DryRun = False, yes: YesOnTerminal = False, named: As = None, as_json: AsJson = False
) -> None:
    """Sends the messages of all dead letter queues back.

    Those that a retry may heal, with pauses that grow for what comes back: what the housekeeping does every ten
    minutes. What a retry cannot heal, or came back more than HOUSEKEEPING_MAX_RETURNS times, is given up, with an alert
    that says what to do; `dlq retry` still sends it. A re-drive does no harm; it asks only on a terminal. It is
    recorded as a run (`runs list`), and as an action of the person that runs it.
    """
    from jobs.cli.exit_codes import WorkError
    from jobs.cli.output import print_json
    from jobs.operations.acting import confirm_on_terminal, find_operator_name, recorded_action
    from jobs.operations.housekeeping import problems_text, run_housekeeping, would_be_housekept
    from jobs.runtime.application import open_application

    def show(done: "HousekeepingResult") -> None:
        if as_json:
            print_json([result.as_dict() for result in done.results.values()])
            return
        for result in done.results.values():
            _say_retried(result)

    with open_application() as application:
        if dry_run:
            would_be, errors = would_be_housekept(application)
            if as_json:
                print_json({queue: [letter.as_dict() for letter in letters] for queue, letters in would_be.items()})
            else:
                for queue, letters in would_be.items():
                    _say_dry_run(letters, f"of {queue} would be sent back", as_json=False)
            if errors:
                raise WorkError(problems_text(errors))
            return
        confirm_on_terminal("Send back the messages of all dead letter queues that a retry may heal?", yes=yes)
        who = find_operator_name(application.settings, named)
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
    yes: Annotated[bool, typer.Option("--yes", help=YES_HELP)] = False,
    named: As = None,
) -> None:
    """Removes messages of a dead letter queue for good.

    Takes all of them, or those that are named, and writes them to a file first. Refuses mapping retries, since a
    record that loses its mapping is made a second time.
    """
    from jobs.cli.exit_codes import WorkError
    from jobs.cli.queue_names import parse_queue
    from jobs.operations.acting import confirm, operator_name
    from jobs.operations.purge import exporter, make_sure_of_export, purge, purgeable
    from jobs.runtime.application import open_application

    with open_application() as application:
        who = operator_name(application.settings, named)
        write = exporter(application, parse_queue(queue), export)
        letters, others = purgeable(application, queue, message or [], include_retries=include_retries)
        _say_dry_run(letters, "would be removed" if dry_run else "to remove", as_json=False)
        if others:
            say(f"{others} others stay")
        if letters:
            make_sure_of_export(application, export)
        if not letters or not confirm(f"Remove {len(letters)} messages for good?", yes=yes, dry_run=dry_run):
            return
        done = purge(application, queue, letters, write, who)
    if done.removed == 0:
        raise WorkError("nothing was removed: the messages went from the dead letter queue while you were asked")
    say(f"{done.removed} messages removed; they are kept in {done.place}")
    if done.came_since - others > 0:
        say(f"{done.came_since - others} messages came since you looked, and are still there")


def _say_dry_run(letters: "Sequence[DeadLetter]", what: str, *, as_json: bool) -> None:
    from jobs.cli.output import print_json

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


def _show(application: "Application", found: "Diagnosis") -> None:
    from jobs.cli.output import local_time

    zone = application.settings.zone
    letter = found.letter
    say(f"{letter.message.message_id}  {letter.type}  {found.failure_class}")
    sent = local_time(letter.message.sent_at, zone)
    given_up = "; given up by the housekeeping" if found.given_up else ""
    say(f"  sent      {sent}; {found.attempts} failed attempts, sent back {found.returns} times{given_up}")
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
