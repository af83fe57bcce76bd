"""The differences as rows of the page: each with its own address, and with the values that links filter by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation.ages import age_of
from reports.presentation.filters import code, slug
from reports.presentation.view import NOT_INVESTIGATED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reports.engine.result import Mismatch, ReconciliationResult
    from reports.presentation.text import Masking
    from reports.presentation.view import View
    from reports.presentation.what_to_do import Recommendation


@dataclass(frozen=True, slots=True)
class PageRow:
    """A difference as a row of the page.

    anchor: the id of the row, the same in every run that finds the difference with the same cause; in a masked page it
    has no key, and is the same in this run only. cause: its name. values: what links filter by, as attributes of the
    row; several values of one name have a blank between them.
    """

    number: int
    mismatch: Mismatch
    anchor: str
    cause: str
    values: Mapping[str, str]


def page_rows(
    result: ReconciliationResult, view: View, actions: Sequence[Recommendation], masking: Masking
) -> list[PageRow]:
    """The rows of the page, in the order of the report."""
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
