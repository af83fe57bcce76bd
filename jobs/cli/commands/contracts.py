"""`contracts`: whether the upstream services still offer what the program relies on."""

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson
from jobs.cli.output import print_json, print_table, say
from jobs.errors import WORK_FAILED, UsageError

app = typer.Typer(
    name="contracts", help="What the program relies on, and what the services offer.", no_args_is_help=True
)


@app.callback()
def contracts() -> None:
    """What the program relies on, and what the services offer."""


@app.command("check")
def check(
    service: Annotated[
        list[str] | None, typer.Option("--service", metavar="NAME", help="Only this service, as `check` names it.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also make one harmless read of each service, for its role and form.")
    ] = False,
    notify: Annotated[
        bool, typer.Option("--notify", help="Record the result, and tell Slack if it is another than the last.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compares what is relied on with the services' documents.

    Every operation that is called: its path, what is sent, what is read, statuses and roles. An error means that calls
    fail or are misread, a warning that some may, a note that nothing has to be done. Faults of a document that are
    known are counted and not shown; --json has them with their reasons. Exits 1 if there is an error.
    """
    from jobs.operations.contracts import SERVICES, run_contracts_check
    from jobs.runtime.application import open_application

    by_name = {str(name): name for name in SERVICES}
    unknown = [each for each in service or () if each not in by_name]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is not a service: choose from {', '.join(by_name)}")
    chosen = [by_name[each] for each in service or by_name]
    with open_application() as application:
        result = run_contracts_check(application, chosen, probe=probe, notify=notify)
    if as_json:
        print_json(result.as_dict())
    else:
        _print(result.as_dict())
    if not result.ok:
        raise typer.Exit(WORK_FAILED)


def _print(result: dict[str, object]) -> None:
    services: list[dict[str, object]] = result["services"]  # type: ignore[assignment]
    rows = []
    for each in services:
        for finding in each["findings"]:  # type: ignore[attr-defined]
            operations = finding["operations"]
            where = operations[0] if len(operations) == 1 else f"{len(operations)} operations" if operations else ""
            rows.append((finding["level"], each["service"], where, finding["text"]))
    if rows:
        print_table(("LEVEL", "SERVICE", "OPERATION", "DIFFERENCE"), rows)
        say()
    table = [
        (each["service"], each["version"], each["operations"], len(each["known"]), each["probe"])  # type: ignore[arg-type]
        for each in services
    ]
    print_table(("SERVICE", "VERSION", "OPERATIONS", "KNOWN FAULTS", "PROBE"), table)
    say(f"{result['errors']} errors, {result['warnings']} warnings, {result['notes']} notes")
