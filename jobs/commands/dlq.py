"""`dlq`: the dead letter queues."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.acting import DRY_RUN_HELP, YES_HELP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobs.composition import Program
    from sync.diagnosis import Diagnosis
    from sync.queues.dead_letters import DeadLetter, RetryResult

app = typer.Typer(name="dlq", help="Messages that failed for good: why, and what to do.", no_args_is_help=True)

Queue = Annotated[
    str, typer.Argument(metavar="QUEUE", help="One of visit, incentive, activity, appointment, sentencing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help=DRY_RUN_HELP)]


@app.command("list")
def list_dlqs(as_json: AsJson = False) -> None:
    """Every dead letter queue: how many messages, how old the oldest is, and of which types they are."""
    from jobs.composition import open_program
    from jobs.housekeeping import look_at_all
    from jobs.output import counts_text, duration_text, print_json, print_table
    from sync import clock

    with open_program() as program:
        states = look_at_all(program)
    if as_json:
        print_json([state.as_dict() for state in states])
        return
    print_table(
        ("QUEUE", "DLQ", "MESSAGES", "IN FLIGHT", "OLDEST", "TYPES"),
        [
            (
                state.queue,
                state.dlq_name,
                state.counts.visible,
                state.counts.in_flight,
                duration_text((clock.now() - state.oldest).total_seconds()) if state.oldest else "",
                counts_text(state.types),
            )
            for state in states
        ],
    )


@app.command("show")
def show_dlq(
    queue: Queue,
    message: Annotated[str | None, typer.Option(metavar="ID", help="Only this message.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many messages to show.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Each message of a dead letter queue: its event and ids, why it failed last, how often, and what to do.

    The messages are hidden from others only while they are read.
    """
    from jobs.composition import open_program
    from jobs.housekeeping import diagnosed, read_queue
    from jobs.output import print_json

    with open_program() as program:
        found = diagnosed(program, read_queue(queue), message, limit)
        if as_json:
            print_json([each.as_dict() for each in found])
            return
        if not found:
            typer.echo(f"the dead letter queue of {queue} is empty")
        for each in found:
            _show(program, each)


@app.command("retry")
def retry_dlq(
    queue: Queue,
    message: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this message; may be repeated.")] = None,
    recoverable: Annotated[
        bool, typer.Option("--recoverable", help="Only messages whose last failure may heal by itself.")
    ] = False,
    dry_run: DryRun = False,
    _yes: Annotated[
        bool, typer.Option("--yes", help="Taken as given: a re-drive does no harm, so it never asks.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Sends messages of a dead letter queue back to their queue, however often they came back before."""
    from jobs.composition import open_program
    from jobs.housekeeping import read_queue, retry_by_hand, would_be_retried
    from jobs.output import print_json

    chosen = message or []
    with open_program() as program:
        if dry_run:
            letters = would_be_retried(program, read_queue(queue), chosen, recoverable_only=recoverable)
            _say_dry_run(letters, "would be sent back", as_json=as_json)
            return
        result = retry_by_hand(program, read_queue(queue), chosen, recoverable_only=recoverable)
    if as_json:
        print_json(result.as_dict())
    else:
        _say_retried(result)


@app.command("retry-all")
def retry_all_dlqs(as_json: AsJson = False) -> None:
    """Sends the messages of all dead letter queues back to their queues: what the housekeeping does every ten minutes.

    A message that came back more than HOUSEKEEPING_MAX_RETURNS times is left alone; `dlq retry` still sends it.
    """
    from jobs.composition import open_program
    from jobs.housekeeping import run_housekeeping
    from jobs.output import print_json

    with open_program() as program:
        done = run_housekeeping(program)
    if as_json:
        print_json([result.as_dict() for result in done.results.values()])
        return
    for result in done.results.values():
        _say_retried(result)


@app.command("purge")
def purge_dlq(
    queue: Queue,
    include_retries: Annotated[
        bool,
        typer.Option(
            "--include-retries", help="Also remove mapping retries, whose NOMIS records then stay without a mapping."
        ),
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the messages are written first; below REPORTS_LOCATION by default."),
    ] = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help=YES_HELP)] = False,
) -> None:
    """Removes the messages of a dead letter queue for good, after writing them to a file.

    Refuses while the queue holds mapping retries, since a record that loses its mapping is made a second time.
    """
    from jobs.acting import agreed
    from jobs.composition import open_program
    from jobs.endings import UsageError
    from jobs.housekeeping import dead_letter_queue, purge, read_queue

    with open_program() as program:
        letters = dead_letter_queue(program, read_queue(queue)).look()
        retries = sum(letter.is_mapping_retry for letter in letters)
        if retries and not include_retries:
            raise UsageError(
                f"the dead letter queue of {queue} holds {retries} mapping retries, which heal when the mapping "
                "service is back: use `dlq retry`, or --include-retries to lose those mappings"
            )
        _say_dry_run(letters, "would be removed" if dry_run else "to remove", as_json=False)
        if not letters or not agreed(f"Remove {len(letters)} messages for good?", yes=yes, dry_run=dry_run):
            return
        removed, left, place = purge(program, queue, letters, _exporter(program, queue, export))
    typer.echo(f"{removed} messages removed; they are kept in {place}")
    if left:
        typer.echo(f"{left} messages came since you looked, and are still there")


def _exporter(program: "Program", queue: str, file: Path | None) -> "Callable[[Sequence[DeadLetter]], str]":
    """Writes messages to `file`, or else below the place of the reports; where they are then."""
    import json

    from reports.archive import Folder, open_archive
    from sync import clock

    def export(letters: "Sequence[DeadLetter]") -> str:
        content = json.dumps([letter.as_dict() for letter in letters], ensure_ascii=False, indent=1)
        if file is not None:
            place, name = Folder(file.parent), file.name
            place.write(name, content)
            return place.location(name)
        archive = open_archive(program.settings, lambda: program.aws.client("s3"))
        name = f"dlq/{queue}-{clock.now():%Y%m%dT%H%M%S%f}Z.json"
        archive.write(name, content)
        return archive.location(name)

    return export


def _say_dry_run(letters: "Sequence[DeadLetter]", what: str, *, as_json: bool) -> None:
    from jobs.output import print_json

    if as_json:
        print_json([letter.as_dict() for letter in letters])
        return
    typer.echo(f"{len(letters)} messages {what}")
    for letter in letters:
        typer.echo(f"  {letter.message.message_id}  {letter.type}  {_ids(letter)}".rstrip())


def _say_retried(result: "RetryResult") -> None:
    typer.echo(f"{result.queue}: {len(result.retried)} of {result.found} messages sent back")
    for each in result.left:
        typer.echo(f"  left {each.letter.message.message_id}  {each.letter.type}: {each.reason}")


def _show(program: "Program", found: "Diagnosis") -> None:
    from jobs.output import local_time

    zone = program.settings.zone
    letter = found.letter
    typer.echo(f"{letter.message.message_id}  {letter.type}  {found.failure_class}")
    sent = local_time(letter.message.sent_at, zone)
    typer.echo(f"  sent      {sent}; {found.attempts} failed attempts, sent back {found.returns} times")
    if letter.ids:
        typer.echo(f"  about     {_ids(letter)}")
    if letter.problem:
        typer.echo(f"  problem   {letter.problem}")
    if found.failure is not None:
        failure = found.failure.failure
        where = " ".join(str(part) for part in (failure.service, failure.method, failure.path) if part)
        status = "" if failure.status is None else f" status {failure.status}"
        typer.echo(
            f"  failed    {local_time(found.failure.time, zone)} at {failure.step}: {where}{status}: {failure.reason}"
        )
    typer.echo(f"  advice    {found.hint}")


def _ids(letter: "DeadLetter") -> str:
    return " ".join(f"{name}={value}" for name, value in letter.ids.items() if isinstance(value, str | int | float))
