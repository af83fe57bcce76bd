"""`contracts`: whether the upstream services still offer what the program relies on."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import AsJson
from jobs.cli.output import counts_text, print_json, print_table, say
from jobs.errors import WORK_FAILED, UsageError

if TYPE_CHECKING:
    from jobs.operations.contracts import ContractsResult
    from sync.contracts.check import ContractFinding

app = typer.Typer(name="contracts", help="Checks that the services offer what the program needs.", no_args_is_help=True)


@app.callback()
def contracts() -> None:
    """Checks that the services offer what the program needs."""


@app.command("check")
def check(
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service", metavar="NAME", help="Check only this service, named as in `prisoner-to-nomis check`."
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also make one harmless read from each service, to check roles and formats.")
    ] = False,
    notify: Annotated[
        bool,
        typer.Option(
            "--notify",
            help="Record the result, and post any changes to Slack. Exit 1 only if a document cannot be read.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compares what the program relies on with the services' documents.

    For every operation that the program calls, the command checks the path, request, response, statuses and roles. An
    error means that calls fail, or that their responses are misread. A warning means that some calls may fail. A note
    needs no action. Known faults of a document are counted but not shown; --json lists them with their reasons. Exits 1
    if there is an error. With --notify, changes go to Slack, so the exit code shows only whether every document could
    be read.
    """
    from jobs.operations.contracts import SERVICES, check_contracts, run_contracts_check
    from jobs.runtime.application import open_application

    by_name = {str(name): name for name in SERVICES}
    unknown = [each for each in service or () if each not in by_name]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is not a service: choose from {', '.join(by_name)}")
    chosen = [by_name[each] for each in service or by_name]
    with open_application(prepare_database=probe or notify) as application:
        check_them = run_contracts_check if notify else check_contracts
        result = check_them(application, chosen, probe=probe)
    show_check(result, as_json=as_json, notified=notify)


def show_check(result: "ContractsResult", *, as_json: bool, notified: bool) -> None:
    """Prints `result`. Exits 1 if there is an error or, with `notified`, only if a document could not be read."""
    if as_json:
        print_json(result.as_dict())
    else:
        _print(result)
    if result.unread if notified else not result.ok:
        raise typer.Exit(WORK_FAILED)


def _print(result: "ContractsResult") -> None:
    rows = [
        (finding.level, each.service, _where(finding), finding.text)
        for each in result.services
        for finding in each.findings
    ]
    if rows:
        print_table(("LEVEL", "SERVICE", "OPERATION", "DIFFERENCE"), rows)
        say()
    print_table(
        ("SERVICE", "VERSION", "OPERATIONS", "KNOWN FAULTS", "PROBE"),
        [
            (each.service, each.version, each.compared, len(each.known), result.probed.get(each.service, ""))
            for each in result.services
        ],
    )
    say(counts_text(result.counts(), always=result.counts()))


def _where(finding: "ContractFinding") -> str:
    """The operation of `finding`, or the number of its operations with an example. Empty if there is no operation."""
    if len(finding.operations) > 1:
        return f"{len(finding.operations)} operations, such as {finding.operations[0]}"
    return "".join(finding.operations)
