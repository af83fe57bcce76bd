"""`check` and `db`: whether everything is set up, and the schema of the database."""

from typing import Annotated

import typer

from jobs.cli.output import print_json, say
from jobs.errors import WORK_FAILED

db = typer.Typer(name="db", help="The database.", no_args_is_help=True)

_NOTHING_SET_UP = (
    "prisoner-to-nomis: nothing is set up here: set the variables of doc/settings.md, or try the embedded world: "
    "prisoner-to-nomis demo, python -m sandbox"
)


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Checks whether everything that the program needs is there.

    Settings, database, queues, dead letter queues, every upstream service, the credentials for it, breakers, the list
    of exclusions, the place of the reports, Slack and email. One line each: `ok`, or `DOWN` and what to change; what is
    switched off is `ok` and says `off`. Exits 1 if anything is down, 2 if a setting cannot be read.
    """
    from jobs.health.check import nothing_is_set_up, run_checks
    from jobs.runtime.application import open_application

    with open_application(prepare_database=False) as application:
        results = run_checks(application)
        nothing_set_up = nothing_is_set_up(application.settings)
    ok = all(result.ok for result in results)
    if as_json:
        print_json({"ok": ok, "checks": [result.as_dict() for result in results]})
    else:
        width = max(len(result.name) for result in results)
        for result in results:
            say(f"{result.name.ljust(width)}  {'ok' if result.ok else 'DOWN'}  {result.detail}".rstrip())
        if nothing_set_up:
            say(_NOTHING_SET_UP, err=True)
    if not ok:
        raise typer.Exit(WORK_FAILED)


@db.command("upgrade")
def upgrade() -> None:
    """Brings the database to the current schema.

    Safe when several processes start at once. Also done on start, unless DATABASE_AUTO_UPGRADE=false.
    """
    from jobs.runtime.application import open_application

    with open_application(prepare_database=False) as application:
        made, current = not application.database.exists, application.database.schema_is_current()
        application.database.upgrade()
        done = "made" if made else "the schema is current already" if current else "upgraded to the current schema"
        say(f"{application.database.url_without_password}: {done}")
