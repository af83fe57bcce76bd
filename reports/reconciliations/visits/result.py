"""What the reconciliation of visits adds to the general result."""

from __future__ import annotations

from typing import Literal

from reports.engine.result import Mismatch, ReconciliationResult

Weight = Literal["high", "medium", "low"]


class VisitMismatch(Mismatch):
    """A visit that differs.

    weight: how urgent the difference is. reference: the reference of the DPS visit. visit_id: the id of the NOMIS
    visit, even if that visit is gone, or None if none is known.
    """

    weight: Weight = "medium"
    reference: str = ""
    visit_id: int | None = None


class VisitResult(ReconciliationResult):
    """The result of a run, with the number of visits on each side.

    on_screen: how many NOMIS visits have no DPS visit because they were made on the NOMIS screen; these are not
    differences. pages: the number of pages on which DPS lists its visits.
    """

    mismatches: tuple[VisitMismatch, ...] = ()
    dps_visits: int = 0
    nomis_visits: int = 0
    on_screen: int = 0
    pages: int = 0
