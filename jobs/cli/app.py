"""The command line: `prisoner-to-nomis`.

Every command exits 0 on success, 1 if the work itself failed, and 2 on bad usage or bad settings. An error is printed
on stderr as one line, or as one line for each wrong setting. LOG_LEVEL=DEBUG adds the full traceback.
"""

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from jobs.cli.commands import (
    activities,
    contracts,
    creations,
    dlq,
    drain,
    duplicates,
    history,
    incentives,
    installation,
    reconcile,
    report,
    resync,
    scheduler,
    status,
)
from jobs.cli.output import say
from jobs.errors import BAD_USAGE, SUCCESS, WORK_FAILED, exit_code_for

PROGRAM = "prisoner-to-nomis"

app = typer.Typer(
    name=PROGRAM,
    help="Keeps NOMIS in step with the Digital Prison Services, and reports weekly where the two disagree.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 120},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


def _log_more(wanted: bool) -> None:
    if wanted:
        from sync.settings.loading import log_more

        log_more()


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    _verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", callback=_log_more, help="Show the log even on a terminal, as LOG_LEVEL=INFO does."
        ),
    ] = False,
) -> None:
    """Keeps NOMIS in step with the Digital Prison Services, and reports weekly where the two disagree.

    Settings are environment variables; `prisoner-to-nomis check` tests them.
    """


app.command("demo")(installation.demo)
app.command("scheduler")(scheduler.scheduler)
app.command("drain")(drain.drain)
app.add_typer(reconcile.app)
app.add_typer(incentives.app)
app.command("resync")(resync.resync)
app.add_typer(report.app)
app.add_typer(dlq.app)
app.add_typer(duplicates.app)
app.add_typer(creations.app)
app.add_typer(activities.activities)
app.add_typer(activities.appointments)
app.add_typer(history.runs)
app.command("actions")(history.actions)
app.command("telemetry")(history.telemetry)
app.add_typer(installation.db)
app.command("check")(installation.check)
app.add_typer(contracts.app)
app.command("status")(status.status)


def main() -> None:
    """Runs the command that the process was started with, and ends the process with the exit code of that command."""
    try:
        # Typer would print its own texts for wrong arguments.
        ended = app(prog_name=PROGRAM, standalone_mode=False)
    except typer.Abort:
        say("Aborted!", err=True)
        sys.exit(WORK_FAILED)
    except TyperException as error:
        _print_usage_error(error)
        sys.exit(BAD_USAGE)
    except Exception as error:  # every error ends as one line with the right exit code
        code, line = exit_code_for(error)
        _print_error(error, _with_remedy(error, line))
        sys.exit(code)
    sys.exit(ended if isinstance(ended, int) else SUCCESS)


def _print_usage_error(error: TyperException) -> None:
    from jobs.cli.usage_errors import is_help, usage_text

    for line in str(error).splitlines() if is_help(error) else [f"{PROGRAM}: {usage_text(error)}"]:
        say(line, err=True)


def _with_remedy(error: Exception, line: str) -> str:
    from sync.errors import SyncError
    from sync.settings.loading import load_settings

    if not isinstance(error, SyncError):
        return line
    from jobs.health.remedies import with_remedy

    return with_remedy(load_settings(), error, line)


def _print_error(error: Exception, line: str) -> None:
    from jobs.runtime.logging import trace_of, traces_wanted

    if traces_wanted():
        for each in trace_of(error).splitlines():
            say(each, err=True)
    for each in line.splitlines():
        say(f"{PROGRAM}: {each}", err=True)
