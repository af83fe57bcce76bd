"""What is not plausible of a whole population: that it is suddenly gone or halved, or that many lost their level.

A booking keeps its level, and DPS gives one on arrival; where many are suddenly without, the service has lost its
data, or something else responds in its place. Nothing is concluded from that: neither agreement nor a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports.reconciliations.incentives.levels import NONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.engine.listing import Listing
    from reports.engine.result import TrendPoint
    from reports.reconciliations.incentives.frame import LevelFrame
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
#: A list with this share of those whom the last complete run compared is plausible, and any list if those were few.
SHORTEST_LIST = 0.5
FEWEST_LISTED = 20


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


def why_emptied(listing: Listing, trend: Sequence[TrendPoint], listed_before: int | None) -> str | None:
    """Why a list is not plausible that is empty or less than half of what it was; it would resolve differences.

    `listed_before` is how many an earlier run listed, complete or not, at least a day before: if those were as few, the
    list is plausible.
    """
    if listing.failed_pages:
        return None
    listed = len(listing.bookings)
    if not listing.total_elements and listed:
        return f"NOMIS lists no active prisoner, where this run had found {listed} before"
    compared = trend[-1].compared if trend else 0
    if compared and not listing.total_elements:
        return f"NOMIS lists no active prisoner, where the last complete run compared {compared}"
    least = SHORTEST_LIST * compared
    if compared >= FEWEST_LISTED and listed < least and (listed_before is None or listed_before >= least):
        return f"NOMIS lists {listed:,} active prisoners, where the last complete run compared {compared:,}"
    return None


def why_without_levels(frame: LevelFrame, before: Without | None) -> str | None:
    """Why the levels of a run are not plausible: too many have none on one side; `before` is that of the last run."""
    everyone = len(frame.bookings)
    sides = (
        ("NOMIS", int(np.count_nonzero(frame.nomis == NONE)), before.nomis if before else 0),
        ("DPS", int(np.count_nonzero(frame.dps == NONE)), before.dps if before else 0),
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
