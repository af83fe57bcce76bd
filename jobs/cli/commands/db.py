"""`db`: the database's schema."""

import typer

from jobs.cli.output import say

app = typer.Typer(name="db", help="The database.", no_args_is_help=True)


@app.command("upgrade")
def upgrade() -> None:
    """Brings the database to the current schema.

    Safe when several processes start at once. Also done on start, unless DATABASE_AUTO_UPGRADE=false.
    """
    from jobs.runtime.application import open_program

    with open_program(prepare_database=False) as program:
        made, current = not program.database.is_there, program.database.schema_is_current()
        program.database.upgrade()
        done = "made" if made else "the schema is current already" if current else "upgraded to the current schema"
        say(f"{program.database.url_without_password}: {done}")
