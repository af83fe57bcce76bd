"""Which side has the higher level, and by how much: a cause that works in one direction shows here first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.reconciliations.incentives.codes import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.reconciliations.incentives.result import IncentiveMismatch

#: The levels that DPS gives, in its order. It no longer gives Entry, so Standard is the level after Basic.
_STEPS = {level: step for step, level in enumerate(level for level in LEVELS if level != "ENT")}


def direction_of(mismatch: IncentiveMismatch) -> str:
    """The direction of a difference, one of `DIRECTIONS`: `nomis-1` where NOMIS is one level higher."""
    if mismatch.nomis_level is None:
        return "no-nomis-level"
    if mismatch.dps_level is None:
        return "no-dps-level"
    nomis, dps = _STEPS.get(mismatch.nomis_level), _STEPS.get(mismatch.dps_level)
    if nomis is None or dps is None:
        return "unknown"
    return f"nomis-{nomis - dps}" if nomis > dps else f"dps-{dps - nomis}"


def _higher(side: str, steps: int) -> tuple[str, str]:
    return f"{side.lower()}-{steps}", f"{side} is {steps} level{'' if steps == 1 else 's'} higher"


#: Every direction and what it is called: from far higher in NOMIS to far higher in DPS, then those without a distance.
DIRECTIONS: Mapping[str, str] = {
    **dict(_higher("NOMIS", steps) for steps in range(len(_STEPS) - 1, 0, -1)),
    **dict(_higher("DPS", steps) for steps in range(1, len(_STEPS))),
    "no-nomis-level": "No level in NOMIS",
    "no-dps-level": "No level in DPS",
    "unknown": "Levels without a known order",
}
