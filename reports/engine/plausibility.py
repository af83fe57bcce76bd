"""What is not believed of everyone together: that few or none are listed any more, or that many have no level any more.

A booking keeps its level, and DPS gives one on arrival; so where many are suddenly without, a service, or whatever
answers in its place, has lost sight of them. Nothing is concluded from that: neither that both sides agree nor that
they differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports.reconciliations.incentives.levels import NONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.engine.listing import Listing
    from reports.engine.result import MatrixCell, TrendPoint
    from reports.reconciliations.incentives.frame import LevelFrame

#: So many without a level are looked at, and what share of them is believed: more than in the last complete run by
#: this much, or this much in a first run.
FEWEST_WITHOUT = 20
MOST_MORE = 0.05
MOST_AT_FIRST = 0.10
#: Fewer are not believed either where they are everyone, or a larger share, unless they are very few.
FEWEST_OF_ALL = 5
MOST_MORE_OF_FEW = 0.15
MOST_AT_FIRST_OF_FEW = 0.20
#: A list is believed that has this share of those whom the last complete run compared, or where those were few.
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
    """Why a list is not to be believed that nobody is on, or suddenly less than half: differences would be resolved.

    `listed_before` is how many an earlier run listed, complete or not, at least a day before: where those were as few,
    it is no slip.
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
    """Why the levels of a run are not to be believed: too many have none on one side; `before` is the last run's."""
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
            told = f"{side} has no level for {without:,} of {everyone:,} prisoners"
            if known and before:
                return f"{told}, where it had none for {earlier:,} of {before.compared:,} in the last run that counts"
            return f"{told}, more than the {believed:.0%} that a first run believes"
    return None
