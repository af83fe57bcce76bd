"""Deliveries that wait in the outbox."""

from __future__ import annotations

from sync.alerting import SHOW_DUPLICATE, Severity
from sync.store.findings import FindingKind, record_finding
from tests.harness.reconciliations import ReportsApp


def alert(app: ReportsApp, key: str = "1", event: str = "to-nomis-synch-visit-duplicate") -> None:
    """Records a finding about a duplicate visit, and puts the alert about it into the outbox."""
    properties = {"duplicateNomisId": key, "offenderNo": "A1234BC", "note": "<b>&"}
    with app.database.begin() as connection:
        record_finding(
            connection, key, FindingKind.DUPLICATE, "visit", Severity.SERIOUS, event, properties, SHOW_DUPLICATE
        )
