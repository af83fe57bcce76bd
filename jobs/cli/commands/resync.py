"""`resync`: the present DPS state of one record, written to NOMIS again."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import AsJson, DryRun, Operator, Yes
from jobs.cli.confirmation import confirm, operator_name
from jobs.cli.output import print_json, print_pairs, say
from jobs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.operations.resync import PlannedResync


def resync(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help="visit, activity, allocation, attendance, appointment or adjustment."),
    ],
    record_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Its DPS id: the reference of a visit; the id of an activity's schedule, of an allocation, of an "
            "attendance, of an appointment's attendee, of an adjustment.",
        ),
    ],
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Writes the present DPS state of one record to NOMIS.

    As its event would: what is not mapped is created, once; what is cancelled or deleted in DPS is so in NOMIS. Shows
    both sides and what would be done, and asks first; what was done is recorded, and both sides are read again. Exits 1
    if they still differ. --json needs --yes or --dry-run.
    """
    from jobs.operations.resync import carry_out_resync, check_plan, check_result, plan_resync
    from jobs.runtime.application import open_application
    from sync.domains.resync import Effect

    if as_json and not (yes or dry_run):
        raise UsageError("--json asks nothing: add --yes, or --dry-run to see what would be done")
    with open_application() as application:
        who = operator_name(application.settings, operator)
        planned = plan_resync(application, kind, record_id)
        idle = dry_run or planned.plan.effect is Effect.NOTHING or planned.objections
        if as_json and idle:
            print_json(planned.as_dict())
        elif not as_json:
            _show(planned)
        check_plan(planned)
        if planned.plan.effect is Effect.NOTHING or (as_json and dry_run):
            return
        question = f"{planned.plan.effect.capitalize()} {planned.target} in NOMIS?"
        if not confirm(question, yes=yes, dry_run=dry_run):
            return
        result = carry_out_resync(application, planned, who)
        if as_json:
            print_json({**planned.as_dict(), **result.as_dict()})
        else:
            say(result.outcome)
        check_result(planned, result)
        if not as_json and result.left is not None:
            say("read again: as it should be")


def _show(planned: "PlannedResync") -> None:
    plan = planned.plan
    print_pairs(
        {
            "record": planned.target,
            "DPS": _text(plan.dps),
            "mapped to": None if plan.ids is None else plan.ids.nomis_text,
            "NOMIS": _text(plan.nomis),
            "differs": "; ".join(plan.differences),
            "effect": planned.proposal,
            "by": [event.event_type for event in plan.events],
        }
    )
    for objection in planned.objections:
        say(f"objection: {objection}")


def _text(record: "Mapping[str, str | None] | None") -> str | None:
    return None if record is None else " ".join(f"{name}={value}" for name, value in record.items() if value)
