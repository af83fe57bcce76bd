"""The additions to the general result for the reconciliation of visits, and the view of its differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from reports.engine.result import Mismatch, ReconciliationResult
from reports.presentation.masking import UNMASKED, Masking
from reports.presentation.view import View
from reports.presentation.view_parts import value_text
from sync.alerting import Severity

if TYPE_CHECKING:
    from reports.engine.result import Record, Unconfirmed, Unread

NAME = "visits"
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


class VisitView(View):
    """The view of the result of a reconciliation of visits."""

    def details(self, record: Record | Unread, masking: Masking = UNMASKED) -> str:
        """The general details, the start of the visit, and the severity of its difference."""
        parts = [super().details(record, masking)]
        fields = (*getattr(record, "differences", ()), *getattr(record, "other_fields", ()))
        parts += [value_text(each.dps or each.nomis) for each in fields if each.field == "start"]
        if isinstance(record, VisitMismatch):
            parts.append(f"severity {self.severity(record)}")
        return ", ".join(filter(None, parts))

    def severity(self, mismatch: Mismatch) -> Severity:
        """The severity for the weight, which is `high` if visitors may come in vain or are not expected."""
        assert isinstance(mismatch, VisitMismatch)
        return Severity(mismatch.weight)

    def csv_columns(self) -> tuple[str, ...]:
        """The general columns, the weight and the NOMIS visit."""
        return (*super().csv_columns(), "weight", "nomis_visit_id")

    def csv_row(self, record: Mismatch | Unconfirmed) -> dict[str, Any]:
        """The general values, the weight and the NOMIS visit."""
        values = super().csv_row(record)
        if isinstance(record, VisitMismatch):
            values |= {"weight": record.weight, "nomis_visit_id": record.visit_id}
        return values
