"""The commands for incentive levels: `reconcile explain`, `reconcile fix received` and `incentives repair`."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import AsJson, DryRun, OffenderNo, Operator, Yes, parse_offender_no, parse_prison_id
from jobs.cli.bulk_fixes import FromRun, OfCause, check_choice, check_json, fix_all
from jobs.cli.confirmation import confirm, operator_name
from jobs.cli.output import print_json, print_pairs, print_table, say
from jobs.errors import UsageError, WorkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.operations.reported_differences import ReportedDifferences
    from jobs.runtime.application import Application
    from reports.reconciliations.incentives.fixes import Plan
    from reports.reconciliations.incentives.mismatches import ExplainedPrisoner

app = typer.Typer(name="incentives", help="Fix incentive records in NOMIS.", no_args_is_help=True)
fix = typer.Typer(name="fix", help="Fix the cause of a difference.", no_args_is_help=True)

OptionalOffenderNo = Annotated[
    str | None, typer.Argument(metavar="[OFFENDER_NO]", help="The prisoner number, such as A1234BC.")
]


def explain(
    offender_no: OffenderNo,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Explains a difference between incentive levels.

    It shows why a prisoner has different levels in NOMIS and DPS, which side is right, what to do, and both histories,
    newest record first, with the origin of each record. It explains incentive levels only. The causes of all other
    differences are in the reports: if the last run of another reconciliation lists the prisoner, the command says where
    the report of that run is, or how to make it.
    """
    from jobs.operations.incentive_fixes import explain_prisoner
    from jobs.operations.reported_differences import reported_differences
    from jobs.runtime.application import open_application

    try:
        prisoner = parse_offender_no(offender_no)
    except UsageError as error:
        raise UsageError(
            f"{error}; `reconcile explain` is for incentive levels; the reports have the causes of other differences"
        ) from error
    with open_application() as application:
        others = reported_differences(application, prisoner, other_than="incentives")
        if not as_json:
            _print_others(prisoner, others)
        found = explain_prisoner(application, prisoner)
    if as_json:
        listed = [each.as_dict() for each in others]
        print_json(
            {"equal": found.equal, **found.mismatch.model_dump(mode="json", by_alias=True), "otherDifferences": listed}
        )
    else:
        _print_explanation(found)


@fix.command("received")
def received(
    offender_no: OptionalOffenderNo = None,
    from_run: FromRun = None,
    cause: OfCause = None,
    prison: Annotated[str | None, typer.Option(metavar="ID", help="The prison of the arrival, such as LEI.")] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="REASON", help="NEW_ADMISSION, READMISSION or TRANSFERRED.")
    ] = None,
    occurred_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The real time of the arrival, such as 2023-05-20T15:22:00.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait afterwards for both sides to agree.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Publish the event despite objections; one prisoner only.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Publishes the received event for an arrival that DPS missed.

    It publishes one event for one prisoner. Values that no option gives are taken from the diagnosis. It shows what it
    would publish, asks for confirmation, and records what it did. Other services act on the event too. --json works
    only with --from, and needs --yes or --dry-run.

    With --from, it publishes an event for each prisoner for whom the report of a reconciliation run proposes this
    command. It takes the arrivals from the report. It asks for confirmation once, and then handles the prisoners one by
    one. A prisoner is skipped if the levels have changed since the run, or if the event has been published since then.
    The command stops with exit code 1 at the first prisoner whose fix does not end as expected. Run the same command
    again to continue.
    """
    from jobs.runtime.application import open_application

    check_choice(offender_no, from_run, cause, named="OFFENDER_NO")
    if from_run is not None and (force or prison or reason or occurred_at):
        options = "--prison, --reason, --occurred-at and --force"
        raise UsageError(f"{options} are for one prisoner: give OFFENDER_NO instead of --from")
    check_json(from_run, as_json=as_json, yes=yes, dry_run=dry_run)
    prisoner = None if offender_no is None else parse_offender_no(offender_no)
    prison_id = parse_prison_id(prison) if prison else None
    given_reason = parse_reason(reason) if reason else None
    given_time = parse_arrival(occurred_at) if occurred_at else None
    with open_application() as application:
        who = operator_name(application.settings, operator)
        if from_run is not None:
            from jobs.operations.bulk_fixes import PUBLISHING, plan_received_item

            plan_item = partial(plan_received_item, who=who, wait_seconds=wait)
            names = ("reconcile", "fix", "received")
            fix_all(
                application, from_run, cause, names, plan_item, PUBLISHING, yes=yes, dry_run=dry_run, as_json=as_json
            )
            return
        from jobs.operations.incentive_fixes import choose_arrival, plan_received, publish_received

        assert prisoner is not None
        arrival = choose_arrival(application, prisoner, prison_id, given_reason, given_time)
        plan_now = partial(plan_received, application, prisoner, arrival)
        plan = plan_now()
        _show_plan(plan, force=force)
        question = f"This publishes a received event for {plan.offender_no}. All consumers act on the event. Continue?"
        if confirm(question, yes=yes, dry_run=dry_run):
            publish_received(application, plan, plan_now, who, force=force)
            say("published; from this event, DPS creates a review, which reaches NOMIS through the incentive queue")
            _verify(application, plan, wait)


@app.command("repair")
def repair(
    offender_no: OptionalOffenderNo = None,
    from_run: FromRun = None,
    cause: OfCause = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait afterwards for both sides to agree.")] = 5,
    force: Annotated[
        bool, typer.Option("--force", help="Write the level despite objections; one prisoner only.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Writes the DPS level of a prisoner to NOMIS again.

    It is for differences where DPS is right. It shows what it would write, asks for confirmation, and records what it
    did. It then reads both sides again. --json works only with --from, and needs --yes or --dry-run.

    With --from, it writes the level of each prisoner for whom the report of a reconciliation run proposes this command.
    It asks for confirmation once, and then handles the prisoners one by one. A prisoner whose levels have changed since
    the run is skipped. The command stops with exit code 1 at the first prisoner whose fix does not end as expected. Run
    the same command again to continue.
    """
    from jobs.runtime.application import open_application

    check_choice(offender_no, from_run, cause, named="OFFENDER_NO")
    if force and from_run is not None:
        raise UsageError("--force is for one prisoner: give OFFENDER_NO instead of --from")
    check_json(from_run, as_json=as_json, yes=yes, dry_run=dry_run)
    prisoner = None if offender_no is None else parse_offender_no(offender_no)
    with open_application() as application:
        who = operator_name(application.settings, operator)
        if from_run is not None:
            from jobs.operations.bulk_fixes import WRITING, plan_repair_item

            plan_item = partial(plan_repair_item, who=who, wait_seconds=wait)
            names = ("incentives", "repair")
            fix_all(application, from_run, cause, names, plan_item, WRITING, yes=yes, dry_run=dry_run, as_json=as_json)
        else:
            assert prisoner is not None
            _repair_one(application, who, prisoner, wait, force=force, yes=yes, dry_run=dry_run)


def _repair_one(
    application: "Application", who: str, prisoner: str, wait: float, *, force: bool, yes: bool, dry_run: bool
) -> None:
    from jobs.operations.incentive_fixes import plan_repair, write_repair

    plan_now = partial(plan_repair, application, prisoner)
    plan = plan_now()
    _show_plan(plan, force=force)
    question = f"This writes the level {plan.dps_level} of {plan.offender_no} to NOMIS. Continue?"
    if confirm(question, yes=yes, dry_run=dry_run):
        sequence = write_repair(application, plan, plan_now, who, force=force)
        say(f"written to NOMIS as sequence {sequence} of booking {plan.booking_id}")
        _verify(application, plan, wait)


def parse_arrival(text: str) -> datetime:
    """Parses the real time of an arrival, and returns it in London time.

    A time without an offset counts as London time. Raises `UsageError` if `text` is not a time, or if the time is in
    the future.
    """
    from sync import clock

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a valid time: give the time of the arrival, such as 2023-05-20T15:22:00"
        ) from error
    arrival = (moment if moment.tzinfo is None else moment.astimezone(clock.LONDON)).replace(tzinfo=clock.LONDON)
    if arrival > clock.now():
        # NOMIS uses the record with the latest date, so nothing dated before it would take effect.
        raise UsageError(f"{text} is in the future: give the real time of the arrival")
    return arrival


def parse_reason(text: str) -> str:
    """Parses the reason of a received event. Raises `UsageError` if DPS creates no review for that reason."""
    from reports.reconciliations.incentives.fixes import REASONS

    reason = text.strip().upper()
    if reason not in REASONS:
        raise UsageError(f"{text!r} leads to no review: give one of {', '.join(REASONS)}")
    return reason


def _show_plan(plan: "Plan", *, force: bool) -> None:
    """Prints what would be sent. Raises `WorkError` if there is an objection, unless `force` is set."""
    print_pairs(
        {
            "prisoner": f"{plan.offender_no}, booking {plan.booking_id}",
            "now": f"NOMIS {plan.nomis_level or 'none'}, DPS {plan.dps_level or 'none'}",
            "request": plan.request,
            **{f"  {name}": value for name, value in plan.body.items()},
        }
    )
    if plan.objection:
        say(f"objection: {plan.objection}")
        if not force:
            raise WorkError(f"nothing was sent: {plan.objection}; --force sends it anyway")


def _verify(application: "Application", plan: "Plan", wait_seconds: float) -> None:
    """Reads both sides until they agree, for at most `wait_seconds`, and prints the levels that were read last."""
    from reports.reconciliations.incentives import fixes
    from sync.alerting import command

    if plan.booking_id is None:
        return
    seen = fixes.verify(application.services, plan.offender_no, plan.booking_id, wait_seconds)
    if seen.equal:
        say(f"both sides have {seen.dps_level or 'no level'} now")
        return
    levels = f"NOMIS {seen.nomis_level or 'none'}, DPS {seen.dps_level or 'none'}"
    again = command("reconcile", "incentives", "--prisoner", plan.offender_no, "--no-notify")
    say(f"both sides still differ ({levels}); compare again once the incentive queue has been drained: {again}")


def _print_others(offender_no: str, others: "Sequence[ReportedDifferences]") -> None:
    from sync.alerting import command

    for each in others:
        rows = f"row{'' if len(each.rows) == 1 else 's'} {', '.join(map(str, each.rows))}"
        render = command("report", "render", each.run_id)
        report = f"its report is {each.place}" if each.place else f"to make its report: {render}"
        say(f"the last run of {each.reconciliation} lists {offender_no} ({rows}), with causes and commands; {report}")
    if others:
        say("")


def _print_explanation(found: "ExplainedPrisoner") -> None:
    mismatch = found.mismatch
    say(f"prisoner {mismatch.offender_no}, booking {mismatch.booking_id}")
    levels = f"NOMIS {mismatch.nomis_level or 'none'}, DPS {mismatch.dps_level or 'none'}"
    say(f"{levels}: {'both sides agree' if found.equal else f'{mismatch.standing} difference'}")
    diagnosis = mismatch.diagnosis
    if diagnosis is not None:
        say("")
        print_pairs(
            {
                "cause": f"{diagnosis.number}. {diagnosis.cause} (confidence {diagnosis.confidence})",
                "right side": diagnosis.right_side,
                "because": diagnosis.explanation,
                "what to do": diagnosis.action,
            }
        )
        for line in (*diagnosis.commands, *([diagnosis.request] if diagnosis.request else ())):
            say(f"  {line}")
    say("")
    print_table(
        ("SIDE", "WHEN", "LEVEL", "PRISON", "ORIGIN", "RECORD", "NOTE"),
        [
            (
                row.side,
                f"{row.at:%Y-%m-%d %H:%M:%S}",
                f"{row.level}{' (current)' if row.current else ''}",
                row.prison_id,
                row.origin,
                row.record,
                row.note,
            )
            for row in mismatch.evidence
        ],
    )
