"""The files of a run as people get them: the page and the CSV, masked where numbers are, and ready for Excel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation.csv import render_csv
from reports.presentation.html import render_report
from reports.reconciliations.views import view_of

if TYPE_CHECKING:
    from reports.engine.result import ReconciliationResult
    from reports.presentation.text import Masking

#: By it Excel knows that a CSV is UTF-8, and not in the code page of the computer.
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A file to attach. name: no other run has a file of this name. kind: `html` or `csv`."""

    name: str
    kind: str
    content: str


def attached_page(result: ReconciliationResult, masking: Masking) -> ReportFile:
    """The page of a run, which stands alone: it has no links to the files that are kept with it in the archive."""
    name = view_of(result).csv_name.removesuffix(".csv").replace("mismatches", "report")
    return ReportFile(f"{name}.html", "html", render_report(result, masking, attached=True))


def attached_csv(result: ReconciliationResult, masking: Masking) -> ReportFile | None:
    """The CSV of a run, with a byte order mark; None where there is no difference."""
    if not (result.mismatches or result.unconfirmed):
        return None
    return ReportFile(view_of(result).csv_name, "csv", BYTE_ORDER_MARK + render_csv(result, masking))
