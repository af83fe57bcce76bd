"""Counts of differences by kind, age, cause and prison, each with the link that shows exactly the differences counted.

A link holds the values to filter by, and each row of the page carries its own values. The script of the page keeps the
filter in the fragment of the address, `#prison=LEI&standing=new`, so that the address can be shared. No server sees a
fragment, so a signed address stays valid, and a saved page works too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reports.engine.result import Mismatch, ReconciliationResult
    from reports.presentation.page import PageRow
    from reports.presentation.what_to_do import Recommendation

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")
#: The ages by their names in links, youngest first: the maximum age in days, and the label.
_AGES: Mapping[str, tuple[float, str]] = {
    "week": (7, "Up to 7 days"),
    "month": (28, "8 to 28 days"),
    "quarter": (91, "29 to 91 days"),
    "year": (365, "92 to 365 days"),
    "longer": (float("inf"), "More than a year"),
}
_NEW = "new"


def slug(text: str) -> str:
    """`text` as a value in a link: `the event was lost, or failed` becomes `the-event-was-lost-or-failed`."""
    return _NOT_A_WORD.sub("-", text.lower()).strip("-") or "unknown"


def code(value: str | None, none: str = "unknown") -> str:
    """A code from another system as a value in a link, with hyphens for spaces; `none` if it is missing or empty."""
    return none if value is None else "-".join(value.split()) or none


def query(**values: str) -> str:
    """The filter of a link, made from names and values: `prison=LEI&standing=new`."""
    return urlencode(values)


@dataclass(frozen=True, slots=True)
class Count:
    """A number of differences that have something in common.

    name: what they have in common. mismatches: their number. new: how many of the differences are new. query: the
    filter that shows the differences.
    """

    name: str
    mismatches: int
    new: int
    query: str


def counts(found: Iterable[tuple[str, str, Mismatch]]) -> list[Count]:
    """A count for each name, the largest first.

    found: for each difference, the name under which it is counted, the filter for that name, and the difference.
    """
    listed = list(found)
    queries = {name: query for name, query, _ in listed}
    total = Counter(name for name, _, _ in listed)
    new = Counter(name for name, _, each in listed if each.standing == "new")
    ordered = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return [Count(name, number, new[name], queries[name]) for name, number in ordered]


def age_of(result: ReconciliationResult, mismatch: Mismatch) -> str:
    """The age of a difference at the end of the run, as links name it: `new`, or a key of `_AGES`."""
    if mismatch.standing == "new":
        return _NEW
    days = (result.finished_at - mismatch.since).days
    return next(name for name, (most, _) in _AGES.items() if days <= most)


def ages(result: ReconciliationResult) -> list[Count]:
    """The number of differences of each age, youngest first, up to the age of the oldest difference."""
    found = [age_of(result, each) for each in result.mismatches]
    if not found:
        return []
    counted = [Count("New in this run", found.count(_NEW), found.count(_NEW), f"age={_NEW}")]
    counted += [Count(label, found.count(name), 0, f"age={name}") for name, (_, label) in _AGES.items()]
    while not counted[-1].mismatches:
        counted.pop()
    return counted


@dataclass(frozen=True, slots=True)
class CauseRow:
    """A cause of differences.

    slug: its name in links. right_side: the side that is right, `unknown`, or `differs` if that varies from one
    difference to another.
    """

    count: Count
    slug: str
    right_side: str


@dataclass(frozen=True, slots=True)
class WhoActs:
    """A party that acts, such as NOMIS support: the `total` of the differences that it acts on, and their causes."""

    total: Count
    causes: tuple[CauseRow, ...]


def causes_by_who_acts(rows: Sequence[PageRow], actions: Sequence[Recommendation]) -> list[WhoActs]:
    """The parties that act, in the order of the `actions`, each with its most frequent causes first."""
    groups = []
    for who in dict.fromkeys(each.who for each in actions):
        own_rows = [row for row in rows if row.values["who"] == slug(who)]
        [total] = counts((who, query(who=slug(who)), row.mismatch) for row in own_rows)
        found = counts((row.cause, query(cause=row.values["cause"], who=slug(who)), row.mismatch) for row in own_rows)
        sides = {row.cause: _right_side([each for each in own_rows if each.cause == row.cause]) for row in own_rows}
        groups.append(WhoActs(total, tuple(CauseRow(each, slug(each.name), sides[each.name]) for each in found)))
    return groups


def _right_side(rows: Sequence[PageRow]) -> str:
    sides = {"unknown" if row.mismatch.diagnosis is None else row.mismatch.diagnosis.right_side for row in rows}
    return sides.pop() if len(sides) == 1 else "differs"


@dataclass(frozen=True, slots=True)
class PrisonRow:
    """A prison: how many records were compared, how many of them differ, and how many of those are new.

    name: the code of the prison, or `unknown`. rate: differences per 1,000 records, or None if no record was compared.
    query: the filter that shows the differences.
    """

    name: str
    compared: int
    mismatches: int
    new: int
    rate: float | None
    query: str

    @property
    def rate_text(self) -> str:
        """The rate to one decimal place, such as `4.3`; `under 0.1` if it is between 0 and 0.1; `–` if unknown."""
        if self.rate is None:
            return "–"
        return "under 0.1" if 0 < self.rate < 0.1 else f"{self.rate:,.1f}"


def prison_rows(result: ReconciliationResult) -> list[PrisonRow]:
    """A row for each prison of the run, in alphabetical order; the row for the unknown prison comes last."""
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
    """The prisons with differences, starting with those that have the most."""
    return sorted((each for each in rows if each.mismatches), key=lambda each: (-each.mismatches, each.name))
