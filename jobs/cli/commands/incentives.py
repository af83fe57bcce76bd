"""`incentives`: single incentive records in NOMIS."""

from typing import Annotated

import typer

from jobs.operations.acting import AS_HELP, DRY_RUN_HELP, YES_HELP

app = typer.Typer(name="incentives", help="Mend single incentive records in NOMIS.", no_args_is_help=True)


@app.command("repair")
def repair(
    offender_no: Annotated[str, typer.Argument(metavar="OFFENDER_NO", help="The prisoner, such as A1234BC.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for both sides to agree afterwards.")] = 5,
    force: Annotated[bool, typer.Option("--force", help="Write it although something speaks against it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=DRY_RUN_HELP)] = False,
    yes: Annotated[bool, typer.Option("--yes", help=YES_HELP)] = False,
    named: Annotated[str | None, typer.Option("--as", metavar="NAME", help=AS_HELP)] = None,
) -> None:
    """Writes the DPS level of a prisoner to NOMIS again.

    It is for differences of which DPS is the right side. Shows what would be written and asks first; what was done is
    recorded, and both sides are read again.
    """
    from jobs.operations.explain import repair_incentive
    from jobs.operations.reconcile import parse_offender_no
    from jobs.runtime.application import open_application

    prisoner = parse_offender_no(offender_no)
    with open_application() as application:
        repair_incentive(application, prisoner, named=named, wait_seconds=wait, dry_run=dry_run, yes=yes, force=force)
