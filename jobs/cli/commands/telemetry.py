"""`telemetry`: the custom events that were tracked."""

from typing import Annotated

import typer

from jobs.cli.output import say


def telemetry(
    name: Annotated[str | None, typer.Option(help="Only events of this name.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Only events since then: a date or date-time (TZ where it has no offset), or an age: 30m, 2h, 7d.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the newest N of them.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: name, time (UTC), properties.")
    ] = False,
) -> None:
    """The custom events that were tracked, oldest first."""
    from datetime import datetime

    from jobs.cli.moments import parse_time
    from jobs.cli.output import local_time, print_json
    from jobs.runtime.application import open_application
    from sync.store.telemetry import read_events

    with open_application() as application:
        zone = application.settings.zone
        start = parse_time(since, zone) if since else None
        told = False
        for event in read_events(application.database, name, start, limit):
            told = True
            if as_json:
                print_json(event)
                continue
            when = local_time(datetime.fromisoformat(event["time"]), zone)
            properties = " ".join(f"{key}={value}" for key, value in event["properties"].items())
            say(f"{when}  {event['name']}  {properties}".rstrip())
        if not told and not as_json:
            say("No such event was tracked." if name or since else "No event was tracked.")
