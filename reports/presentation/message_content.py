"""What the email and the Slack messages about a run share: the newest differences, and the files to attach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation.csv import render_csv
from reports.presentation.page import render_report
from reports.presentation.text import capital, day
from reports.presentation.view import SIDES, view_of

if TYPE_CHECKING:
    from reports.engine.result import Mismatch, ReconciliationResult, Record
    from reports.presentation.masking import Masking
    from reports.presentation.view import View

#: The most differences in a message, new ones first; the files that are sent with the message have all differences.
MOST_LISTED = 20
MASKED = (
    "Prisoner numbers and booking ids are masked here. The report in the archive shows them in full, in the same rows."
)
#: Makes Excel read a CSV as UTF-8 instead of in the computer's code page.
_BYTE_ORDER_MARK = "\ufeff"
#: The most characters of a file that is sent; mail servers accept at least 10 MB, and encoding adds a third.
LONGEST_FILE = 6_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """A difference in an email or a Slack message. If masking is on, its texts are masked.

    row: its number in the report. name: what identifies the record. details: the prisoner, the booking and the day.
    prison: the code of the prison, or `prison unknown`. kind: how the record differs, or empty if the values show this.
    nomis, dps: the values on each side. since: `new`, or `since` and the day on which the difference was first seen.
    cause: why the record differs, which side is right, and what to do; or why the cause is not known. request: the
    text for NOMIS support, or empty if there is none. commands: the commands to run, in order.
    """

    row: int
    name: str
    details: str
    prison: str
    kind: str
    nomis: str
    dps: str
    since: str
    cause: str
    request: str
    commands: tuple[str, ...]


def newest_lines(result: ReconciliationResult, masking: Masking) -> list[Line]:
    """The first `MOST_LISTED` differences in the report, new ones first."""
    view = view_of(result)
    return [_line(view, number, each, masking) for number, each in result.rows[:MOST_LISTED]]


def unconfirmed_lines(result: ReconciliationResult, masking: Masking) -> list[str]:
    """The first `MOST_LISTED` unconfirmed differences as lines of text, each saying why it is not confirmed."""
    view = view_of(result)
    return [
        f"{' '.join(filter(None, (view.name(each, masking), view.details(each, masking))))}"
        f" · {_difference(view, each, masking)} · {masking.text(each.reason)}"
        for each in result.unconfirmed[:MOST_LISTED]
    ]


def left_out(result: ReconciliationResult) -> int:
    """How many differences, confirmed or not, the lines leave out."""
    return max(len(result.mismatches) - MOST_LISTED, 0) + max(len(result.unconfirmed) - MOST_LISTED, 0)


def _line(view: View, number: int, mismatch: Mismatch, masking: Masking) -> Line:
    found = mismatch.diagnosis
    nomis, dps = (masking.text(view.side_text(mismatch, side)) for side in SIDES)
    if found is None:
        cause = view.missing_cause(mismatch)
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
        since="new" if mismatch.standing == "new" else f"since {day(mismatch.since)}",
        cause=capital(masking.text(cause)),
        request=masking.text((found.request if found else None) or ""),
        commands=tuple(map(masking.text, found.commands if found else ())),
    )


def _difference(view: View, record: Record, masking: Masking) -> str:
    """How the sides differ, as part of a line."""
    kind = f"{view.kind(record)}: " if view.shows_kind else ""
    nomis, dps = (masking.text(view.side_text(record, side)) for side in SIDES)
    return f"{kind}NOMIS {nomis}, DPS {dps}"


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A file to attach. name: unique to the run. kind: `html` or `csv`. content: its text."""

    name: str
    kind: str
    content: str


def report_files(result: ReconciliationResult, masking: Masking, *, page: bool) -> tuple[ReportFile, ...]:
    """The files to send with a message: the page if `page` is set, then the CSV. Files that are too long are left out.

    The page has no links to files in the archive. There is no CSV if there are no differences.
    """
    name, files = view_of(result).csv_name, []
    if page:
        of_page = f"{name.removesuffix('.csv').replace('mismatches', 'report')}.html"
        files.append(ReportFile(of_page, "html", render_report(result, masking, attached=True)))
    if result.mismatches or result.unconfirmed:
        files.append(ReportFile(name, "csv", _BYTE_ORDER_MARK + render_csv(result, masking)))
    return tuple(each for each in files if len(each.content) <= LONGEST_FILE)
