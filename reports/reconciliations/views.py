"""The special views and alert texts of the reconciliations that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.presentation.view import View
from reports.reconciliations.adjustments.view import AdjustmentView
from reports.reconciliations.incentives.events import ALERTS
from reports.reconciliations.incentives.view import IncentiveView
from reports.reconciliations.visits.view import VisitView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.engine.result import ReconciliationResult

#: The reconciliations with a special view, by name; the others have the general one.
VIEWS: Mapping[str, type[View]] = {"adjustments": AdjustmentView, "incentives": IncentiveView, "visits": VisitView}
#: Event → the text of its alert, with `{environment}` for the name of the environment. Other events have general texts.
ALERT_TEXTS: Mapping[str, str] = ALERTS


def view_of(result: ReconciliationResult) -> View:
    """The view of a result: the special view of its reconciliation, or else the general one."""
    return VIEWS.get(result.reconciliation, View)(result)
