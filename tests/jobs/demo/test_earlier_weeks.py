"""The runs that the demo records for the weeks before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.demo import earlier_weeks
from jobs.demo.earlier_runs import WEEKS
from jobs.demo.earlier_weeks import record_earlier_weeks
from reports.reconciliations.registry import RECONCILIATIONS
from tests.harness.app import App, open_application


def test_a_reconciliation_without_sample_data_has_earlier_runs_too(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a reconciliation without sample differences, the demo records complete runs without differences.

    There is one run for each of the eight weeks before the demo.
    """
    added = {"added": replace(RECONCILIATIONS["visits"], name="added")}
    monkeypatch.setattr(earlier_weeks, "RECONCILIATIONS", added)
    prisoners = [{"offenderNo": f"A{number:04}AA", "bookingId": number, "prisonId": "MDI"} for number in range(20)]
    planted: dict[str, Any] = dict.fromkeys(("mismatches", "excludedBookings", "bulkDiffers", "unmapped"), ())
    with open_application(app.settings, app.settings["DATABASE_URL"]) as opened:
        recorded = record_earlier_weeks(opened, prisoners, {**planted, "reconciliations": {"added": []}})
    results = recorded["added"].results
    assert [(each.status, each.compared, len(each.mismatches)) for each in results] == [("complete", 20, 0)] * WEEKS
