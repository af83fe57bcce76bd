"""Incentive levels, global and of each prison, and their order: reference data, repeated without harm."""

from sync.envelope import DomainEvent
from sync.handling import Properties, Update, Work
from sync.upstream import incentives_api, nomis_incentives
from sync.upstream.services import Services


def _code(event: DomainEvent) -> str:
    return event.text("incentiveLevel")


def _start_level(event: DomainEvent) -> Properties:
    return {"code": _code(event)}


def _write_level(event: DomainEvent, work: Work) -> str:
    services = work.services
    with work.lease(f"write:{_level_entity(event)}"):
        work.trail.at("look up level in NOMIS")
        exists = nomis_incentives.global_level_exists(services.nomis, _code(event))
        work.trail.at("read level")
        level = incentives_api.level(services.incentives, _code(event))
        work.trail.add(code=level.code, description=level.name, active=level.active)
        body = nomis_incentives.GlobalLevel(code=level.code, description=level.name, active=level.active)
        work.trail.at("write level")
        if exists:
            nomis_incentives.update_global_level(services.nomis, body)
            return "global-incentive-level-updated"
        nomis_incentives.create_global_level(services.nomis, body)
    # NOMIS puts a new level last, and skips it in an order that it was told before: so it is told the order now.
    work.trail.at("order levels")
    _send_order(services)
    return "global-incentive-level-inserted"


def _level_entity(event: DomainEvent) -> str:
    return f"incentive-level:{_code(event)}"


def _start_order(_: DomainEvent) -> Properties:
    return {}


def _write_order(_: DomainEvent, work: Work) -> None:
    with work.lease(f"write:{_order_entity(_)}"):
        work.trail.at("order levels")
        codes = _send_order(work.services)
    work.trail.add(orderedIepCodes=f"[{', '.join(codes)}]")


def _send_order(services: Services) -> tuple[str, ...]:
    codes = tuple(level.code for level in incentives_api.levels(services.incentives))
    nomis_incentives.reorder_global_levels(services.nomis, codes)
    return codes


def _order_entity(_: DomainEvent) -> str:
    return "incentive-levels-order"


def _prison(event: DomainEvent) -> str:
    return event.text("prisonId")


def _start_prison_level(event: DomainEvent) -> Properties:
    return {"code": _code(event), "prison": _prison(event)}


def _write_prison_level(event: DomainEvent, work: Work) -> str:
    services, prison_id = work.services, _prison(event)
    with work.lease(f"write:{_prison_level_entity(event)}"):
        work.trail.at("look up prison level in NOMIS")
        exists = nomis_incentives.prison_level_exists(services.nomis, prison_id, _code(event))
        work.trail.at("read prison level")
        level = incentives_api.prison_level(services.incentives, prison_id, _code(event))
        work.trail.add(
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
        work.trail.at("write prison level")
        if exists:
            nomis_incentives.update_prison_level(services.nomis, prison_id, body)
            return "prison-incentive-level-updated"
        nomis_incentives.create_prison_level(services.nomis, prison_id, body)
        return "prison-incentive-level-inserted"


def _prison_level_entity(event: DomainEvent) -> str:
    return f"incentive-prison-level:{_prison(event)}:{_code(event)}"


#: Their failures are recorded, but no event of theirs tells of one.
LEVEL_UPDATES = (
    Update(
        "incentives.level.changed",
        _level_entity,
        _start_level,
        _write_level,
        "global-incentive-level-updated",
        failed=None,
        others=("global-incentive-level-inserted",),
    ),
    Update(
        "incentives.levels.reordered",
        _order_entity,
        _start_order,
        _write_order,
        "global-incentive-levels-reordered",
        failed=None,
    ),
    Update(
        "incentives.prison-level.changed",
        _prison_level_entity,
        _start_prison_level,
        _write_prison_level,
        "prison-incentive-level-updated",
        failed=None,
        others=("prison-incentive-level-inserted",),
    ),
)
