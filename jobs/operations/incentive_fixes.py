"""The two fixes for an incentive level: publishing a received event again, and writing the DPS level to NOMIS again.

The operator sees and confirms a plan. The plan is then made again under the lease of the record, and is carried out
only if it has not changed. Plans and the possible objections are defined in
`reports.reconciliations.incentives.fixes`.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from jobs.errors import PlanChanged, UsageError, WorkError
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from reports.reconciliations.incentives import events, fixes, mismatches
from reports.reconciliations.incentives.fixes import Plan
from reports.reconciliations.incentives.mismatches import ExplainedPrisoner
from reports.reconciliations.incentives.result import Arrival
from sync import clock
from sync.domains import incentives
from sync.domains.incentives.repair import create_late, write_again
from sync.domains.incentives.rules import CREATION
from sync.events.context import HandlerContext, Outcome
from sync.settings.upstreams import UpstreamName
from sync.store.actions import Action, actions_on
from sync.store.creations import CreationRecord, find_record
from sync.upstream import prisoners


def explain_prisoner(application: Application, offender_no: str) -> ExplainedPrisoner:
    """A prisoner's level and history on both sides and, if the levels differ, the reason and the remedy.

    Raises `SyncError`.
    """
    return mismatches.explain_prisoner(
        application.services,
        application.database,
        partial(application.pending_messages, incentives.DOMAIN),
        offender_no,
        _near(application),
        clock.now(),
    )


def choose_arrival(
    application: Application,
    offender_no: str,
    prison_id: str | None,
    reason: str | None,
    occurred_at: datetime | None,
) -> Arrival:
    """The arrival for which a received event is to be published. Parts that are None come from the diagnosis.

    Raises `UsageError` if a part is None and the diagnosis proposes no received event, and `SyncError`.
    """
    if prison_id is not None and reason is not None and occurred_at is not None:
        return Arrival(prison_id=prison_id, reason=reason, occurred_at=occurred_at)
    pending, near = partial(application.pending_messages, incentives.DOMAIN), _near(application)
    proposed = fixes.propose_received(application.services, pending, offender_no, near)
    if proposed is None:
        raise UsageError(
            f"the diagnosis of {offender_no} proposes no received event; see `reconcile explain {offender_no}`, or "
            "give --prison, --reason and --occurred-at"
        )
    return Arrival(
        prison_id=prison_id or proposed.prison_id,
        reason=reason or proposed.reason,
        occurred_at=occurred_at or proposed.occurred_at,
    )


def plan_received(application: Application, offender_no: str, arrival: Arrival) -> Plan:
    """Plans to publish a received event again. The plan includes any objection. Raises `SyncError`."""
    plan = fixes.plan_received(
        application.services, offender_no, arrival.prison_id, arrival.reason, arrival.occurred_at
    )
    if plan.objection is not None:
        return plan
    objection = fixes.publication_objection(plan, _earlier(application, plan), clock.now())
    return replace(plan, objection=objection or _pending_objection(application, plan))


def plan_repair(application: Application, offender_no: str) -> Plan:
    """Plans to write the current DPS level to NOMIS again. The plan includes any objection. Raises `SyncError`."""
    plan = fixes.plan_repair(application.services, offender_no)
    if plan.objection is not None:
        return plan
    longest = timedelta(seconds=application.settings.longest_request_seconds)
    objection = (
        fixes.ambiguous_creation_objection(plan, _creation(application, plan))
        or fixes.unfinished_repair_objection(_earlier(application, plan), longest, clock.now())
        or _pending_objection(application, plan)
    )
    return replace(plan, objection=objection)


def publish_received(
    application: Application, plan: Plan, plan_again: Callable[[], Plan], who: str, *, force: bool
) -> None:
    """Publishes the planned event once, and records the action under the name `who`.

    Raises `LeaseBusy` if another operator is publishing an event for this prisoner, `PlanChanged`, and `SyncError`.
    """
    event = prisoners.ReceivedEvent.model_validate(dict(plan.body))
    with _context(application).lease(f"write:received:{plan.offender_no}"):
        _check_unchanged(plan, plan_again(), force=force)
        with recorded_action(application, who, plan.action, _target(plan), _details(plan)):
            prisoners.publish_received(application.services[UpstreamName.PRISONER_SEARCH], plan.offender_no, event)


def write_repair(application: Application, plan: Plan, plan_again: Callable[[], Plan], who: str, *, force: bool) -> int:
    """Writes the planned record once, and records the action under the name `who`.

    Returns the sequence of the new record. Raises `LeaseBusy` if the booking or review is being worked on,
    `PlanChanged`, `WorkError` if the record was not written, and `SyncError`.
    """
    context = _context(application)
    with context.lease(f"write:incentive-repair:{plan.booking_id}"):
        again = plan_again()
        _check_unchanged(plan, again, force=force)
        with recorded_action(application, who, plan.action, _target(plan), _details(plan)) as ongoing:
            sequence = _write(application, again, context)
            ongoing.outcome = f"written as sequence {sequence}"
            ongoing.details |= {"review": plan.review_id, "sequence": sequence}
    application.telemetry.track(
        events.REPAIR,
        {
            "nomisBookingId": plan.booking_id,
            "nomisIncentiveSequence": sequence,
            "id": plan.review_id,
            "offenderNo": plan.offender_no,
            "iep": plan.body["iepLevel"],
        },
    )
    application.telemetry.flush()
    return sequence


def _write(application: Application, plan: Plan, context: HandlerContext) -> int:
    assert plan.review_id is not None
    assert plan.booking_id is not None
    if plan.review_is_mapped:
        return write_again(context, plan.review_id, plan.booking_id, plan.body)
    outcome = create_late(application.creations, context, plan.review_id, plan.offender_no)
    if outcome not in (Outcome.APPLIED, Outcome.RETRY_QUEUED):
        raise WorkError(f"review {plan.review_id} was not written (outcome: {outcome}): see `creations list --all`")
    record = _creation(application, plan)
    assert record is not None
    assert record.nomis_ids is not None
    return int(record.nomis_ids["nomisIncentiveSequence"])


def _check_unchanged(plan: Plan, again: Plan, *, force: bool) -> None:
    """Raises `PlanChanged` if the plan that was confirmed must no longer be carried out."""
    change = plan.change_to(again, force=force)
    if change is not None:
        raise PlanChanged(f"nothing was sent, since the plan changed before you confirmed: {change}")


def _earlier(application: Application, plan: Plan) -> list[Action]:
    """Earlier actions of the plan's kind, for the same prisoner and booking, that were done or may have been done."""
    with application.database.read() as connection:
        every = actions_on(connection, plan.action, _target(plan))
    return [each for each in every if each.may_have_been_done]


def _creation(application: Application, plan: Plan) -> CreationRecord | None:
    """The creation of the plan's review, or None if there was none."""
    with application.database.read() as connection:
        return find_record(connection, CREATION.name, str(plan.review_id))


def _pending_objection(application: Application, plan: Plan) -> str | None:
    return fixes.pending_objection(plan, application.pending_messages(incentives.DOMAIN))


def _context(application: Application) -> HandlerContext:
    return HandlerContext(
        application.services,
        application.leases,
        application.telemetry,
        application.database,
        request_seconds=application.settings.longest_request_seconds,
    )


def _near(application: Application) -> timedelta:
    """How far apart two records may be in time for the diagnosis to count them as the same event."""
    return timedelta(hours=application.settings.reconciliation_near_hours)


def _target(plan: Plan) -> str:
    return f"prisoner {plan.offender_no}, booking {plan.booking_id}"


def _details(plan: Plan) -> dict[str, object]:
    body = {name: value for name, value in plan.body.items() if name != "comments"}
    return {"request": plan.request, "body": body, "nomis": plan.nomis_level, "dps": plan.dps_level}
