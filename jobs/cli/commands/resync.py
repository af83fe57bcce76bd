"""`resync`: writes the current DPS state of one record, or of many records of a run, to NOMIS again."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import AsJson, DryRun, Operator, Unchecked, Yes
from jobs.cli.bulk_fixes import FromRun, OfCause, check_choice, fix_all
from jobs.cli.completion import complete_kinds
from jobs.cli.confirmation import confirm, confirm_unchecked, operator_name
from jobs.cli.output import print_json, print_pairs, say
from jobs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.operations.resync import PlannedResync
    from jobs.runtime.application import Application


def resync(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help="visit, activity, allocation, attendance, appointment or adjustment.",
            autocompletion=complete_kinds,
        ),
    ] = None,
    record_id: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="The DPS id: the reference of a visit, or the id of an activity's schedule, an allocation, an "
            "attendance, an appointment's attendee or an adjustment.",
        ),
    ] = None,
    from_run: FromRun = None,
    cause: OfCause = None,
    unchecked: Unchecked = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Writes the current DPS state of one record to NOMIS.

    It does what the record's event would do. It creates a record that has no mapping, but never a second time. It
    cancels or deletes in NOMIS a record that is cancelled or deleted in DPS. It shows both sides and what it would do,
    asks for confirmation, and records what it did. It then reads both sides again, and exits 1 if they still differ.
    --json needs --yes or --dry-run.

    With --from, it writes each record for which the report of a reconciliation run proposes this command. It asks for
    confirmation once, and then handles the records one by one. A record that has changed since the run is skipped. The
    command stops with exit code 1 at the first record whose fix does not end as expected. Run the same command again to
    continue.
    """
    from jobs.runtime.application import open_application

    check_choice(kind, from_run, cause, named="KIND and ID")
    if (kind is None) != (record_id is None):
        raise UsageError("give both KIND and ID")
    if as_json and not (yes or dry_run):
        raise UsageError("the command cannot ask when it prints JSON: add --yes, or --dry-run to see what it would do")
    with open_application() as application:
        who = operator_name(application.settings, operator)
        if from_run is not None:
            from jobs.operations.bulk_fixes import WRITING, plan_resync_item

            plan = partial(plan_resync_item, who=who, unchecked=unchecked)
            fix_all(application, from_run, cause, ("resync",), plan, WRITING, yes=yes, dry_run=dry_run, as_json=as_json)
        else:
            assert kind is not None
            assert record_id is not None
            _resync_one(
                application, who, kind, record_id, unchecked=unchecked, yes=yes, dry_run=dry_run, as_json=as_json
            )


def _resync_one(
    application: "Application",
    who: str,
    kind: str,
    record_id: str,
    *,
    unchecked: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from jobs.operations.resync import carry_out_resync, check_plan, check_result, plan_resync

    planned = plan_resync(application, kind, record_id)
    if not as_json:
        _show(planned)
    elif dry_run or planned.is_idle:
        print_json(planned.as_dict())
    check_plan(planned)
    if planned.is_idle or not _confirmed(planned, yes=yes, dry_run=dry_run, unchecked=unchecked, as_json=as_json):
        return
    result = carry_out_resync(application, planned, who)
    if as_json:
        print_json({**planned.as_dict(), **result.as_dict()})
    else:
        say(result.outcome)
    check_result(planned, result)
    if not as_json and result.left is not None:
        unread = "it is mapped; only the reconciliation shows whether NOMIS agrees"
        say(f"read again: {planned.agreement if planned.is_readable else unread}")


def _confirmed(planned: "PlannedResync", *, yes: bool, dry_run: bool, unchecked: bool, as_json: bool) -> bool:
    """Asks whether to write the record, and returns whether to proceed. With `as_json`, it neither asks nor prints.

    Raises `UsageError` if --yes is given without a necessary --unchecked, or if there is no terminal to ask on.
    """
    if as_json:
        if yes and planned.unchecked is not None and not unchecked:
            raise UsageError(f"{planned.unchecked}; check NOMIS, then add --unchecked")
        return not dry_run
    prisoner = planned.plan.properties.get("offenderNo")
    of_whom = "" if prisoner is None else f" of {prisoner}"
    question = f"This will {planned.plan.effect} {planned.target}{of_whom} in NOMIS. Continue?"
    if planned.unchecked is None:
        return confirm(question, yes=yes, dry_run=dry_run)
    return confirm_unchecked(question, planned.unchecked, yes=yes, dry_run=dry_run, accepted=unchecked)


def _show(planned: "PlannedResync") -> None:
    plan = planned.plan
    print_pairs(
        {
            "record": planned.target,
            "DPS": _text(plan.dps),
            "mapped to": None if plan.ids is None else plan.ids.nomis_text,
            "NOMIS": _text(plan.nomis) if planned.is_readable or plan.nomis else "cannot be read individually",
            "differs": "; ".join(plan.differences),
            "effect": planned.proposal,
            "by": [event.event_type for event in plan.events],
        }
    )
    for objection in planned.objections:
        say(f"objection: {objection}")


def _text(record: "Mapping[str, str | None] | None") -> str | None:
    return None if record is None else " ".join(f"{name}={value}" for name, value in record.items() if value)
