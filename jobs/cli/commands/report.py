"""`report`: the report of a reconciliation, again."""

from typing import Annotated

import typer

from jobs.operations.acting import AS_HELP, DRY_RUN_HELP, YES_HELP

app = typer.Typer(name="report", help="Make or deliver the report of a reconciliation again.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The id of a reconciliation, as `runs list` shows it.")]


@app.command("render")
def render(run_id: RunId) -> None:
    """Makes the report of a run again, in REPORTS_LOCATION.

    Says where it is then.
    """
    from jobs.operations.report import render_report
    from jobs.runtime.application import open_application

    with open_application() as application:
        render_report(application, run_id)


@app.command("send")
def send(
    run_id: RunId,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANNEL", help="slack, email or archive; may be repeated. All that are set up by default."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=DRY_RUN_HELP)] = False,
    yes: Annotated[bool, typer.Option("--yes", help=YES_HELP)] = False,
    named: Annotated[str | None, typer.Option("--as", metavar="NAME", help=AS_HELP)] = None,
) -> None:
    """Delivers the report of a run once more.

    Shows what goes where and asks first; that it was sent is recorded.
    """
    from jobs.operations.report import parse_channels, send_report
    from jobs.runtime.application import open_application

    channels = parse_channels(to or [])
    with open_application() as application:
        send_report(application, run_id, channels, named=named, dry_run=dry_run, yes=yes)
