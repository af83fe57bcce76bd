"""`db`: the database's schema."""

import typer

from jobs.cli.output import say

app = typer.Typer(name="db", help="The database.", no_args_is_help=True)


@app.command("upgrade")
def upgrade() -> None:
    """Brings the database to the current schema.

    Safe when several processes start at once. Also done on start, unless DATABASE_AUTO_UPGRADE=false.
    """
    from jobs.runtime.application import open_application

    with open_application(prepare_database=False) as application:
        made, current = not application.database.is_there, application.database.schema_is_current()
        application.database.upgrade()
        done = "made" if made else "the schema is current already" if current else "upgraded to the current schema"
        say(f"{application.database.url_without_password}: {done}")
