"""`telemetry`: the custom events that were tracked."""

from typing import Annotated

import typer


def telemetry(
    name: Annotated[str | None, typer.Option(help="Only events of this name.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Only events since then: a date or date-time (TZ where it has no offset), or an age: 30m, 2h, 7d.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line: name, time, properties.")] = False,
) -> None:
    """The custom events that were tracked, oldest first."""
    from jobs.composition import open_program
    from jobs.moments import read_moment
    from jobs.output import print_json
    from sync.store.telemetry import read_events

    with open_program() as program:
        start = read_moment(since, program.settings.zone) if since else None
        for event in read_events(program.database, name, start):
            if as_json:
                print_json(event)
            else:
                properties = " ".join(f"{key}={value}" for key, value in event["properties"].items())
                typer.echo(f"{event['time']}  {event['name']}  {properties}".rstrip())
