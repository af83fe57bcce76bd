"""How the differences of adjustments are shown: as those of others, but more serious."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.presentation.view import View
from sync.alerting import Severity

if TYPE_CHECKING:
    from reports.engine.result import Mismatch


class AdjustmentView(View):
    """The view of a result of sentencing adjustments."""

    def severity(self, mismatch: Mismatch) -> Severity:
        """Serious: release dates are worked out from adjustments."""
        return Severity.SERIOUS
