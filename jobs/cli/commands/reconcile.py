"""`reconcile`: where NOMIS and DPS disagree."""

from typing import Annotated

import typer

from jobs.operations.acting import AS_HELP, DRY_RUN_HELP, YES_HELP

app = typer.Typer(name="reconcile", help="Find where NOMIS and DPS disagree, why, and mend it.", no_args_is_help=True)
fix = typer.Typer(name="fix", help="Mend what made a difference.", no_args_is_help=True)
app.add_typer(fix)


@app.command("incentives")
def incentives(
    prison: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this prison; may be repeated.")] = None,
    prisoner: Annotated[
        list[str] | None, typer.Option(metavar="OFFENDER_NO", help="Only this prisoner; may be repeated.")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, max=100, help="In how many parts the work is done, side by side.")] = 1,
    shard: Annotated[
        int | None,
        typer.Option(min=0, help="Which of the parts this is, counted from 0; in an Indexed Job that of the pod."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN_ID",
            help="Go on with a run that died or was incomplete; `last`: with the last one of the past 12 hours that "
            "looked at the same, or begin one.",
        ),
    ] = None,
    no_notify: Annotated[bool, typer.Option("--no-notify", help="Keep the result, but send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as one JSON object.")] = False,
) -> None:
    """Compares the incentive levels of all active prisoners.

    Differences are read again before they count, told apart as new, persisting and resolved, and explained. Without
    --no-notify the report is delivered. Mismatches are a result, not a failure: a complete run exits 0 with any
    number of them, an incomplete one exits 1. SIGTERM or Ctrl+C stops it soon, also while it waits for a service; what
    is finished stays, and it can be resumed from there.
    """
    from jobs.operations.reconcile import read_parameters, run_reconciliation
    from jobs.runtime.application import open_application

    with open_application() as application:
        if shard is None:
            shard = (application.settings.job_completion_index or 0) if shards > 1 else 0
        parameters = read_parameters(prison or (), prisoner or (), shards, shard, resume, notify=not no_notify)
        run_reconciliation(application, parameters, as_json=as_json)


OffenderNo = Annotated[str, typer.Argument(metavar="OFFENDER_NO", help="The prisoner, such as A1234BC.")]


@app.command("explain")
def explain(
    offender_no: OffenderNo,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Says why one prisoner differs, and what mends it.

    Which side is right is said too. Both histories are shown, newest first, with where each record came from.
    """
    from jobs.operations.explain import explain_prisoner
    from jobs.operations.reconcile import parse_offender_no
    from jobs.runtime.application import open_application

    prisoner = parse_offender_no(offender_no)
    with open_application() as application:
        explain_prisoner(application, prisoner, as_json=as_json)


@fix.command("received")
def received(
    offender_no: OffenderNo,
    prison: Annotated[str | None, typer.Option(metavar="ID", help="The prison of the arrival, such as LEI.")] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="REASON", help="NEW_ADMISSION, READMISSION or TRANSFERRED.")
    ] = None,
    occurred_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The real time of the arrival, such as 2023-05-20T15:22:00.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for both sides to agree afterwards.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Publish it although something speaks against it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=DRY_RUN_HELP)] = False,
    yes: Annotated[bool, typer.Option("--yes", help=YES_HELP)] = False,
    named: Annotated[str | None, typer.Option("--as", metavar="NAME", help=AS_HELP)] = None,
) -> None:
    """Publishes the received event of an arrival that DPS missed.

    One event for one prisoner. What is not given is taken from the diagnosis. Shows what would be published and asks
    first; what was done is recorded. Other services act on the event too.
    """
    from jobs.operations.explain import fix_received, parse_arrival, parse_reason
    from jobs.operations.reconcile import parse_offender_no, parse_prison_id
    from jobs.runtime.application import open_application

    prisoner = parse_offender_no(offender_no)
    prison_id = parse_prison_id(prison) if prison else None
    moment = parse_arrival(occurred_at) if occurred_at else None
    with open_application() as application:
        fix_received(
            application,
            prisoner,
            prison_id,
            parse_reason(reason) if reason else None,
            moment,
            named=named,
            wait_seconds=wait,
            dry_run=dry_run,
            yes=yes,
            force=force,
        )
