"""The view of each result: that of its reconciliation, or the general one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.presentation.view import View
from reports.reconciliations.incentives.result import NAME
from reports.reconciliations.incentives.view import IncentiveView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.engine.result import ReconciliationResult

#: The reconciliations that are shown in a way of their own, by name.
VIEWS: Mapping[str, type[View]] = {NAME: IncentiveView}


def view_of(result: ReconciliationResult) -> View:
    """The view of a result."""
    return VIEWS.get(result.reconciliation, View)(result)
