"""Writes the current state of one DPS record, of any domain, to NOMIS by means of the domain's event handlers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sync.creation.creation import Creation, creation_lease
from sync.domains.repair_declaration import Effect, Resync, ResyncPlan
from sync.events.context import Outcome
from sync.pipeline.handle import handle_event, start_context
from sync.pipeline.queue_context import QueueContext
from sync.store.creations import CreationRecord, CreationState, find_record


@dataclass(frozen=True, slots=True)
class Handled:
    """An event that a resync handled, with its outcome and its telemetry properties."""

    event_type: str
    outcome: Outcome
    properties: dict[str, object]


def find_creation(queue_context: QueueContext, resync: Resync, plan: ResyncPlan) -> CreationRecord | None:
    """The recorded creation of the record whose mapping the plan needs, or None if none is recorded."""
    with queue_context.database.read() as connection:
        return find_record(connection, resync.creation.name, plan.creation_id)


def find_objections(queue_context: QueueContext, plan: ResyncPlan, creation: CreationRecord | None) -> Iterator[str]:
    """Sentences that say why nothing may be written now."""
    if plan.objection is not None:
        yield plan.objection
    for event in plan.events:
        if not queue_context.settings.event_enabled(event.event_type):
            yield f"{event.event_type} is switched off"
    if creation is None or plan.effect is Effect.NOTHING:
        return
    what = f"{creation.domain} {creation.dps_id}"
    if creation.state is CreationState.AMBIGUOUS:
        yield f"nobody knows whether NOMIS has {what}: run `creations settle {creation.id}` first"
        return
    seconds = queue_context.creations.seconds_under_way(creation)
    if seconds > 0:
        yield f"the create of {what} may still be under way in NOMIS: wait {math.ceil(seconds)} s"


def entity_of(queue_context: QueueContext, plan: ResyncPlan) -> str:
    """The entity of a plan's events. Events from the queue about the same record have the same entity."""
    event = plan.events[0]
    return queue_context.domain.handlers[event.event_type].entity(event)


def carry_out(queue_context: QueueContext, resync: Resync, plan: ResyncPlan) -> Iterator[Handled]:
    """Handles the events of a plan one by one and yields the results. Stops after the first event that is not applied.

    If the mapping of the record is stale, deletes it before the first event. Raises any error that makes this deletion
    or an event fail. The caller must hold the lease of the events' entity, and must have made the plan under it.
    """
    if plan.mapping_is_stale:
        with queue_context.leases.held(creation_lease(resync.creation.name, plan.creation_id)):
            resync.creation.mappings.delete(queue_context.services.mapping, plan.creation_id)
    for event in plan.events:
        handler = queue_context.domain.handlers[event.event_type]
        context = start_context(queue_context, handler.start(event))
        with queue_context.breakers.working_on(handler.entity(event)):
            if isinstance(handler, Creation) and plan.made_at is not None:
                queue_context.creations.expect_elsewhere(handler, event, context, plan.made_at)
            outcome = handle_event(queue_context, handler, event, context)
        yield Handled(event.event_type, outcome, context.properties)
        if outcome is not Outcome.APPLIED:
            return


def what_is_left(queue_context: QueueContext, resync: Resync, plan: ResyncPlan, after: ResyncPlan) -> Iterator[str]:
    """Sentences that say what is still wrong; `after` is a new plan, made after `plan` was carried out.

    Raises `SyncError`.
    """
    repair = queue_context.domain.repair
    if plan.effect is Effect.DELETE:
        assert plan.ids is not None
        if after.ids is not None:
            yield f"it is still mapped to {repair.noun} {after.ids.nomis_text}"
        if repair.read(queue_context.services, plan.ids) is not None:
            yield f"NOMIS still has {repair.noun} {plan.ids.nomis_text}"
        return
    if after.ids is None:
        yield "it is not mapped"
    elif after.nomis is None and resync.readable:
        yield f"NOMIS does not show {repair.noun} {after.ids.nomis_text}"
    yield from after.differences
