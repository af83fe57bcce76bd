"""Fixes for many differences of a run: each is planned, all are confirmed together, and they are carried out in turn.

The fixes are the commands that the report of the run proposes for its rows.

Each fix is carried out just as the command for a single record does it: the program plans the fix again, writes once,
and records who asked for it. The work stops at the first fix that does not end as expected. The next attempt skips the
records that have already been fixed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any, Final

from jobs.errors import PlanChanged, UsageError, WorkError
from jobs.operations.incentive_fixes import plan_received, plan_repair, publish_received, write_repair
from jobs.operations.resync import (
    ACTION,
    PlannedResync,
    carry_out_resync,
    check_result,
    plan_resync,
)
from jobs.runtime.application import Application
from reports.engine.result import Mismatch, ReconciliationResult
from reports.reconciliations.incentives import fixes
from reports.reconciliations.incentives.bookings import UnknownPrisoner
from reports.reconciliations.incentives.fixes import Plan
from reports.reconciliations.incentives.result import IncentiveDiagnosis, IncentiveMismatch
from sync.alerting import arguments_of
from sync.domains.repair_declaration import Effect
from sync.errors import RuleError, SyncError, one_line
from sync.store.actions import Action, ActionState, actions_on


class State(StrEnum):
    """The state of a record in a bulk fix. `Wording` can have other words for the first two states."""

    READY = "to write"
    WRITTEN = "written"
    #: The record is no longer as the run saw it.
    SKIPPED = "skipped"
    #: There is an objection, and a person has to decide.
    LEFT = "left"
    #: The fix did not end as expected: it was refused, it was not verified, or its outcome is unknown.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Wording:
    """The wording for one kind of fix.

    ready, done: the words for a record before and after the fix. verb, records, scope: parts of the question that asks
    for confirmation, in this order; `records` is the singular and the plural of what is written.
    """

    ready: str
    done: str
    verb: str
    records: tuple[str, str]
    scope: str

    def of(self, state: State) -> str:
        """The word for `state`: `ready` or `done` for the first two states, and the state's own value for any other."""
        return {State.READY: self.ready, State.WRITTEN: self.done}.get(state, str(state))


WRITING: Final = Wording(str(State.READY), str(State.WRITTEN), "writes", ("record", "records"), "to NOMIS")
PUBLISHING: Final = Wording(
    "to publish", "published", "publishes", ("received event", "received events"), "on which all consumers act"
)


@dataclass(frozen=True, slots=True)
class BulkItem:
    """One record of a bulk fix.

    row: the number of its row in the report. what: what would be written, such as `level ENH`; items with the same
    `what` are counted together. text: why something would be done, why nothing is done, or how the fix ended. details:
    the plan as a JSON object. write: carries out the plan, verifies the result, and returns how the fix ended; None if
    nothing is to be written.
    """

    row: int
    target: str
    state: State
    text: str
    what: str = ""
    details: Mapping[str, Any] | None = None
    write: Callable[[], str] | None = None

    def as_dict(self, wording: Wording) -> dict[str, Any]:
        """The record as a JSON object."""
        return {
            "row": self.row,
            "target": self.target,
            "state": wording.of(self.state),
            "text": self.text,
            "plan": None if self.details is None else dict(self.details),
        }


@dataclass(frozen=True, slots=True)
class ProposedFix:
    """A difference of a run, with the arguments of the command that the report of the run proposes for it."""

    row: int
    mismatch: Mismatch
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProposedFixes:
    """The fixes that a report proposes with one command.

    undecided: the number of further fixes that the report proposes with this command, but that are right only if DPS is
    right.
    """

    fixes: tuple[ProposedFix, ...]
    undecided: int


def records_of_cause(result: ReconciliationResult, cause: str | None) -> tuple[tuple[int, Mismatch], ...]:
    """The differences of a run, or only those with the given `cause`, each with its row number.

    cause: the text of a cause, or a part of it that no other cause of the run contains. Raises `UsageError` for any
    other text.
    """
    if cause is None:
        return result.rows
    counts = Counter(each.diagnosis.cause for each in result.mismatches if each.diagnosis is not None)
    wanted = " ".join(cause.split()).casefold()
    found = [name for name in counts if name.casefold() == wanted] or [
        name for name in counts if wanted and wanted in name.casefold()
    ]
    if len(found) != 1:
        known = "; ".join(f"{name} ({count})" for name, count in counts.most_common()) or "none"
        problem = "several causes" if found else "no cause"
        raise UsageError(f"{cause!r} matches {problem} of run {result.run_id}. The causes of the run are: {known}")
    return tuple((row, each) for row, each in result.rows if each.diagnosis and each.diagnosis.cause == found[0])


def proposed_fixes(result: ReconciliationResult, cause: str | None, *words: str) -> ProposedFixes:
    """The fixes for which the report of a run proposes a command that begins with `words`, in the order of the rows.

    A command that is proposed for several rows counts once. cause: as in `records_of_cause`. Raises `UsageError` if the
    report proposes no such command, or if `cause` does not match exactly one cause.
    """
    fixes: dict[tuple[str, ...], ProposedFix] = {}
    undecided: set[tuple[str, ...]] = set()
    for row, mismatch in records_of_cause(result, cause):
        diagnosis = mismatch.diagnosis
        for line in () if diagnosis is None else diagnosis.commands:
            arguments = arguments_of(line)
            if arguments[: len(words)] != words:
                continue
            rest = arguments[len(words) :]
            if diagnosis is not None and diagnosis.right_side != "DPS":
                undecided.add(rest)
            else:
                fixes.setdefault(rest, ProposedFix(row, mismatch, rest))
    if not fixes and not undecided:
        among = "" if cause is None else f" with the cause {cause!r}"
        raise UsageError(f"run {result.run_id} proposes `{' '.join(words)}` for no difference{among}")
    return ProposedFixes(tuple(fixes.values()), len(undecided - fixes.keys()))


def carry_out(items: Sequence[BulkItem]) -> Iterator[BulkItem]:
    """Carries out the items that are ready, in order, and yields each in its final state.

    Stops after the first item that failed.
    """
    for item in items:
        if item.write is None:
            continue
        try:
            ended = replace(item, state=State.WRITTEN, text=item.write(), write=None)
        except PlanChanged as change:
            ended = replace(item, state=State.SKIPPED, text=one_line(change), write=None)
        except (WorkError, UsageError, SyncError) as error:
            ended = replace(item, state=State.FAILED, text=one_line(error), write=None)
        yield ended
        if ended.state is State.FAILED:
            return


#: For the side that lacked the record during the run: the effects of a resync that show that it has the record now.
_NOT_AS_SEEN: Final = {
    "NOMIS": frozenset({Effect.UPDATE, Effect.CANCEL, Effect.DELETE}),
    "DPS": frozenset({Effect.CREATE}),
}


def plan_repair_item(
    application: Application, result: ReconciliationResult, fix: ProposedFix, who: str, wait_seconds: float
) -> BulkItem:
    """Plans the repair for one prisoner whose levels differed in a run. Raises `SyncError`.

    wait_seconds: how long both sides may take to agree after the write.
    """
    plan_now = partial(plan_repair, application, fix.arguments[0])

    def write(plan: Plan) -> str:
        sequence = write_repair(application, plan, plan_now, who, force=False)
        return f"written as sequence {sequence}; {_verified(application, plan, wait_seconds)}"

    planned = _plan_incentive_item(application, result, fix, plan_now)
    if isinstance(planned, BulkItem):
        return planned
    return _ready(fix, planned, f"level {planned.dps_level}", partial(write, planned))


def plan_received_item(
    application: Application, result: ReconciliationResult, fix: ProposedFix, who: str, wait_seconds: float
) -> BulkItem:
    """Plans a new received event for an arrival that DPS missed, according to a run. Raises `SyncError`.

    wait_seconds: how long both sides may take to agree after the event is published. With 0, the sides are not read
    again, since DPS creates its review later, and a message on the queue brings the review to NOMIS.
    """
    diagnosis = fix.mismatch.diagnosis
    assert isinstance(diagnosis, IncentiveDiagnosis)
    assert diagnosis.arrival is not None
    arrival, plan_now = diagnosis.arrival, partial(plan_received, application, fix.arguments[0], diagnosis.arrival)

    def publish(plan: Plan) -> str:
        publish_received(application, plan, plan_now, who, force=False)
        done = "published; from this event, DPS creates a review, which reaches NOMIS through the incentive queue"
        return f"{done}; {_verified(application, plan, wait_seconds)}" if wait_seconds else done

    planned = _plan_incentive_item(application, result, fix, plan_now, is_done_once=True)
    if isinstance(planned, BulkItem):
        return planned
    what = f"{arrival.reason} at {arrival.prison_id}, {arrival.occurred_at:%d/%m/%Y %H:%M}"
    return _ready(fix, planned, what, partial(publish, planned))


def _plan_incentive_item(
    application: Application,
    result: ReconciliationResult,
    fix: ProposedFix,
    plan_now: Callable[[], Plan],
    *,
    is_done_once: bool = False,
) -> Plan | BulkItem:
    """The plan for one prisoner, or an item that says why nothing is sent.

    is_done_once: whether an action that was done after the run is not repeated, because it takes effect only later.
    """
    mismatch = fix.mismatch
    assert isinstance(mismatch, IncentiveMismatch)
    target = _prisoner(fix)
    try:
        plan = plan_now()
    except UnknownPrisoner as error:
        return BulkItem(fix.row, target, State.SKIPPED, str(error))
    except RuleError as error:
        return BulkItem(fix.row, target, State.LEFT, str(error))
    seen = (mismatch.booking_id, mismatch.nomis_level, mismatch.dps_level)
    if (plan.booking_id, plan.nomis_level, plan.dps_level) != seen:
        was, levels = _levels(mismatch.nomis_level, mismatch.dps_level), _levels(plan.nomis_level, plan.dps_level)
        now = levels if plan.booking_id == mismatch.booking_id else f"{levels}, booking {plan.booking_id}"
        return BulkItem(fix.row, target, State.SKIPPED, f"{now} now, but the run saw {was}")
    last = _last_action(application, result, plan.action, target)
    if is_done_once and last is not None and last.state is ActionState.DONE:
        return BulkItem(fix.row, target, State.SKIPPED, f"done after the run by {_who_and_when(last)}")
    objection = plan.objection or _refused(last)
    return plan if objection is None else BulkItem(fix.row, target, State.LEFT, objection)


def _ready(fix: ProposedFix, plan: Plan, what: str, write: Callable[[], str]) -> BulkItem:
    body = {name: value for name, value in plan.body.items() if name != "comments"}
    details = {"request": plan.request, "body": body, "nomis": plan.nomis_level, "dps": plan.dps_level}
    text = _levels(plan.nomis_level, plan.dps_level)
    return BulkItem(fix.row, _prisoner(fix), State.READY, text, what, details, write)


def _prisoner(fix: ProposedFix) -> str:
    """The prisoner and the booking, as actions record them."""
    return f"prisoner {fix.arguments[0]}, booking {fix.mismatch.booking_id}"


def _levels(nomis: str | None, dps: str | None) -> str:
    return f"NOMIS {nomis or 'none'}, DPS {dps or 'none'}"


def _verified(application: Application, plan: Plan, wait_seconds: float) -> str:
    """Text that names the level that both sides have after the fix. Raises `WorkError` if the sides still differ."""
    assert plan.booking_id is not None
    seen = fixes.verify(application.services, plan.offender_no, plan.booking_id, wait_seconds)
    if not seen.equal:
        raise WorkError(f"done, but the sides still differ: {_levels(seen.nomis_level, seen.dps_level)}")
    return f"both sides have {seen.dps_level or 'no level'} now"


def plan_resync_item(
    application: Application, result: ReconciliationResult, fix: ProposedFix, who: str, *, unchecked: bool
) -> BulkItem:
    """Plans the resync of one record that differed in a run. Raises `WorkError` and `SyncError`.

    unchecked: whether the operator has checked in NOMIS what the program cannot check.
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
        text = f"{planned.unchecked}; check NOMIS, then add --unchecked"
        return BulkItem(fix.row, planned.target, State.LEFT, text)

    def write() -> str:
        done = carry_out_resync(application, planned, who)
        check_result(planned, done)
        if done.left is None:
            raise WorkError(f"{done.outcome}: the record was not read again")
        return f"{done.outcome}; {f'read again: {planned.agreement}' if planned.is_readable else 'it is mapped'}"

    effect = planned.plan.effect
    because = planned.proposal.removeprefix(f"{effect}: ")
    return BulkItem(fix.row, planned.target, State.READY, because, f"{effect} {kind}", planned.as_dict(), write)


def _why_skipped(fix: ProposedFix, planned: PlannedResync, last: Action | None) -> str | None:
    """Why the difference is no longer as the run saw it, or None if nothing that can be read shows a change."""
    plan = planned.plan
    if plan.effect is Effect.NOTHING:
        return plan.because
    if planned.objections:
        return None
    if plan.effect in _NOT_AS_SEEN.get(fix.mismatch.missing_in or "", ()):
        return f"{fix.mismatch.missing_in} has the record now, but did not have it during the run"
    if plan.effect is Effect.UPDATE and plan.nomis is not None and not plan.differences:
        return "NOMIS already has what would be written"
    # A record that cannot be read in NOMIS looks the same before and after the write.
    if last is not None and last.state is ActionState.DONE and not planned.is_readable:
        return f"written after the run by {_who_and_when(last)}"
    return None


def _last_action(application: Application, result: ReconciliationResult, action: str, target: str) -> Action | None:
    """The last `action` on `target` since the run ended, or None if there was none."""
    with application.database.read() as connection:
        last = next(iter(actions_on(connection, action, target, limit=1)), None)
    return None if last is None or last.time < result.finished_at else last


def _refused(last: Action | None) -> str | None:
    """If a fix was refused after the run, the objection that it would be refused again; otherwise None."""
    if last is None or last.state is not ActionState.REFUSED:
        return None
    return f"{last.outcome} ({_who_and_when(last)}): check the record separately"


def _who_and_when(action: Action) -> str:
    return f"{action.who} at {action.time:%H:%M:%S} UTC on {action.time:%d/%m/%Y}"
