"""The report of a run as HTML: a single page that works without its scripts, with a row for each difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation import summary
from reports.presentation.chart import draw_trend
from reports.presentation.counts import age_of, ages, causes_by_who_acts, code, most_affected, prison_rows, slug
from reports.presentation.csv import packed_csv
from reports.presentation.index import path_to_index
from reports.presentation.masking import UNMASKED, masked_page
from reports.presentation.templates import render_page
from reports.presentation.text import distinct_moments
from reports.presentation.view import NOT_INVESTIGATED, view_of
from reports.presentation.what_to_do import what_to_do

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reports.engine.result import Mismatch, ReconciliationResult
    from reports.presentation.masking import Masking
    from reports.presentation.view import View
    from reports.presentation.what_to_do import Recommendation

#: The scripts of the report, each of which does one thing.
_SCRIPTS = ("report/filter.js", "report/sort.js", "report/print.js", "report/csv.js")


def render_report(result: ReconciliationResult, masking: Masking = UNMASKED, *, attached: bool = False) -> str:
    """The report of a run as HTML, self-contained and usable without scripts.

    attached: whether the page is attached to a message instead of being kept in the archive; if so, it has no links to
    files in the archive.
    """
    view, todo, prisons = view_of(result), what_to_do(result), prison_rows(result)
    rows = page_rows(result, view, todo.actions, masking)
    values = {
        "result": result,
        "view": view,
        "index": None if attached else path_to_index(result.reconciliation, result.run_id),
        "todo": todo,
        "headline": todo.headline,
        "scope": summary.scope(result.parameters),
        "duration": summary.duration(result),
        "shortfall": summary.shortfall(result),
        "reach": summary.reach(result),
        "none_found": summary.none_found(result),
        "figures": summary.figures(result),
        "prisons": prisons,
        "affected": most_affected(prisons),
        "highest_rate": max((each.rate or 0 for each in prisons), default=0),
        # The row of the records without a prison, such as those that only DPS has, does not count as a place.
        "places": sum(each.prison_id is not None for each in result.prisons),
        "aside": len(result.in_flight) + sum(each.differs for each in result.excluded),
        "rows": rows,
        "packed_csv": packed_csv(result, masking) if rows else "",
        "steps": summary.next_steps(result),
        "causes": causes_by_who_acts(rows, todo.actions),
        "ages": ages(result),
        "codes": view.codes(),
        "trend": draw_trend(result.trend),
        "points": list(zip(distinct_moments([each.started_at for each in result.trend]), result.trend, strict=True)),
        "in_trend": any(point.run_id == result.run_id for point in result.trend),
    }
    return masked_page(render_page("report.html.j2", _SCRIPTS, values), result, masking)


@dataclass(frozen=True, slots=True)
class PageRow:
    """A difference as a row of the page.

    number: its number in the report. anchor: the id of the row. Every run that finds the same difference with the same
    cause gives the row the same id. On a masked page, the id contains the number instead of the key, and is valid only
    for this run. cause: the name of the cause, or `not investigated`. values: the values that links filter by, as
    attributes of the row; if an attribute has several values, spaces separate them.
    """

    number: int
    mismatch: Mismatch
    anchor: str
    cause: str
    values: Mapping[str, str]


def page_rows(
    result: ReconciliationResult, view: View, actions: Sequence[Recommendation], masking: Masking
) -> list[PageRow]:
    """The differences as rows of the page, in the order of the report; each must belong to one of the `actions`."""
    action_of = {row: (place, action) for place, action in enumerate(actions, start=1) for row in action.rows}
    rows: list[PageRow] = []
    taken: set[str] = set()
    for number, mismatch in result.rows:
        cause = NOT_INVESTIGATED if mismatch.diagnosis is None else view.cause(mismatch.diagnosis)
        place, action = action_of[number]
        values = {
            "prison": code(mismatch.prison_id),
            "standing": mismatch.standing,
            "age": age_of(result, mismatch),
            "cause": slug(cause),
            "who": slug(action.who),
            "action": str(place),
            **view.filter_values(mismatch),
        }
        key = f"row {number}" if masking.on else " ".join(map(str, mismatch.key.values()))
        anchor = f"{slug(cause)}--{slug(key)}"
        if anchor in taken:
            anchor = f"{anchor}--{number}"
        taken.add(anchor)
        rows.append(PageRow(number, mismatch, anchor, cause, values))
    return rows
