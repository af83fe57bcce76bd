"""Levels in NOMIS: the reference codes, and the levels of each prison with limits and visit allowances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.clock import london_today
from sandbox.http.serving import Reply, Request, Route
from sandbox.nomis.bodies import Fields, bad_request, not_found
from sandbox.nomis.incentives import ROLE
from sandbox.population.levels import NomisPrisonLevel, ReferenceCode

if TYPE_CHECKING:
    from sandbox.world import World

DOMAIN = "IEP_LEVEL"


def routes(world: World) -> list[Route]:
    """Return the endpoints of global levels and prison levels."""
    return [*_code_routes(world), *_prison_routes(world)]


def _code_routes(world: World) -> list[Route]:
    def get(request: Request, code: str) -> Reply:
        return Reply(body=_code_view(_known(world, code)))

    def create(request: Request) -> Reply:
        fields = Fields.of(request)
        code, description, active = fields.text("code"), fields.text("description"), fields.flag("active")
        held = world.nomis_incentives.codes
        if code not in held:
            sequence = max((each.sequence for each in held.values()), default=0) + 1
            held[code] = ReferenceCode(code, description, sequence, active, None if active else london_today())
        return Reply(201, _code_view(held[code]))

    def update(request: Request, code: str) -> Reply:
        fields = Fields.of(request)
        description, active = fields.text("description"), fields.flag("active")
        held = _known(world, code)
        held.description, held.active = description, active
        held.expired = None if active else held.expired or london_today()
        return Reply(body=_code_view(held))

    def reorder(request: Request) -> Reply:
        body = request.json()
        wanted = body.get("codeList") if isinstance(body, dict) else None
        if not isinstance(wanted, list):
            raise bad_request("JSON parse error: value failed for JSON property codeList due to missing value")
        for place, code in enumerate(wanted, 1):
            held = world.nomis_incentives.codes.get(code)
            if held is not None:
                held.sequence = place
        return Reply()

    return [
        Route("GET", "/incentives/reference-codes/{code}", get, ROLE),
        Route("POST", "/incentives/reference-codes", create, ROLE, writes=True),
        Route("PUT", "/incentives/reference-codes/{code}", update, ROLE, writes=True),
        Route("POST", "/incentives/reference-codes/reorder", reorder, ROLE, writes=True),
    ]


def _prison_routes(world: World) -> list[Route]:
    def get(request: Request, prison_id: str, code: str) -> Reply:
        if prison_id not in world.prisons:
            raise bad_request(f"Prison with id={prison_id} does not exist")
        level = world.nomis_incentives.prison_levels.get((prison_id, code))
        if level is None:
            raise not_found(f"Prison incentive level code: {code} does not exist for prison {prison_id}")
        return Reply(body=_prison_view(level))

    def create(request: Request, prison_id: str) -> Reply:
        fields = Fields.of(request)
        code = fields.text("levelCode")
        _check_prison(world, prison_id)
        if code not in world.nomis_incentives.codes:
            raise bad_request(f"Incentive level with code={code} does not exist")
        return Reply(201, _prison_view(_written(world, prison_id, code, fields)))

    def update(request: Request, prison_id: str, code: str) -> Reply:
        fields = Fields.of(request)
        _check_prison(world, prison_id)
        _known(world, code)
        return Reply(body=_prison_view(_written(world, prison_id, code, fields)))

    return [
        Route("GET", "/incentives/prison/{prison_id}/code/{code}", get, ROLE),
        Route("POST", "/incentives/prison/{prison_id}", create, ROLE, writes=True),
        Route("PUT", "/incentives/prison/{prison_id}/code/{code}", update, ROLE, writes=True),
    ]


def _known(world: World, code: str) -> ReferenceCode:
    held = world.nomis_incentives.codes.get(code)
    if held is None:
        raise not_found(f"Incentive level: {code} not found")
    return held


def _check_prison(world: World, prison_id: str) -> None:
    if prison_id not in world.prisons:
        raise not_found(f"Prison with id={prison_id} does not exist")


def _written(world: World, prison_id: str, code: str, fields: Fields) -> NomisPrisonLevel:
    """Store what a request says of a prison level, made or changed alike."""
    active, default = fields.flag("active"), fields.flag("defaultOnAdmission")
    held = world.nomis_incentives.prison_levels.get((prison_id, code))
    expired = None if active else (held.expired if held is not None and held.expired else london_today())
    level = NomisPrisonLevel(
        prison_id,
        code,
        active,
        default,
        expired,
        fields.optional_number("remandTransferLimitInPence"),
        fields.optional_number("remandSpendLimitInPence"),
        fields.optional_number("convictedTransferLimitInPence"),
        fields.optional_number("convictedSpendLimitInPence"),
        fields.optional_number("visitOrderAllowance"),
        fields.optional_number("privilegedVisitOrderAllowance"),
    )
    world.nomis_incentives.prison_levels[prison_id, code] = level
    return level


def _code_view(code: ReferenceCode) -> dict[str, object]:
    body: dict[str, object] = {
        "code": code.code,
        "domain": DOMAIN,
        "description": code.description,
        "active": code.active,
        "sequence": code.sequence,
        "systemDataFlag": False,
    }
    if code.expired is not None:
        body["expiredDate"] = code.expired
    return body


def _prison_view(level: NomisPrisonLevel) -> dict[str, object]:
    allowed = level.visit_orders is not None or level.privileged_visit_orders is not None
    body: dict[str, object] = {
        "prisonId": level.prison_id,
        "iepLevelCode": level.code,
        "defaultOnAdmission": level.default_on_admission,
        "active": level.active,
        "expiryDate": level.expired,
        "remandTransferLimitInPence": level.remand_transfer,
        "remandSpendLimitInPence": level.remand_spend,
        "convictedTransferLimitInPence": level.convicted_transfer,
        "convictedSpendLimitInPence": level.convicted_spend,
        "visitOrderAllowance": level.visit_orders,
        "privilegedVisitOrderAllowance": level.privileged_visit_orders,
        "visitAllowanceActive": level.active if allowed else None,
        "visitAllowanceExpiryDate": level.expired if allowed else None,
    }
    return {name: value for name, value in body.items() if value is not None}
