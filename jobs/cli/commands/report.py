"""`report`: makes or delivers the report of a reconciliation again, and prints a request to NOMIS support."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from jobs.cli.arguments import AsJson, DryRun, Operator, ReconciliationId, Yes
from jobs.cli.completion import complete_channels
from jobs.cli.confirmation import confirm, operator_name
from jobs.cli.output import print_json, say
from jobs.errors import UsageError

if TYPE_CHECKING:
    from reports.delivery.channels import Channel

app = typer.Typer(
    name="report", help="Make or deliver a report again, or print a support request.", no_args_is_help=True
)


@app.command("render")
def render(run_id: ReconciliationId) -> None:
    """Makes the report of a run again, in REPORTS_LOCATION.

    It prints where the report is.
    """
    from jobs.operations.report_delivery import render_report
    from jobs.runtime.application import open_application

    with open_application() as application:
        say(render_report(application, run_id))


@app.command("request")
def request(
    run_id: ReconciliationId,
    cause: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only differences with this cause. Give its text, or a part that no other cause contains.",
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV to attach, instead of text to paste.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prints one request to NOMIS support for a whole run.

    The request is for the differences that only NOMIS support can fix. For each of them, it names the prisoner, the
    booking, the NOMIS records and what to change, with the SQL for records that have to be looked up in NOMIS. The
    command sends nothing.
    """
    from jobs.operations.bulk_fixes import records_of_cause
    from jobs.operations.report_delivery import find_result
    from jobs.runtime.application import open_application
    from reports.presentation.support_request import request_csv, request_rows, request_text

    if as_csv and as_json:
        raise UsageError("give --csv or --json, not both")
    with open_application() as application:
        result = find_result(application, run_id)
    rows = request_rows(records_of_cause(result, cause))
    if not rows:
        among = "" if cause is None else f" with the cause {cause!r}"
        raise UsageError(f"run {result.run_id} has no difference{among} that NOMIS support has to fix")
    if as_json:
        print_json(rows)
        return
    for line in (request_csv(rows) if as_csv else request_text(result, rows)).splitlines():
        say(line)


@app.command("send")
def send(
    run_id: ReconciliationId,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANNEL",
            help="slack, email or archive; repeatable. By default, every channel that is set up.",
            autocompletion=complete_channels,
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
) -> None:
    """Delivers the report of a run again.

    It shows which channels the report goes to, asks for confirmation, and records the delivery.
    """
    from jobs.operations.report_delivery import plan_sending, send_report
    from jobs.runtime.application import open_application

    channels = parse_channels(to or [])
    with open_application() as application:
        who = operator_name(application.settings, operator)
        plan = plan_sending(application, run_id, channels)
        say(f"the report of {plan.result.run_id} ({plan.result.status}) goes to {', '.join(plan.channels)}")
        if plan.before:
            last = plan.before[0]
            say(f"the report has been sent by hand, most recently by {last.who} at {last.time:%d/%m/%Y %H:%M:%S} UTC")
        if confirm(f"This sends the report to {', '.join(plan.channels)}. Continue?", yes=yes, dry_run=dry_run):
            send_report(application, plan, who)
            say("sent")


def parse_channels(names: list[str]) -> "tuple[Channel, ...]":
    """The named channels, each once. Raises `UsageError` for a name that is not a channel."""
    from reports.delivery.channels import CHANNELS

    unknown = [name for name in names if name not in CHANNELS]
    if unknown:
        raise UsageError(f"there is no channel {', '.join(unknown)}; --to takes {', '.join(CHANNELS)}")
    return tuple(cast("Channel", name) for name in dict.fromkeys(names))
