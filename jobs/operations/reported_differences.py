"""Where the last runs of the reconciliations list the differences of a prisoner."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from jobs.runtime.application import Application
from reports.delivery.archive import report_path
from reports.delivery.channels import report_deliveries
from reports.engine.runs import last_runs
from reports.reconciliations.registry import RECONCILIATIONS
from reports.reconciliations.results import load_result
from sync.store.outbox import DeliveryState
from sync.store.tables import reconciliation_mismatches


@dataclass(frozen=True, slots=True)
class ReportedDifferences:
    """The differences of a prisoner in the last run for everyone of a reconciliation.

    rows: the numbers of the rows of the report. place: where the report is kept, or None if none was made.
    """

    reconciliation: str
    run_id: str
    rows: tuple[int, ...]
    place: str | None

    def as_dict(self) -> dict[str, Any]:
        """The differences as a JSON object."""
        return {
            "reconciliation": self.reconciliation,
            "runId": self.run_id,
            "rows": list(self.rows),
            "report": self.place,
        }


def reported_differences(application: Application, offender_no: str, *, other_than: str) -> list[ReportedDifferences]:
    """Where the last runs for everyone list a prisoner, except that of the reconciliation `other_than`."""
    names = [name for name in RECONCILIATIONS if name != other_than]
    found = (_of_last_run(application, name, offender_no) for name in names)
    return [each for each in found if each is not None]


def _of_last_run(application: Application, name: str, offender_no: str) -> ReportedDifferences | None:
    columns = reconciliation_mismatches.c
    with application.database.read() as connection:
        last, _ = last_runs(connection, name)
        if last is None:
            return None
        listed = select(columns.key).where(columns.run_id == last.run_id, columns.offender_no == offender_no).limit(1)
        if connection.execute(listed).first() is None:
            return None
        result = load_result(connection, last.run_id)
        assert result is not None
        archived = report_deliveries(connection, result).get("archive")
    rows = tuple(number for number, each in result.rows if each.offender_no == offender_no)
    made = archived is not None and archived.state is DeliveryState.SENT
    return ReportedDifferences(name, last.run_id, rows, report_path(application.settings, result) if made else None)
