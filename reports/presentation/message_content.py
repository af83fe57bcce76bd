"""What the email and the Slack messages of a run share: its newest differences as lines of text, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation.csv import render_csv
from reports.presentation.page import render_report
from reports.presentation.text import capital, day
from reports.presentation.view import NOT_INVESTIGATED, SIDES
from reports.reconciliations.views import view_of

if TYPE_CHECKING:
    from reports.engine.result import Mismatch, ReconciliationResult, Record
    from reports.presentation.masking import Masking
    from reports.presentation.view import View

#: The differences that a message has, new ones first; the files that come with it have all of them.
MOST_LISTED = 20
MASKED = "Prisoner numbers and bookings are masked here. The report in the archive has them whole, in the same rows."
#: By it Excel knows that a CSV is UTF-8, and not in the code page of the computer.
BYTE_ORDER_MARK = "\ufeff"
#: Characters of the longest file that is sent: mail servers take 10 MB at least, and encoding adds a third.
LONGEST_FILE = 6_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """A difference.

    row: its number in the report. name: whose it is. kind: how it differs; empty where the values say it. nomis, dps:
    the values. standing: `new`, or since when. cause: why, which side is right, and what to do. request: the text for
    NOMIS support. commands: what to type, in this order.
    """

    row: int
    name: str
    details: str
    prison: str
    kind: str
    nomis: str
    dps: str
    standing: str
    cause: str
    request: str
    commands: tuple[str, ...]


def newest_lines(result: ReconciliationResult, masking: Masking) -> list[Line]:
    """The first differences of the report."""
    view = view_of(result)
    return [_line(view, number, each, masking) for number, each in result.rows[:MOST_LISTED]]


def unconfirmed_lines(result: ReconciliationResult, masking: Masking) -> list[str]:
    """The first differences that were seen and could not be read again, a line for each."""
    view = view_of(result)
    return [
        f"{' '.join(filter(None, (view.name(each, masking), view.details(each, masking))))}"
        f" · {_difference(view, each, masking)} · {masking.text(each.reason)}"
        for each in result.unconfirmed[:MOST_LISTED]
    ]


def left_out(result: ReconciliationResult) -> int:
    """How many differences the lines leave out, confirmed or not."""
    return max(len(result.mismatches) - MOST_LISTED, 0) + max(len(result.unconfirmed) - MOST_LISTED, 0)


def _line(view: View, number: int, mismatch: Mismatch, masking: Masking) -> Line:
    found = mismatch.diagnosis
    nomis, dps = (masking.text(view.side_text(mismatch, side)) for side in SIDES)
    if found is None:
        cause = mismatch.evidence_missing or NOT_INVESTIGATED
    else:
        right = "" if found.right_side == "unknown" else f" ({found.right_side} is right)"
        cause = f"{view.cause(found)}{right}. {found.action}"
    return Line(
        row=number,
        name=view.name(mismatch, masking),
        details=view.details(mismatch, masking),
        prison=mismatch.prison_id or "prison unknown",
        kind=view.kind(mismatch) if view.shows_kind else "",
        nomis=nomis,
        dps=dps,
        standing="new" if mismatch.standing == "new" else f"since {day(mismatch.since)}",
        cause=capital(masking.text(cause)),
        request=masking.text((found.request if found else None) or ""),
        commands=tuple(map(masking.text, found.commands if found else ())),
    )


def _difference(view: View, record: Record, masking: Masking) -> str:
    """How both sides differ, on a line."""
    kind = f"{view.kind(record)}: " if view.shows_kind else ""
    nomis, dps = (masking.text(view.side_text(record, side)) for side in SIDES)
    return f"{kind}NOMIS {nomis}, DPS {dps}"


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
