"""How long differences have been open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.presentation.counts import Count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.engine.result import Mismatch, ReconciliationResult

#: The ages by their names in addresses, youngest first: the days that they last at most, and what they are called.
_AGES: Mapping[str, tuple[float, str]] = {
    "week": (7, "Up to 7 days"),
    "month": (28, "8 to 28 days"),
    "quarter": (91, "29 to 91 days"),
    "year": (365, "92 to 365 days"),
    "longer": (float("inf"), "More than a year"),
}
_NEW = "new"


def age_of(result: ReconciliationResult, mismatch: Mismatch) -> str:
    """The age of a difference at the end of the run, by its name in addresses."""
    if mismatch.standing == "new":
        return _NEW
    days = (result.finished_at - mismatch.since).days
    return next(name for name, (most, _) in _AGES.items() if days <= most)


def ages(result: ReconciliationResult) -> list[Count]:
    """How many differences are of each age, youngest first, without the ages beyond the oldest."""
    found = [age_of(result, each) for each in result.mismatches]
    if not found:
        return []
    counted = [Count("New in this run", found.count(_NEW), found.count(_NEW), f"age={_NEW}")]
    counted += [Count(label, found.count(name), 0, f"age={name}") for name, (_, label) in _AGES.items()]
    while not counted[-1].mismatches:
        counted.pop()
    return counted
