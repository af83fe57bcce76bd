"""`check`, `db` and `demo`: check an installation, upgrade its database, and show the whole system in a sandbox."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import print_json, say
from jobs.errors import WORK_FAILED, WorkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.health.check import CheckResult

db = typer.Typer(name="db", help="The database.", no_args_is_help=True)


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Checks that everything the program needs is available.

    It checks the settings, the database, queues, dead letter queues, every upstream service and its credentials,
    breakers, messages that wait for a service, the lists of exclusions, the location of the reports, Slack, email and
    Application Insights. The output begins with the parts that are `DOWN` and what to change, and gives each cause
    once. A line for each part that is `ok` follows. The last line says how many parts are down and names them, or
    says that all parts are ok. A part that is switched off counts as `ok`, and its line says `off`. The command exits 1
    if anything is down, and 2 if a setting cannot be read.
    """
    from jobs.health.check import advice_to_begin, run_checks
    from jobs.runtime.application import open_application

    with open_application(prepare_database=False) as application:
        results = run_checks(application)
        advice = advice_to_begin(application.settings)
    ok = all(result.ok for result in results)
    if as_json:
        print_json({"ok": ok, "checks": [result.as_dict() for result in results]})
    else:
        _show(results)
        if advice is not None:
            say(f"prisoner-to-nomis: {advice}", err=True)
    if not ok:
        raise typer.Exit(WORK_FAILED)


def _show(results: "Sequence[CheckResult]") -> None:
    from jobs.health.check import causes, joined_names

    width = max(len(result.name) for result in results)
    for cause in causes(results):
        say(f"{cause.names.ljust(width)}  DOWN  {cause.text}")
    for result in results:
        if result.ok:
            say(f"{result.name.ljust(width)}  ok  {result.detail}".rstrip())
    down = [result.name for result in results if not result.ok]
    say(f"{len(down)} of {len(results)} DOWN: {joined_names(down)}" if down else f"all {len(results)} parts are ok")


@db.command("upgrade")
def upgrade() -> None:
    """Upgrades the database to the current schema.

    If the database does not exist yet, it is created. Several processes can safely run the command at the same time.
    Unless DATABASE_AUTO_UPGRADE is false, all other commands except `status`, `check` and `db current` also create or
    upgrade the database when they first use it.
    """
    from jobs.runtime.application import open_application

    with open_application(prepare_database=False) as application:
        database = application.database
        if (newer := database.newer_schema()) is not None:
            raise WorkError(newer)
        made, current = not database.exists, database.schema_is_current()
        database.upgrade()
        done = "created" if made else "the schema is already current" if current else "upgraded to the current schema"
        say(f"{database.url_without_password}: {done}")


@db.command("current")
def current() -> None:
    """Shows the version of the database schema.

    It also shows the schema version that the installed program needs, and exits 1 if the two versions differ.
    """
    from jobs.runtime.application import open_application
    from sync.store.database import newest_revision

    with open_application(prepare_database=False) as application:
        database = application.database
        found = database.revision()
        say(f"{database.url_without_password}: schema {found or 'none'}, this program needs {newest_revision()}")
        if found != newest_revision():
            advice = database.newer_schema() or "bring the database up to date with: prisoner-to-nomis db upgrade"
            say(f"prisoner-to-nomis: {advice}", err=True)
            raise typer.Exit(WORK_FAILED)


def demo(
    directory: Annotated[
        Path,
        typer.Option("--dir", metavar="DIR", help="The folder for everything that is written; created if missing."),
    ] = Path("demo-out"),
    prisoners: Annotated[int, typer.Option(min=50, max=200_000, help="Prisoners in the sandbox.")] = 1000,
    events: Annotated[int, typer.Option(min=0, max=100_000, help="Domain events to publish.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed gives the same data and the same events.")] = 1,
    latency_ms: Annotated[
        int, typer.Option(min=0, max=10_000, help="How many milliseconds each fake service takes to respond.")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the report in a browser.")] = False,
) -> None:
    """Shows the whole system at work in a sandbox.

    It needs no settings, no server and no network. It starts an SQS/SNS emulator, and fake HMPPS services that use real
    HTTP. It uses SQLite, publishes and drains events, runs the reconciliations, and writes their reports under DIR.
    Each reconciliation is compared with its eight earlier weekly runs. At the end, one table shows what happened, and
    another shows where to look next. The command exits 1 if a planted difference was not found, if a record in NOMIS is
    duplicated, missing or wrong, or if the demo was stopped by Ctrl+C or SIGTERM.
    """
    from jobs.runtime.signals import interrupting

    with interrupting("the demo"):
        from jobs.demo.demo import DemoOptions, run_demo

        run_demo(DemoOptions(directory, prisoners, events, seed, latency_ms, open_report=not no_open))
