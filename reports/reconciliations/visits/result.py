"""What the result of the reconciliation of visits holds beyond the general one, and how its differences are shown."""

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


class VisitView(View):
    """The view of a result of visits."""

    def details(self, record: Record | Unread, masking: Masking = UNMASKED) -> str:
        """Even when the visit starts, and how urgent it is that it differs."""
        parts = [super().details(record, masking)]
        fields = (*getattr(record, "differences", ()), *getattr(record, "other_fields", ()))
        parts += [value_text(each.dps or each.nomis) for each in fields if each.field == "start"]
        if isinstance(record, VisitMismatch):
            parts.append(f"severity {self.severity(record)}")
        return ", ".join(filter(None, parts))

    def severity(self, mismatch: Mismatch) -> Severity:
        """By its weight, which is `high` where visitors may come in vain or are not expected."""
        assert isinstance(mismatch, VisitMismatch)
        return Severity(mismatch.weight)

    def csv_columns(self) -> tuple[str, ...]:
        """Also the weight, and the NOMIS visit."""
        return (*super().csv_columns(), "weight", "nomis_visit_id")

    def csv_row(self, record: Mismatch | Unconfirmed) -> dict[str, Any]:
        """Also the weight, and the NOMIS visit."""
        values = super().csv_row(record)
        if isinstance(record, VisitMismatch):
            values |= {"weight": record.weight, "nomis_visit_id": record.visit_id}
        return values
