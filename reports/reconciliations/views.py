"""The special views and alert texts of the reconciliations that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.presentation.view import View
from reports.reconciliations.incentives.events import ALERTS
from reports.reconciliations.incentives.result import NAME as INCENTIVES
from reports.reconciliations.incentives.view import IncentiveView
from reports.reconciliations.visits.result import NAME as VISITS
from reports.reconciliations.visits.result import VisitView
from sync.alerting import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.engine.result import Mismatch, ReconciliationResult


class AdjustmentView(View):
    """The view of the result of a reconciliation of sentencing adjustments."""

    def severity(self, mismatch: Mismatch) -> Severity:
        """Serious, as release dates depend on adjustments."""
        return Severity.SERIOUS


#: The reconciliations with a special view, by name.
VIEWS: Mapping[str, type[View]] = {INCENTIVES: IncentiveView, VISITS: VisitView, "adjustments": AdjustmentView}
#: Event → the text of its alert, with `{environment}` for the name of the environment. Other events have general texts.
ALERT_TEXTS: Mapping[str, str] = ALERTS


def view_of(result: ReconciliationResult) -> View:
    """The view of a result: the special view of its reconciliation, or else the general one."""
    return VIEWS.get(result.reconciliation, View)(result)
