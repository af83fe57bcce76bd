"""`actions`: what people did to the outside world."""

from typing import Annotated

import typer


def actions(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many actions to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """The last actions of people, and how they ended.

    Who did what, when, and to what. The state is started, done, failed, refused or unknown; an action that stays
    started was stopped in the middle: look in NOMIS, or at the queue, whether it was done.
    """
    from jobs.cli.output import local_time, print_json, print_table
    from jobs.runtime.application import open_application
    from sync.store.actions import list_actions

    with open_application() as application:
        with application.database.read() as connection:
            found = list_actions(connection, limit)
        if as_json:
            print_json([action.as_dict() for action in found])
            return
        zone = application.settings.zone
        print_table(
            ("WHEN", "WHO", "ACTION", "TARGET", "STATE", "OUTCOME"),
            [
                (local_time(each.time, zone), each.who, each.action, each.target, each.state, each.outcome)
                for each in found
            ],
            nothing="No action is recorded.",
        )
