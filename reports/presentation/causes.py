"""The causes of the differences, by who acts on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation.counts import Count, counts
from reports.presentation.filters import query, slug

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.presentation.page_rows import PageRow
    from reports.presentation.what_to_do import Recommendation


@dataclass(frozen=True, slots=True)
class CauseRow:
    """A cause: how many differences it explains, and which side is right."""

    count: Count
    slug: str
    right_side: str


@dataclass(frozen=True, slots=True)
class WhoActs:
    """Who acts, and the causes of the differences that are theirs."""

    total: Count
    causes: tuple[CauseRow, ...]


def causes_by_who_acts(rows: Sequence[PageRow], actions: Sequence[Recommendation]) -> list[WhoActs]:
    """Everybody who acts, in the order of what is to be done, each with the most frequent causes first."""
    groups = []
    for who in dict.fromkeys(each.who for each in actions):
        theirs = [row for row in rows if row.values["who"] == slug(who)]
        [total] = counts((who, query(who=slug(who)), row.mismatch) for row in theirs)
        found = counts((row.cause, query(cause=row.values["cause"], who=slug(who)), row.mismatch) for row in theirs)
        sides = {row.cause: _right_side([each for each in theirs if each.cause == row.cause]) for row in theirs}
        groups.append(WhoActs(total, tuple(CauseRow(each, slug(each.name), sides[each.name]) for each in found)))
    return groups


def _right_side(rows: Sequence[PageRow]) -> str:
    sides = {"unknown" if row.mismatch.diagnosis is None else row.mismatch.diagnosis.right_side for row in rows}
    return sides.pop() if len(sides) == 1 else "differs"
