"""What the result of the reconciliation of visits holds beyond the general one: weights, and counts of both sides."""

from __future__ import annotations

from typing import Literal

from reports.engine.result import Mismatch, ReconciliationResult

NAME = "visits"
Weight = Literal["high", "medium", "low"]


class VisitMismatch(Mismatch):
    """A visit that differs.

    weight: how urgent that is. reference: of the visit in DPS. visit_id: of the NOMIS visit, also of one that is gone.
    """

    weight: Weight = "medium"
    reference: str = ""
    visit_id: int | None = None


class VisitResult(ReconciliationResult):
    """The result, with the visits that each side has.

    on_screen: NOMIS visits that no DPS visit belongs to, as they were made on the NOMIS screen: no difference.
    pages: the pages on which DPS lists its visits.
    """

    mismatches: tuple[VisitMismatch, ...] = ()
    dps_visits: int = 0
    nomis_visits: int = 0
    on_screen: int = 0
    pages: int = 0
