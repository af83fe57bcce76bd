"""`report`: the report of a reconciliation, made or delivered again."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from jobs.cli.arguments import DryRun, Operator, Yes
from jobs.cli.confirmation import confirm, operator_name
from jobs.cli.output import say
from jobs.errors import UsageError

if TYPE_CHECKING:
    from reports.delivery.channels import Channel

app = typer.Typer(name="report", help="Make or deliver the report of a reconciliation again.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The id of a reconciliation, as `runs list` shows it.")]


@app.command("render")
def render(run_id: RunId) -> None:
    """Makes the report of a run again, in REPORTS_LOCATION.

    Prints where it is.
    """
    from jobs.operations.report_delivery import render_report
    from jobs.runtime.application import open_application

    with open_application() as application:
        say(render_report(application, run_id))


@app.command("send")
def send(
    run_id: RunId,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANNEL", help="slack, email or archive; may be repeated. All that are set up by default."
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
) -> None:
    """Delivers the report of a run once more.

    Shows what goes where and asks first; that it was sent is recorded.
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
            say(f"it was sent by hand before, last by {last.who} at {last.time:%d/%m/%Y %H:%M:%S} UTC")
        if confirm("Send it?", yes=yes, dry_run=dry_run):
            send_report(application, plan, who)
            say("sent")


def parse_channels(names: list[str]) -> "tuple[Channel, ...]":
    """The named channels, each once. Raises `UsageError` for other names."""
    from reports.delivery.channels import CHANNELS

    unknown = [name for name in names if name not in CHANNELS]
    if unknown:
        raise UsageError(f"there is no channel {', '.join(unknown)}; --to takes {', '.join(CHANNELS)}")
    return tuple(cast("Channel", name) for name in dict.fromkeys(names))
