"""Writes global levels, their order and the levels of prisons to NOMIS. They can safely be written again."""

from sync.domains.declaration import Update
from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives import nomis as nomis_incentives
from sync.domains.incentives.nomis import HeldLevel
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import Properties

#: The entity of the order of the levels. There is only one order.
ORDER = "incentive-levels-order"


def _code(event: DomainEvent) -> str:
    return event.text("incentiveLevel")


def _start_level(event: DomainEvent) -> Properties:
    return {"code": _code(event)}


def _write_level(event: DomainEvent, context: HandlerContext) -> str:
    services = context.services
    with context.lease(f"write:{_level_entity(event)}"):
        context.step("look up level in NOMIS")
        held = nomis_incentives.find_global_level(services.nomis, _code(event))
        context.step("read level")
        level = incentives_api.level(services[UpstreamName.INCENTIVES], _code(event))
        context.bind(code=level.code, description=level.name, active=level.active)
        body = nomis_incentives.GlobalLevel(code=level.code, description=level.name, active=level.active)
        context.step("write level")
        if held is None:
            nomis_incentives.create_global_level(services.nomis, body)
        else:
            nomis_incentives.update_global_level(services.nomis, body)
    _keep_order(level.code, held, context)
    return "global-incentive-level-inserted" if held is None else "global-incentive-level-updated"


def _keep_order(code: str, held: HeldLevel | None, context: HandlerContext) -> None:
    """Sends NOMIS the order of the levels again if NOMIS cannot have applied it to the level with the code `code`.

    held: the level as it was in NOMIS before this write, or None if NOMIS did not have it.

    The event `incentives.levels.reordered` sets the order; a change to a level normally does not. But NOMIS skips
    unknown levels when it sets an order, and puts a new level last. If the event about a new level came after the event
    about the order, the level would stay last. So the order is sent again for a level that was just created, unless it
    belongs last. If that call fails, the level keeps a place in NOMIS that is greater than the number of levels in DPS,
    and the next event about the level sends the order again. In all other cases, nothing is sent.
    """
    with context.lease(f"write:{ORDER}"):
        context.step("read the order of levels")
        codes = _order(context)
        is_behind_all = held is None or (held.sequence is not None and held.sequence > len(codes))
        if is_behind_all and code in codes[:-1]:
            context.step("order levels")
            nomis_incentives.reorder_global_levels(context.services.nomis, codes)


def _level_entity(event: DomainEvent) -> str:
    return f"incentive-level:{_code(event)}"


def _start_order(_: DomainEvent) -> Properties:
    return {}


def _write_order(event: DomainEvent, context: HandlerContext) -> None:
    with context.lease(f"write:{_order_entity(event)}"):
        context.step("order levels")
        codes = _order(context)
        nomis_incentives.reorder_global_levels(context.services.nomis, codes)
    context.bind(orderedIepCodes=f"[{', '.join(codes)}]")


def _order(context: HandlerContext) -> tuple[str, ...]:
    """The codes of the levels, including inactive ones, in their order in DPS.

    The caller must hold the lease of the order.
    """
    return tuple(level.code for level in incentives_api.levels(context.services[UpstreamName.INCENTIVES]))


def _order_entity(_: DomainEvent) -> str:
    return ORDER


def _prison(event: DomainEvent) -> str:
    return event.text("prisonId")


def _start_prison_level(event: DomainEvent) -> Properties:
    return {"code": _code(event), "prison": _prison(event)}


def _write_prison_level(event: DomainEvent, context: HandlerContext) -> str:
    services, prison_id = context.services, _prison(event)
    with context.lease(f"write:{_prison_level_entity(event)}"):
        context.step("look up prison level in NOMIS")
        exists = nomis_incentives.prison_level_exists(services.nomis, prison_id, _code(event))
        context.step("read prison level")
        level = incentives_api.prison_level(services[UpstreamName.INCENTIVES], prison_id, _code(event))
        context.bind(
            code=level.level_code,
            prison=level.prison_id,
            defaultOnAdmission=level.default_on_admission,
            active=level.active,
            visitOrders=level.visit_orders,
            privilegedVisitOrders=level.privileged_visit_orders,
            remandTransferLimitInPence=level.remand_transfer_limit_in_pence,
            remandSpendLimitInPence=level.remand_spend_limit_in_pence,
            convictedSpendLimitInPence=level.convicted_spend_limit_in_pence,
            convictedTransferLimitInPence=level.convicted_transfer_limit_in_pence,
        )
        body = nomis_incentives.PrisonLevel(
            level_code=level.level_code,
            active=level.active,
            default_on_admission=level.default_on_admission,
            visit_order_allowance=level.visit_orders,
            privileged_visit_order_allowance=level.privileged_visit_orders,
            remand_transfer_limit_in_pence=level.remand_transfer_limit_in_pence,
            remand_spend_limit_in_pence=level.remand_spend_limit_in_pence,
            convicted_transfer_limit_in_pence=level.convicted_transfer_limit_in_pence,
            convicted_spend_limit_in_pence=level.convicted_spend_limit_in_pence,
        )
        context.step("write prison level")
        if exists:
            nomis_incentives.update_prison_level(services.nomis, prison_id, body)
            return "prison-incentive-level-updated"
        nomis_incentives.create_prison_level(services.nomis, prison_id, body)
        return "prison-incentive-level-inserted"


def _prison_level_entity(event: DomainEvent) -> str:
    return f"incentive-prison-level:{_prison(event)}:{_code(event)}"


#: The handlers of the events about levels. For a failure, only the event `message-failed` is tracked.
LEVEL_UPDATES = (
    Update(
        event_type="incentives.level.changed",
        entity=_level_entity,
        start=_start_level,
        apply=_write_level,
        success="global-incentive-level-updated",
        failed=None,
        others=("global-incentive-level-inserted",),
    ),
    Update(
        event_type="incentives.levels.reordered",
        entity=_order_entity,
        start=_start_order,
        apply=_write_order,
        success="global-incentive-levels-reordered",
        failed=None,
    ),
    Update(
        event_type="incentives.prison-level.changed",
        entity=_prison_level_entity,
        start=_start_prison_level,
        apply=_write_prison_level,
        success="prison-incentive-level-updated",
        failed=None,
        others=("prison-incentive-level-inserted",),
    ),
)
