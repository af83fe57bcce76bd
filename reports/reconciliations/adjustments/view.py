"""How reports show sentencing adjustments: every difference is serious."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.presentation.view import View
from sync.alerting import Severity

if TYPE_CHECKING:
    from reports.engine.result import Mismatch


class AdjustmentView(View):
    """The view of a result for sentencing adjustments."""

    def severity(self, mismatch: Mismatch) -> Severity:
        """Serious, because release dates depend on adjustments."""
        return Severity.SERIOUS
