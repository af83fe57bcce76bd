"""The figures at the top of the report: those that say something about this run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation import summary as wording

if TYPE_CHECKING:
    from reports.engine.result import ReconciliationResult


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: what it counts, how many, and of what or since when."""

    label: str
    value: int
    note: str


def figures(result: ReconciliationResult) -> list[Figure]:
    """The figures of a run. A run that is not complete has no zeros of what it cannot know."""
    complete, different = result.status == "complete", len(result.mismatches)
    found = []
    if result.status == "failed" and result.compared:
        listed = wording.of_listed(result)
        found.append(Figure("Compared", result.compared, f"{listed}{' ' if listed else ''}before the run failed"))
        found.append(Figure("Different", different, "among them"))
    elif result.compared:
        found.append(Figure("Different", different, f"of {wording.thousands(result.compared)} compared"))
    if different or (complete and result.compared):
        found.append(Figure("New", result.new, wording.since(result)))
        found.append(Figure("Still there", result.persisting, "known from earlier runs"))
    if result.resolved or (complete and result.compared):
        found.append(Figure("Resolved", len(result.resolved), "since the last run"))
    if result.unconfirmed:
        found.append(Figure("Not confirmed", len(result.unconfirmed), "seen once, not read again"))
    if complete or result.unread or result.unread_pages:
        found.append(_not_read(result))
    return found


def _not_read(result: ReconciliationResult) -> Figure:
    prisoners, pages = len(result.unread), len(result.unread_pages)
    noun = "prisoner" if prisoners == 1 else "prisoners"
    of_prisoners = f"page{'' if pages == 1 else 's'} of prisoners"
    if pages and not prisoners:
        number, note = pages, of_prisoners
    else:
        number, note = prisoners, f"{noun} and {wording.count(pages, 'page')}" if pages else noun
    return Figure("Not read", number, f"{note} before the run failed" if result.status == "failed" else note)
