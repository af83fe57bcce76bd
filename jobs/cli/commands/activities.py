"""`activities` and `appointments`: repairs in NOMIS and, for development only, the deletion of all mapped records."""

from typing import Annotated

import typer

from jobs.cli.arguments import DryRun, Operator, Unchecked, Yes
from jobs.cli.confirmation import confirm, confirm_unchecked, operator_name
from jobs.cli.output import say
from reports.presentation.text import count

activities = typer.Typer(name="activities", help="Repairs to activity records in NOMIS.", no_args_is_help=True)
appointments = typer.Typer(name="appointments", help="Development only: deletes appointments.", no_args_is_help=True)


@appointments.callback()
def of_appointments() -> None:
    """Development only: deletes appointments."""
    # Without a callback, the only command would replace its group.


@activities.command("delete-allocation")
def delete_allocation(
    allocation_id: Annotated[int, typer.Argument(metavar="ID", help="The OFF_PRGREF_ID of the allocation in NOMIS.")],
    unchecked: Unchecked = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
) -> None:
    """Deletes one row of an allocation that NOMIS has twice.

    If a booking has two allocations to one activity, NOMIS refuses every change to either. Keep the older one, unless
    only the newer one has attendances. Retrying the failed message shows whether the deletion helped. NOMIS accepts any
    id. Unless the program knows both rows, the command therefore asks for confirmation twice, and --yes needs
    --unchecked.
    """
    _delete_row("allocation", allocation_id, unchecked=unchecked, dry_run=dry_run, yes=yes, operator=operator)


@activities.command("delete-attendance")
def delete_attendance(
    event_id: Annotated[int, typer.Argument(metavar="ID", help="The EVENT_ID of the attendance in NOMIS.")],
    unchecked: Unchecked = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
) -> None:
    """Deletes one row of an attendance that NOMIS has twice.

    If a booking has two attendances for one session, NOMIS refuses every change to either. Keep the older one, unless
    only the newer one is paid. Retrying the failed message shows whether the deletion helped. NOMIS accepts any id.
    Unless the program knows both rows, the command therefore asks for confirmation twice, and --yes needs --unchecked.
    """
    _delete_row("attendance", event_id, unchecked=unchecked, dry_run=dry_run, yes=yes, operator=operator)


@activities.command("delete-all")
def delete_all_activities(dry_run: DryRun = False, yes: Yes = False, operator: Operator = None) -> None:
    """Development only: deletes every mapped activity.

    Each activity is deleted in NOMIS, and then its mapping is deleted. Use the command after a reset of the DPS
    environment. The command never runs in production, and elsewhere only if FEATURE_EVENT_DELETEALL=true.
    """
    _delete_all("activities", "activity record", dry_run=dry_run, yes=yes, operator=operator)


@appointments.command("delete-all")
def delete_all_appointments(dry_run: DryRun = False, yes: Yes = False, operator: Operator = None) -> None:
    """Development only: deletes every mapped appointment.

    Each appointment is deleted in NOMIS, and then its mapping is deleted. Use the command after a reset of the DPS
    environment. The command never runs in production, and elsewhere only if FEATURE_EVENT_DELETEALL=true.
    """
    _delete_all("appointments", "appointment record", dry_run=dry_run, yes=yes, operator=operator)


def _delete_row(what: str, row: int, *, unchecked: bool, dry_run: bool, yes: bool, operator: str | None) -> None:
    from jobs.operations.duplicate_rows import check_row, delete_row, plan_row
    from jobs.runtime.application import open_application

    with open_application() as application:
        who = operator_name(application.settings, operator)
        plan = plan_row(application, what, row)
        say(f"delete {what} {row} in NOMIS")
        check_row(plan)
        question = f"This deletes {what} {row} in NOMIS. Continue?"
        if plan.unchecked is None:
            confirmed = confirm(question, yes=yes, dry_run=dry_run)
        else:
            confirmed = confirm_unchecked(question, plan.unchecked, yes=yes, dry_run=dry_run, accepted=unchecked)
        if confirmed:
            say(delete_row(application, plan, who))


def _delete_all(domain: str, noun: str, *, dry_run: bool, yes: bool, operator: str | None) -> None:
    from jobs.operations.delete_all import check_allowed, delete_all, mapped_records
    from jobs.runtime.application import open_application

    with open_application() as application:
        check_allowed(application.settings)
        who = operator_name(application.settings, operator)
        every = mapped_records(application, domain)
        number, environment = count(len(every), noun), application.settings.environment_name
        say(f"mapped in {environment}: {number}")
        question = f"This deletes {number} for good from NOMIS in {environment}. Continue?"
        if every and confirm(question, yes=yes, dry_run=dry_run):
            say(f"{count(delete_all(application, domain, every, who), noun)} deleted, each with its mapping")
