"""The additions to the general result for the reconciliation of visits."""

from __future__ import annotations

from typing import Literal

from reports.engine.result import Mismatch, ReconciliationResult

Weight = Literal["high", "medium", "low"]


class VisitMismatch(Mismatch):
    """A visit that differs.

    weight: how urgent the difference is. reference: the reference of the DPS visit. visit_id: the id of the NOMIS
    visit, even if it is gone.
    """

    weight: Weight = "medium"
    reference: str = ""
    visit_id: int | None = None


class VisitResult(ReconciliationResult):
    """The result, with how many visits each side has.

    on_screen: how many NOMIS visits have no DPS visit because they were made on the NOMIS screen, which is not a
    difference. pages: on how many pages DPS lists its visits.
    """

    mismatches: tuple[VisitMismatch, ...] = ()
    dps_visits: int = 0
    nomis_visits: int = 0
    on_screen: int = 0
    pages: int = 0
