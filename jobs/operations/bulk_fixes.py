"""The two fixes that are made in bulk: incentive levels repaired and records resynchronised, as a run lists them."""

from functools import partial
from typing import Final

from jobs.errors import WorkError
from jobs.operations.bulk import BulkItem, ProposedFix, State
from jobs.operations.incentive_fixes import plan_repair, write_repair
from jobs.operations.resync import (
    ACTION,
    PlannedResync,
    carry_out_resync,
    check_result,
    plan_resync,
)
from jobs.runtime.application import Application
from reports.engine.result import ReconciliationResult
from reports.reconciliations.incentives import fixes
from reports.reconciliations.incentives.bookings import UnknownPrisoner
from reports.reconciliations.incentives.fixes import Plan
from reports.reconciliations.incentives.result import IncentiveMismatch
from sync.domains.resync import Effect
from sync.failures import RuleError
from sync.store.actions import Action, ActionState, actions_on

#: What a resync does to a record that one side has again, or has no longer.
_NOT_AS_SEEN: Final = {
    "NOMIS": frozenset({Effect.UPDATE, Effect.CANCEL, Effect.DELETE}),
    "DPS": frozenset({Effect.CREATE}),
}


def plan_repair_item(
    application: Application, result: ReconciliationResult, fix: ProposedFix, who: str, wait_seconds: float
) -> BulkItem:
    """The repair of one prisoner whose levels differed in a run, planned now. Raises `SyncError`.

    wait_seconds: how long both sides may take to agree after the write.
    """
    (offender_no,), mismatch = fix.arguments, fix.mismatch
    assert isinstance(mismatch, IncentiveMismatch)
    target = f"prisoner {offender_no}, booking {mismatch.booking_id}"
    plan_now = partial(plan_repair, application, offender_no)
    try:
        plan = plan_now()
    except UnknownPrisoner as error:
        return BulkItem(fix.row, target, State.SKIPPED, str(error))
    except RuleError as error:
        return BulkItem(fix.row, target, State.LEFT, str(error))
    levels = f"NOMIS {plan.nomis_level or 'none'}, DPS {plan.dps_level or 'none'}"
    seen = (mismatch.booking_id, mismatch.nomis_level, mismatch.dps_level)
    if (plan.booking_id, plan.nomis_level, plan.dps_level) != seen:
        was = f"NOMIS {mismatch.nomis_level or 'none'}, DPS {mismatch.dps_level or 'none'}"
        now = levels if plan.booking_id == mismatch.booking_id else f"{levels}, booking {plan.booking_id}"
        return BulkItem(fix.row, target, State.SKIPPED, f"{now} now; the run saw {was}")
    objection = plan.objection or _refused(_last_action(application, result, plan.action, target))
    if objection is not None:
        return BulkItem(fix.row, target, State.LEFT, objection)
    body = {name: value for name, value in plan.body.items() if name != "comments"}
    details = {"request": plan.request, "body": body, "nomis": plan.nomis_level, "dps": plan.dps_level}

    def write() -> str:
        sequence = write_repair(application, plan, plan_now, who, force=False)
        return f"written as sequence {sequence}; {_verified(application, plan, wait_seconds)}"

    return BulkItem(fix.row, target, State.READY, levels, f"level {plan.dps_level}", details, write)


def _verified(application: Application, plan: Plan, wait_seconds: float) -> str:
    """What both sides have after the write. Raises `WorkError` if they still differ."""
    assert plan.booking_id is not None
    seen = fixes.verify(application.services, plan.offender_no, plan.booking_id, wait_seconds)
    if not seen.equal:
        levels = f"NOMIS {seen.nomis_level or 'none'}, DPS {seen.dps_level or 'none'}"
        raise WorkError(f"written, but both sides still differ: {levels}")
    return f"both sides have {seen.dps_level or 'no level'} now"


def plan_resync_item(
    application: Application, result: ReconciliationResult, fix: ProposedFix, who: str, *, unchecked: bool
) -> BulkItem:
    """The resync of one record that differed in a run, planned now. Raises `WorkError` and `SyncError`.

    unchecked: the operator looked in NOMIS where nothing here can check what is to be written.
    """
    kind, dps_id = fix.arguments
    try:
        planned = plan_resync(application, kind, dps_id)
    except RuleError as error:
        return BulkItem(fix.row, f"{kind} {dps_id}", State.LEFT, str(error))
    last = _last_action(application, result, ACTION, planned.target)
    why_skipped = _why_skipped(fix, planned, last)
    if why_skipped is not None:
        return BulkItem(fix.row, planned.target, State.SKIPPED, why_skipped)
    objection = "; ".join(planned.objections) or _refused(last)
    if objection is not None:
        return BulkItem(fix.row, planned.target, State.LEFT, objection)
    if planned.unchecked is not None and not unchecked:
        text = f"{planned.unchecked}; look there, then add --unchecked"
        return BulkItem(fix.row, planned.target, State.LEFT, text)

    def write() -> str:
        done = carry_out_resync(application, planned, who)
        check_result(planned, done)
        if done.left is None:
            raise WorkError(f"{done.outcome}: it was not read again")
        return f"{done.outcome}; {'read again: as it should be' if planned.is_readable else 'it is mapped'}"

    effect = planned.plan.effect
    because = planned.proposal.removeprefix(f"{effect}: ")
    return BulkItem(fix.row, planned.target, State.READY, because, f"{effect} {kind}", planned.as_dict(), write)


def _why_skipped(fix: ProposedFix, planned: PlannedResync, last: Action | None) -> str | None:
    """Why the difference is no longer as the run saw it; None if it is, as far as both sides can be read."""
    plan = planned.plan
    if plan.effect is Effect.NOTHING:
        return plan.because
    if planned.objections:
        return None
    if plan.effect in _NOT_AS_SEEN.get(fix.mismatch.missing_in or "", ()):
        return f"{fix.mismatch.missing_in} has it by now; the run did not see it there"
    if plan.effect is Effect.UPDATE and plan.nomis is not None and not plan.differences:
        return "NOMIS shows by now what would be written"
    # What NOMIS has no read of looks the same before and after.
    if last is not None and last.state is ActionState.DONE and not planned.is_readable:
        return f"written after the run by {_who_and_when(last)}"
    return None


def _last_action(application: Application, result: ReconciliationResult, action: str, target: str) -> Action | None:
    """The last action of this kind on the record since the run ended, None without one."""
    with application.database.read() as connection:
        last = next(iter(actions_on(connection, action, target, limit=1)), None)
    return None if last is None or last.time < result.finished_at else last


def _refused(last: Action | None) -> str | None:
    """The objection that the record was refused since the run, which would end the work at the same place again."""
    if last is None or last.state is not ActionState.REFUSED:
        return None
    return f"{last.outcome} ({_who_and_when(last)}): look at it by itself"


def _who_and_when(action: Action) -> str:
    return f"{action.who} at {action.time:%H:%M:%S} UTC on {action.time:%d/%m/%Y}"
