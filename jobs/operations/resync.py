"""`resync`: writes the current DPS state of one record to NOMIS, as its event would, and reads both sides again.

The operator sees and confirms a plan. The plan is then made again under the lease of the record, and is carried out
only if it has not changed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import OutcomeUnknown, PlanChanged, UsageError, WorkError
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from sync.domains.registry import resync_kinds
from sync.domains.repair_declaration import Effect, Resync, ResyncPlan
from sync.errors import SyncError, UpstreamError, describe_failure, one_line
from sync.events.context import Outcome
from sync.pipeline.queue_context import QueueContext
from sync.repair.resync import Handled, carry_out, entity_of, find_creation, find_objections, what_is_left
from sync.store.actions import actions_on
from sync.store.creations import CreationState

ACTION = "resync"
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_TEXT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
#: The properties that hold the NOMIS ids of records without a separate mapping.
_ROW_IDS = ("nomisAllocationId", "nomisAttendanceEventId")
_DONE = {
    # The record was created now, or earlier by a process that died or by another program.
    Effect.CREATE: "in NOMIS",
    Effect.UPDATE: "updated in NOMIS",
    Effect.CREATE_OR_UPDATE: "written to NOMIS",
    Effect.CANCEL: "cancelled in NOMIS",
    Effect.DELETE: "deleted in NOMIS",
}


@dataclass(frozen=True, slots=True)
class PlannedResync:
    """What a resync of a record would do now.

    objections: why the resync must not be done. unchecked: a sentence that says what the program cannot check, or None.
    is_created: whether NOMIS already has the record, so that only its mapping has to be saved. is_readable: whether
    NOMIS can show the record. agreement: what to say if a read shows what was written. last_action: the number of the
    action that last resynced the record, or None. If this number has changed, the record has been resynced since.
    """

    kind: str
    dps_id: str
    plan: ResyncPlan
    objections: tuple[str, ...]
    unchecked: str | None
    is_created: bool
    is_readable: bool
    agreement: str
    last_action: int | None

    @property
    def target(self) -> str:
        """The record, such as `visit ab-cd-ef-gh`."""
        return f"{self.kind} {self.dps_id}"

    @property
    def is_idle(self) -> bool:
        """Whether nothing will be written: there is nothing to do, or there is an objection."""
        return self.plan.effect is Effect.NOTHING or bool(self.objections)

    @property
    def proposal(self) -> str:
        """What the resync would do and why, on one line."""
        if self.is_created:
            return f"{self.plan.effect}: NOMIS already has the record, so only its mapping is saved"
        return f"{self.plan.effect}: {self.plan.because}"

    def as_dict(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        plan = self.plan
        return {
            "kind": self.kind,
            "id": self.dps_id,
            "effect": plan.effect,
            "because": plan.because,
            "objections": list(self.objections),
            "events": [event.event_type for event in plan.events],
            "mappedTo": None if plan.ids is None else list(plan.ids.nomis_ids),
            "dps": None if plan.dps is None else dict(plan.dps),
            "nomis": None if plan.nomis is None else dict(plan.nomis),
            "differences": list(plan.differences),
            "unchecked": self.unchecked,
        }


@dataclass(frozen=True, slots=True)
class ResyncResult:
    """What a resync did.

    nomis_ids: the ids of the NOMIS record that is mapped afterwards, or None if none is known. left: what was still
    wrong when both sides were read again. It is None if not everything was done, because nothing is read again then.
    """

    outcome: str
    nomis_ids: tuple[str, ...] | None = None
    left: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            "outcome": self.outcome,
            "nomisIds": None if self.nomis_ids is None else list(self.nomis_ids),
            "verified": None if self.left is None else not self.left,
            "left": list(self.left or ()),
        }


def plan_resync(application: Application, kind: str, dps_id: str) -> PlannedResync:
    """Reads both sides of a record, and plans how to bring NOMIS into step. The plan includes any objections.

    Raises `UsageError` for an unknown kind or an impossible id, `WorkError` while a service that is needed counts as
    down, and `SyncError`.
    """
    queue_context, resync = _find(application, kind)
    dps_id = _canonical_id(resync, dps_id)
    _check_services(queue_context)
    plan = resync.plan(dps_id, application.services)
    creation = find_creation(queue_context, resync, plan)
    with application.database.read() as connection:
        earlier = actions_on(connection, ACTION, f"{kind} {dps_id}", limit=1)
    return PlannedResync(
        kind,
        dps_id,
        plan,
        tuple(find_objections(queue_context, plan, creation)),
        # The creation protocol deals with a creation that this program began.
        plan.unchecked if creation is None else None,
        creation is not None and creation.state is CreationState.CREATED and plan.effect is Effect.CREATE,
        resync.readable,
        resync.agreement,
        earlier[0].id if earlier else None,
    )


def check_plan(planned: PlannedResync) -> None:
    """Raises `WorkError` if there is an objection to the plan."""
    if planned.objections:
        raise WorkError(f"{planned.target}: nothing was written: {'; '.join(planned.objections)}")


def carry_out_resync(application: Application, planned: PlannedResync, who: str) -> ResyncResult:
    """Writes the record to NOMIS once, records the action under the name `who`, and reads both sides again.

    Raises `LeaseBusy` while the record is being worked on, `PlanChanged`, `WorkError` if there is an objection or the
    record was not written, and `SyncError`.
    """
    queue_context, resync = _find(application, planned.kind)
    with queue_context.entity_held(entity_of(queue_context, planned.plan)):
        again = plan_resync(application, planned.kind, planned.dps_id)
        check_plan(again)
        if again != planned:
            raise PlanChanged(
                f"{planned.target} changed before you confirmed: nothing was written; run the command again"
            )
        plan = again.plan
        details = {key: value for key, value in planned.as_dict().items() if key not in ("kind", "id", "objections")}
        try:
            with recorded_action(application, who, ACTION, planned.target, details) as ongoing:
                last = _handle_all(queue_context, resync, plan)
                result, properties = _read_again(queue_context, resync, planned, _outcome_text(planned, last), last)
                ongoing.outcome = result.outcome
                ongoing.details |= {key: value for key, value in result.as_dict().items() if key != "outcome"}
        except UpstreamError as error:
            advice = _advice_on(queue_context, plan, error)
            if advice is None:
                raise
            raise WorkError(f"{planned.target}: {one_line(error)}; {advice}") from error
    if resync.tracked is not None:
        application.telemetry.track(resync.tracked, properties)
        application.telemetry.flush()
    return result


def check_result(planned: PlannedResync, result: ResyncResult) -> None:
    """Raises `WorkError` if the record is not known to be correct after the write."""
    if result.left:
        raise WorkError(f"{planned.target}: {result.outcome}, but: {'; '.join(result.left)}")


def _find(application: Application, kind: str) -> tuple[QueueContext, Resync]:
    kinds = resync_kinds()
    if kind not in kinds:
        raise UsageError(f"{kind!r} is not a kind of record that can be resynced; KIND is one of {', '.join(kinds)}")
    domain, resync = kinds[kind]
    return application.queue_context(domain.queue), resync


def _canonical_id(resync: Resync, dps_id: str) -> str:
    """The id as DPS writes it. DPS may accept other spellings, but mappings and creations have only this one.

    Raises `UsageError` if `dps_id` cannot be an id.
    """
    if not (_NUMBER if resync.numeric else _TEXT_ID).fullmatch(dps_id):
        expected = "is a number" if resync.numeric else "consists of letters, digits, hyphens and underscores"
        raise UsageError(f"{dps_id!r} is not a valid id of a DPS {resync.kind}: an id {expected}")
    return str(int(dps_id)) if resync.numeric else dps_id.lower()


def _check_services(queue_context: QueueContext) -> None:
    breakers = queue_context.breakers
    if not breakers.probe(queue_context.upstreams):
        down = ", ".join(breakers.open_services(queue_context.upstreams))
        raise WorkError(
            f"nothing was written, since at least one service counts as down ({down}): run the command again when "
            "`check` shows that all are up"
        )


def _handle_all(queue_context: QueueContext, resync: Resync, plan: ResyncPlan) -> Handled:
    """Handles the events of a plan, and returns the result for the last event.

    Raises `OutcomeUnknown` if only some of the events were handled.
    """
    handled: list[Handled] = []
    try:
        handled.extend(carry_out(queue_context, resync, plan))
    except SyncError as error:
        if not handled:
            raise
        raise OutcomeUnknown(
            f"{handled[-1].event_type} was handled, but the next event failed: {one_line(error)}"
        ) from error
    return handled[-1]


def _advice_on(queue_context: QueueContext, plan: ResyncPlan, error: UpstreamError) -> str | None:
    """The domain's advice on an error that a retry would not overcome, or None if the domain has none."""
    failure, event_type = describe_failure(error), plan.events[0].event_type
    advice = (
        each for each in queue_context.domain.advice if not each.may_succeed_later and each.fits(event_type, failure)
    )
    return next((each.text for each in advice), None)


def _outcome_text(planned: PlannedResync, last: Handled) -> str:
    """What was done, on one line. Raises `OutcomeUnknown` if a person must check what NOMIS has now."""
    if last.outcome is Outcome.AMBIGUOUS:
        raise OutcomeUnknown(f"nobody knows whether NOMIS has {planned.target}: see `creations list`")
    if last.outcome is Outcome.DUPLICATE:
        raise OutcomeUnknown(f"{planned.target} is mapped to another NOMIS record: see `duplicates list`")
    if last.outcome is Outcome.IGNORED:
        return f"not written: {last.properties.get('reason') or 'NOMIS does not need it'}"
    if last.outcome is Outcome.RETRY_QUEUED:
        return f"{_DONE[planned.plan.effect]}; its mapping could not be saved, so a mapping retry is on the queue"
    ids = " ".join(f"{name}={last.properties[name]}" for name in _ROW_IDS if name in last.properties)
    return _DONE[planned.plan.effect] + (f" ({ids})" if ids else "")


def _read_again(
    queue_context: QueueContext, resync: Resync, planned: PlannedResync, outcome: str, last: Handled
) -> tuple[ResyncResult, Mapping[str, object]]:
    """Reads both sides again. Returns the result of the resync, and the telemetry properties of the record."""
    plan = planned.plan
    if last.outcome is not Outcome.APPLIED:
        return ResyncResult(outcome), plan.properties
    try:
        after = resync.plan(planned.dps_id, queue_context.services)
        left = tuple(what_is_left(queue_context, resync, plan, after))
    except SyncError as error:
        return ResyncResult(outcome, left=(f"it could not be read again: {one_line(error)}",)), plan.properties
    if after.ids is not None and plan.ids != after.ids:
        outcome = f"{outcome} as {queue_context.domain.repair.noun} {after.ids.nomis_text}"
    nomis_ids = None if after.ids is None else after.ids.nomis_ids
    found = {name: value for name, value in after.properties.items() if value is not None}
    return ResyncResult(outcome, nomis_ids, left), {**plan.properties, **found}
