"""What is not plausible of the levels of everyone: that many are suddenly without one.

A booking keeps its level, and DPS gives one on arrival; where many are suddenly without, the service has lost its
data, or something else responds in its place. Nothing is concluded from that: neither agreement nor a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from reports.reconciliations.incentives.result import MatrixCell

#: From this many without a level, their share may exceed that of the last complete run by `MOST_MORE`, or in a first
#: run be `MOST_AT_FIRST`.
FEWEST_WITHOUT = 20
MOST_MORE = 0.05
MOST_AT_FIRST = 0.10
#: Between this many and `FEWEST_WITHOUT` larger shares are plausible, but not everyone.
FEWEST_OF_ALL = 5
MOST_MORE_OF_FEW = 0.15
MOST_AT_FIRST_OF_FEW = 0.20


@dataclass(frozen=True, slots=True)
class Without:
    """How many of those compared had no level in NOMIS and in DPS, in a run."""

    compared: int
    nomis: int
    dps: int

    @classmethod
    def of(cls, cells: Iterable[MatrixCell]) -> Without:
        """The numbers of a run by its matrix."""
        compared = nomis = dps = 0
        for cell in cells:
            compared += cell.count
            nomis += cell.count * (cell.nomis_level is None)
            dps += cell.count * (cell.dps_level is None)
        return cls(compared, nomis, dps)


def why_without_levels(frame: pd.DataFrame, before: Without | None) -> str | None:
    """Why the levels of a run are not plausible: too many have none on one side; `before` is that of the last run."""
    everyone = len(frame)
    sides = (
        ("NOMIS", int(frame["nomis_level"].isna().sum()), before.nomis if before else 0),
        ("DPS", int(frame["dps_level"].isna().sum()), before.dps if before else 0),
    )
    for side, without, earlier in sides:
        known = before is not None and before.compared > 0
        few = without < FEWEST_WITHOUT
        if known and before:
            believed = earlier / before.compared + (MOST_MORE_OF_FEW if few else MOST_MORE)
        else:
            believed = MOST_AT_FIRST_OF_FEW if few else MOST_AT_FIRST
        many = without >= FEWEST_OF_ALL and without > believed * everyone
        if many or (without == everyone >= FEWEST_OF_ALL and believed < 1):
            found = f"{side} has no level for {without:,} of {everyone:,} prisoners"
            if known and before:
                return f"{found}, where it had none for {earlier:,} of {before.compared:,} in the last run that counts"
            return f"{found}, more than the {believed:.0%} that a first run believes"
    return None
