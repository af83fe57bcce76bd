"""How often records differ at each prison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation.filters import code, query

if TYPE_CHECKING:
    from reports.engine.result import ReconciliationResult


@dataclass(frozen=True, slots=True)
class PrisonRow:
    """A prison: records compared, different, new and persisting.

    rate: how many of 1,000 records differ, None where none was compared. query: what finds the differences.
    """

    name: str
    compared: int
    mismatches: int
    new: int
    rate: float | None
    query: str

    @property
    def rate_text(self) -> str:
        """`4.3`; a rate that would be rounded to nothing is `under 0.1`."""
        if self.rate is None:
            return "–"
        return "under 0.1" if 0 < self.rate < 0.1 else f"{self.rate:,.1f}"


def prison_rows(result: ReconciliationResult) -> list[PrisonRow]:
    """Every prison of the run, in alphabetical order; records without one are last."""
    return [
        PrisonRow(
            each.prison_id or "unknown",
            each.compared,
            each.mismatches,
            each.new,
            1_000 * each.mismatches / each.compared if each.compared else None,
            query(prison=code(each.prison_id)),
        )
        for each in result.prisons
    ]


def most_affected(rows: list[PrisonRow]) -> list[PrisonRow]:
    """The prisons with differences, those with the most first."""
    return sorted((each for each in rows if each.mismatches), key=lambda each: (-each.mismatches, each.name))
