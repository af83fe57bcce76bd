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
#: Characters of the longest file that is sent: mail servers take 10 MB at least, and encoding adds a third.
LONGEST_FILE = 6_000_000


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A file to attach. name: no other run has a file of this name. kind: `html` or `csv`."""

    name: str
    kind: str
    content: str


def report_files(result: ReconciliationResult, masking: Masking, *, page: bool) -> tuple[ReportFile, ...]:
    """The files that go with a message, but for those that are too long: the page where `page` is set, then the CSV.

    The page stands alone: it has no links to what is kept with it in the archive. Without a difference there is no CSV.
    """
    name, files = view_of(result).csv_name, []
    if page:
        of_page = f"{name.removesuffix('.csv').replace('mismatches', 'report')}.html"
        files.append(ReportFile(of_page, "html", render_report(result, masking, attached=True)))
    if result.mismatches or result.unconfirmed:
        files.append(ReportFile(name, "csv", BYTE_ORDER_MARK + render_csv(result, masking)))
    return tuple(each for each in files if len(each.content) <= LONGEST_FILE)
