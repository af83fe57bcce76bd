"""How reports show visits: with the start of each visit, and the severity of each mismatch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.presentation.masking import UNMASKED, Masking
from reports.presentation.view import View
from reports.presentation.view_parts import value_text
from reports.reconciliations.visits.result import VisitMismatch
from sync.alerting import Severity

if TYPE_CHECKING:
    from reports.engine.result import Mismatch, Record, Unconfirmed, Unread


class VisitView(View):
    """The view of a result for visits."""

    def details(self, record: Record | Unread, masking: Masking = UNMASKED) -> str:
        """The general details, the start of the visit and, for a mismatch, the severity."""
        parts = [super().details(record, masking)]
        fields = (*getattr(record, "differences", ()), *getattr(record, "other_fields", ()))
        parts += [value_text(each.dps or each.nomis) for each in fields if each.field == "start"]
        if isinstance(record, VisitMismatch):
            parts.append(f"severity {self.severity(record)}")
        return ", ".join(filter(None, parts))

    def severity(self, mismatch: Mismatch) -> Severity:
        """The severity for the weight: `high` becomes `serious`, `medium` stays `medium`, and `low` becomes `info`.

        The weight `low` means that there is nothing to do.
        """
        assert isinstance(mismatch, VisitMismatch)
        return Severity.INFO if mismatch.weight == "low" else Severity(mismatch.weight)

    def csv_columns(self) -> tuple[str, ...]:
        """The general columns, then `weight` and `nomis_visit_id`."""
        return (*super().csv_columns(), "weight", "nomis_visit_id")

    def csv_row(self, record: Mismatch | Unconfirmed) -> dict[str, Any]:
        """The general values and, for a mismatch, those of `weight` and `nomis_visit_id`."""
        values = super().csv_row(record)
        if isinstance(record, VisitMismatch):
            values |= {"weight": record.weight, "nomis_visit_id": record.visit_id}
        return values
