"""The two fixes carried out: a received event published again, and the DPS level of a prisoner written to NOMIS again.

A plan is shown, agreed to, and made again under the lease of the record: it is carried out only if nothing changed. A
review that NOMIS never had is created by the creation protocol, so that its event, if it comes after all, is a
duplicate.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from jobs.errors import UsageError, WorkError
from jobs.operations.recorded_actions import OngoingAction, recorded_action
from jobs.runtime.application import Application
from reports.engine.result import Arrival
from reports.reconciliations.incentives import events, fixes
from reports.reconciliations.incentives.fixes import Plan
from reports.reconciliations.incentives.mismatches import Explanation, explain
from sync import clock
from sync.creation import records as creations
from sync.creation.creation import creation_lease
from sync.creation.records import CreationState
from sync.domains import incentives
from sync.domains.incentives import nomis as nomis_incentives
from sync.domains.incentives import rules as incentive
from sync.pipeline.context import HandlerContext
from sync.pipeline.envelope import DomainEvent
from sync.pipeline.outcome import Outcome
from sync.settings.declaration import UpstreamName
from sync.store.actions import Action, ActionState, actions_on
from sync.upstream import prisoners

#: DPS makes the review of a received event soon; until then a second event would make a second review.
_REVIEW_EXPECTED = timedelta(hours=1)


def explain_prisoner(application: Application, offender_no: str) -> Explanation:
    """Both levels of a prisoner, why they differ, both histories, and what fixes it. Raises `SyncError`."""
    pending, near = application.pending_incentive_messages, _near(application)
    return explain(application.services, application.database, pending, offender_no, near, clock.now())


def choose_arrival(
    application: Application,
    offender_no: str,
    prison_id: str | None,
    reason: str | None,
    occurred_at: datetime | None,
) -> Arrival:
    """The arrival that a received event is published for; what is not given is taken from the diagnosis.

    Raises `UsageError` when something is missing that the diagnosis does not propose, and `SyncError`.
    """
    if prison_id is not None and reason is not None and occurred_at is not None:
        return Arrival(prison_id=prison_id, reason=reason, occurred_at=occurred_at)
    pending, near = application.pending_incentive_messages, _near(application)
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
    """Plans to publish a received event again, with any objection to it. Raises `SyncError`."""
    plan = fixes.plan_received(
        application.services, offender_no, arrival.prison_id, arrival.reason, arrival.occurred_at
    )
    if plan.objection is None:
        plan = replace(plan, objection=_published_before(application, plan) or _message_pending(application, plan))
    return plan


def plan_repair(application: Application, offender_no: str) -> Plan:
    """Plans to write the current DPS level to NOMIS again, with any objection to it. Raises `SyncError`."""
    plan = fixes.plan_repair(application.services, offender_no)
    if plan.objection is None:
        objection = (
            _unsettled_creation(application, plan)
            or _repair_without_end(application, plan)
            or _message_pending(application, plan)
        )
        plan = replace(plan, objection=objection)
    return plan


def publish_received(
    application: Application, plan: Plan, plan_again: Callable[[], Plan], who: str, *, force: bool
) -> None:
    """Publishes the event of the plan, once, and records it.

    Raises `LeaseBusy` when another operator is at it, `WorkError` when the plan is another one by now, and `SyncError`.
    """
    event = prisoners.ReceivedEvent.model_validate(dict(plan.body))
    with _context(application).lease(f"write:received:{plan.offender_no}"):
        _make_sure(plan, plan_again(), force=force)
        with recorded_action(application, who, plan.action, _target(plan), _details(plan)):
            prisoners.publish_received(application.services[UpstreamName.PRISONER_SEARCH], plan.offender_no, event)


def write_repair(application: Application, plan: Plan, plan_again: Callable[[], Plan], who: str, *, force: bool) -> int:
    """Writes the record of the plan, once, and records it; the sequence of the new record.

    Raises `LeaseBusy` when the review is being worked on, `WorkError` when the plan is another one by now or the record
    was not written, and `SyncError`.
    """
    context = _context(application)
    with context.lease(f"write:incentive-repair:{plan.booking_id}"):
        again = plan_again()
        _make_sure(plan, again, force=force)
        with recorded_action(application, who, plan.action, _target(plan), _details(plan)) as ongoing:
            write = _write_once_more if again.review_is_mapped else _create
            sequence = write(application, again, context)
            _note(ongoing, again, sequence)
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


def _create(application: Application, plan: Plan, context: HandlerContext) -> int:
    """Creates the IEP record of a review that NOMIS never had, as its event would."""
    creation, review_id = incentives.DOMAIN.creation, str(plan.review_id)
    event = DomainEvent(
        creation.event_type, additional_information={"id": plan.review_id, "nomsNumber": plan.offender_no}
    )
    outcome = application.creations.create(creation, event, context)
    if outcome not in (Outcome.APPLIED, Outcome.RETRY_QUEUED):
        raise WorkError(f"review {review_id} was not written, since it is {outcome}: see `creations list --all`")
    with application.database.read() as connection:
        record = creations.find(connection, creation.name, review_id)
    assert record is not None
    assert record.nomis_ids is not None
    return int(record.nomis_ids["nomisIncentiveSequence"])


def _write_once_more(application: Application, plan: Plan, context: HandlerContext) -> int:
    """Writes the level of a review that NOMIS had before: its mapping stays, so its event is a duplicate already."""
    assert plan.booking_id is not None
    with (
        context.lease(creation_lease(incentive.CREATION.name, str(plan.review_id))),
        context.lease(f"incentive-booking:{plan.booking_id}"),
    ):
        return nomis_incentives.create_iep(application.services.nomis, plan.booking_id, plan.body).sequence


def _make_sure(plan: Plan, again: Plan, *, force: bool) -> None:
    """Raises `WorkError` when the plan that was agreed to is not the plan of now."""
    accepted = force and (again.objection == plan.objection or (again.waits_for_message and plan.waits_for_message))
    if again.objection is not None and not accepted:
        raise WorkError(f"nothing was sent, since it changed while you were asked: {again.objection}")
    if replace(again, objection=None) != replace(plan, objection=None):
        raise WorkError(
            f"nothing was sent, since it changed while you were asked: NOMIS {again.nomis_level or 'none'}, DPS "
            f"{again.dps_level or 'none'} now: run the command again"
        )


def _published_before(application: Application, plan: Plan) -> str | None:
    for earlier in _earlier(application, plan):
        same = earlier.details.get("body") == dict(plan.body)
        if same or earlier.time > clock.now() - _REVIEW_EXPECTED:
            how = "published" if earlier.state is ActionState.DONE else "perhaps published"
            return (
                f"a received event was {how} by {earlier.who} at {earlier.time:%H:%M:%S} UTC on {earlier.time:%d/%m/%Y}"
            )
    return None


def _repair_without_end(application: Application, plan: Plan) -> str | None:
    """Whether an earlier repair may still be under way in NOMIS."""
    longest = timedelta(seconds=application.settings.longest_request_seconds)
    for earlier in _earlier(application, plan):
        if earlier.state is not ActionState.DONE and earlier.time > clock.now() - longest:
            return (
                f"the repair that {earlier.who} began at {earlier.time:%H:%M:%S} UTC is not known to have ended, so "
                f"NOMIS may still be working on it: wait {longest.total_seconds():.0f} s"
            )
    return None


def _earlier(application: Application, plan: Plan) -> list[Action]:
    with application.database.read() as connection:
        every = actions_on(connection, plan.action, _target(plan))
    return [each for each in every if each.may_have_been_done]


def _unsettled_creation(application: Application, plan: Plan) -> str | None:
    with application.database.read() as connection:
        record = creations.find(connection, incentive.CREATION.name, str(plan.review_id))
    if record is None or record.state is not CreationState.AMBIGUOUS:
        return None
    return f"nobody can tell whether NOMIS has review {plan.review_id}: `creations settle {record.id}` first"


def _message_pending(application: Application, plan: Plan) -> str | None:
    return fixes.pending_objection(plan, application.pending_incentive_messages())


def _context(application: Application) -> HandlerContext:
    return HandlerContext(
        application.services,
        application.leases,
        application.telemetry,
        application.database,
        application.settings.longest_request_seconds,
    )


def _near(application: Application) -> timedelta:
    """How near in time two records of one event lie."""
    return timedelta(hours=application.settings.reconciliation_near_hours)


def _target(plan: Plan) -> str:
    return f"prisoner {plan.offender_no}, booking {plan.booking_id}"


def _details(plan: Plan) -> dict[str, object]:
    body = {name: value for name, value in plan.body.items() if name != "comments"}
    return {"request": plan.request, "body": body, "nomis": plan.nomis_level, "dps": plan.dps_level}


def _note(ongoing: OngoingAction, plan: Plan, sequence: int) -> None:
    ongoing.outcome = f"written as sequence {sequence}"
    ongoing.details |= {"review": plan.review_id, "sequence": sequence}
