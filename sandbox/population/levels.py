"""Incentive levels as the two sides hold them at the start: the global levels, and each prison's levels with limits."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

#: The prisons that give the level Enhanced on admission.
DEFAULT_ENHANCED = ("BHI", "DVI", "ESI", "FDI", "FKI", "FMI", "FWI", "GNI", "HRI", "KVI", "PDI", "SPI", "WII")
DEFAULT_BASIC = ("SLI",)
WITH_ENHANCED_2 = ("AGI", "ISI", "LYI", "PDI", "SLI", "WNI", "WTI")
WITH_ENHANCED_3 = ("PDI",)
WITH_ENTRY_ACTIVE = ("GNI",)


@dataclass(slots=True)
class Level:
    """A level of the incentives API; `order` is its place in the global order."""

    code: str
    name: str
    order: int
    active: bool = True
    required: bool = False


@dataclass(slots=True)
class PrisonLevel:
    """A level at one prison in the incentives API, with its limits in pence and its visit orders per period."""

    prison_id: str
    code: str
    active: bool
    default_on_admission: bool
    remand_transfer: int
    remand_spend: int
    convicted_transfer: int
    convicted_spend: int
    visit_orders: int
    privileged_visit_orders: int


@dataclass(slots=True)
class ReferenceCode:
    """A level in the NOMIS reference domain `IEP_LEVEL`."""

    code: str
    description: str
    sequence: int
    active: bool = True
    expired: date | None = None


@dataclass(slots=True)
class NomisPrisonLevel:
    """A level at one prison in NOMIS.

    The limits are in pence, as the API shows them. Limits and numbers of visit orders may be None.
    """

    prison_id: str
    code: str
    active: bool
    default_on_admission: bool
    expired: date | None = None
    remand_transfer: int | None = None
    remand_spend: int | None = None
    convicted_transfer: int | None = None
    convicted_spend: int | None = None
    visit_orders: int | None = None
    privileged_visit_orders: int | None = None


class Allowance(NamedTuple):
    """Transfer limits in pence (spend limits are ten times these) and the numbers of visit orders of both kinds."""

    remand_transfer: int
    convicted_transfer: int
    visit_orders: int
    privileged: int


PRESENT = {"BAS": Allowance(2750, 550, 1, 0), "STD": Allowance(6050, 1980, 1, 1), "ENH": Allowance(6600, 3300, 1, 2)}
OLDER = {"BAS": Allowance(2200, 400, 1, 0), "STD": Allowance(4750, 1550, 1, 1), "ENH": Allowance(5100, 2550, 1, 2)}
PRESENT_SHARE = 0.55


def dps_levels() -> dict[str, Level]:
    """Returns the global levels of the incentives API, by code."""
    levels = (
        Level("BAS", "Basic", 1, required=True),
        Level("STD", "Standard", 2, required=True),
        Level("ENH", "Enhanced", 3, required=True),
        Level("EN2", "Enhanced 2", 4),
        Level("EN3", "Enhanced 3", 5),
        Level("ENT", "Entry", 99, active=False),
    )
    return {level.code: level for level in levels}


def nomis_codes() -> dict[str, ReferenceCode]:
    """Returns the levels that NOMIS knows, by code.

    Unlike DPS, NOMIS does not know `EN3`. In NOMIS, `ENT` is still active, and `EN4` remains from before DPS.
    """
    known = (
        ReferenceCode("BAS", "Basic", 1),
        ReferenceCode("ENT", "Entry", 2),
        ReferenceCode("STD", "Standard", 3),
        ReferenceCode("ENH", "Enhanced", 4),
        ReferenceCode("EN2", "Enhanced 2", 5),
        ReferenceCode("EN4", "Enhanced 4", 6, active=False, expired=date(2020, 1, 10)),
    )
    return {each.code: each for each in known}


def default_level(prison_id: str) -> str:
    """Returns the level that the prison gives on admission."""
    if prison_id in DEFAULT_ENHANCED:
        return "ENH"
    return "BAS" if prison_id in DEFAULT_BASIC else "STD"


def prison_levels(prison_id: str, chance: random.Random) -> list[PrisonLevel]:
    """Returns the levels of one prison in the incentives API."""
    amounts = PRESENT if chance.random() < PRESENT_SHARE else OLDER
    default = default_level(prison_id)

    def level(code: str, of: str, active: bool = True) -> PrisonLevel:
        allowance = amounts[of]
        return PrisonLevel(
            prison_id,
            code,
            active,
            code == default,
            allowance.remand_transfer,
            allowance.remand_transfer * 10,
            allowance.convicted_transfer,
            allowance.convicted_transfer * 10,
            allowance.visit_orders,
            allowance.privileged,
        )

    levels = [level("BAS", "BAS"), level("STD", "STD"), level("ENH", "ENH")]
    if prison_id in WITH_ENHANCED_2:
        levels.append(level("EN2", "ENH"))
    if prison_id in WITH_ENHANCED_3:
        levels.append(level("EN3", "ENH"))
    levels.append(level("ENT", "STD", active=prison_id in WITH_ENTRY_ACTIVE))
    return levels


def nomis_copy(level: PrisonLevel) -> NomisPrisonLevel:
    """Returns the NOMIS record that agrees with a prison level of the incentives API."""
    return NomisPrisonLevel(
        level.prison_id,
        level.code,
        level.active,
        level.default_on_admission,
        None if level.active else date(2023, 4, 3),
        level.remand_transfer,
        level.remand_spend,
        level.convicted_transfer,
        level.convicted_spend,
        level.visit_orders,
        level.privileged_visit_orders,
    )
