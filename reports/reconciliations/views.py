"""The view of each result: that of its reconciliation, or the general one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.presentation.view import View
from reports.reconciliations.incentives.result import NAME as INCENTIVES
from reports.reconciliations.incentives.view import IncentiveView
from reports.reconciliations.visits.result import NAME as VISITS
from reports.reconciliations.visits.view import VisitView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.engine.result import ReconciliationResult

#: The reconciliations that are shown in a way of their own, by name.
VIEWS: Mapping[str, type[View]] = {INCENTIVES: IncentiveView, VISITS: VisitView}


def view_of(result: ReconciliationResult) -> View:
    """The view of a result."""
    return VIEWS.get(result.reconciliation, View)(result)
