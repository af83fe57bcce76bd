"""`reconcile`: where NOMIS and DPS disagree."""

from typing import Annotated

import typer

app = typer.Typer(name="reconcile", help="Find where NOMIS and DPS disagree, why, and mend it.", no_args_is_help=True)


@app.command("incentives")
def incentives(
    prison: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this prison; may be repeated.")] = None,
    prisoner: Annotated[
        list[str] | None, typer.Option(metavar="OFFENDER_NO", help="Only this prisoner; may be repeated.")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, max=100, help="In how many parts the work is done, side by side.")] = 1,
    shard: Annotated[int, typer.Option(min=0, help="Which of the parts this is, counted from 0.")] = 0,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN_ID", help="Go on with a run that died or was incomplete.")
    ] = None,
    no_notify: Annotated[bool, typer.Option("--no-notify", help="Keep the result, but send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as one JSON object.")] = False,
) -> None:
    """Compares the incentive level of every active prisoner in NOMIS and in DPS.

    Differences are read again before they count, told apart as new, persisting and resolved, and explained. Without
    --no-notify the report is delivered. Mismatches are a result, not a failure: a complete run exits 0 with any
    number of them, an incomplete one exits 1. SIGTERM stops it at the next finished page; it can be resumed from
    there.
    """
    from jobs.composition import open_program
    from jobs.reconciling import read_parameters, run_reconciliation

    notify = not no_notify
    parameters = read_parameters(prison or (), prisoner or (), shards, shard, resume, notify=notify)
    with open_program() as program:
        run_reconciliation(program, parameters, as_json=as_json)
