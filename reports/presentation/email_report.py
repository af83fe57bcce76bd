"""The email about a run: what to do, the figures and the newest differences; all differences are attached as files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation import summary
from reports.presentation.chart import sparkline
from reports.presentation.message_content import MASKED, left_out, newest_lines, report_files, unconfirmed_lines
from reports.presentation.templates import environment
from reports.presentation.text import count, day, thousands
from reports.presentation.view import view_of
from reports.presentation.what_to_do import what_to_do
from sync.alerting import Severity

if TYPE_CHECKING:
    from reports.engine.result import PrisonCount, ReconciliationResult
    from reports.presentation.masking import Masking
    from reports.presentation.message_content import ReportFile

#: The most rows in the tables of causes and of prisons; the page has every row.
_MOST_ROWS = 20
#: The height of the tallest bar of the trend, in pixels.
_TALLEST = 32


@dataclass(frozen=True, slots=True)
class EmailReport:
    """The email about a run: its subject, its content both as plain text and as HTML, and the files to attach."""

    subject: str
    text: str
    html: str
    files: tuple[ReportFile, ...]


@dataclass(frozen=True, slots=True)
class _Trend:
    """The trend in three forms.

    heights: the heights, in pixels, of table cells, which every mail client draws. letters: the trend as blocks. words:
    the trend in words.
    """

    heights: tuple[int, ...]
    letters: str
    words: str


def email_report(result: ReconciliationResult, link: str | None, path: str, masking: Masking) -> EmailReport:
    """The email about a run, with HTML and plain text that say the same thing.

    link: the address of the report, or None if the page itself is attached. path: where the report is kept, as shown
    to people.
    """
    files = report_files(result, masking, page=link is None)
    todo, view, affected = what_to_do(result), view_of(result), _affected(result)
    warning = summary.warning(result)
    values = {
        "result": result,
        "todo": todo,
        "actions": [(each, [masking.text(one) for one in each.commands]) for each in todo.actions],
        "mask": masking.text,
        "warning": masking.text(warning) if warning else None,
        "steps": summary.next_steps(result),
        "summary": summary.summary(result),
        "causes": view.causes()[:_MOST_ROWS],
        "prisons": affected[:_MOST_ROWS],
        "other_prisons": max(len(affected) - _MOST_ROWS, 0),
        "trend": _trend(result),
        "masked": MASKED if masking.on and (result.mismatches or result.unconfirmed) else None,
        "link": link,
        "path": path,
        "attached": {"html": None, "csv": None} | {each.kind: each.name for each in files},
        "lines": newest_lines(result, masking),
        "unconfirmed": unconfirmed_lines(result, masking),
        "left_out": left_out(result),
    }
    templates = environment()
    return EmailReport(
        subject=f"{result.title}, {result.environment}: {_subject(result, todo.severity)}",
        text=templates.get_template("email.txt.j2").render(values),
        html=templates.get_template("email.html.j2").render(values),
        files=files,
    )


def _subject(result: ReconciliationResult, severity: Severity) -> str:
    """The end of the subject: the numbers of differences and of new differences, and the severity.

    The status comes first unless the run is complete. For a failed run, there are only the status and the severity.
    """
    if result.status == "failed":
        return f"failed ({severity})"
    parts = ["incomplete"] if result.status == "incomplete" else []
    if result.mismatches:
        parts += [count(len(result.mismatches), "difference"), f"{thousands(result.new)} new"]
    elif not result.compared:
        parts.append("nothing was compared")
    elif result.status == "complete":
        parts.append("no difference")
    return f"{', '.join(parts)} ({severity})"


def _affected(result: ReconciliationResult) -> list[PrisonCount]:
    """The prisons with differences, starting with those that have the most."""
    found = [each for each in result.prisons if each.mismatches]
    return sorted(found, key=lambda each: (-each.mismatches, each.prison_id or "~"))


def _trend(result: ReconciliationResult) -> _Trend | None:
    """The trend, or None if there are fewer than two runs."""
    points = result.trend
    if len(points) < 2:
        return None
    found = [each.mismatches for each in points]
    lowest, highest = min(found), max(found)
    heights = tuple(max(round(_TALLEST * each / max(highest, 1)), 1) for each in found)
    first, last = points[0], points[-1]
    words = (
        f"{thousands(first.mismatches)} on {day(first.started_at)}, {thousands(last.mismatches)} on "
        f"{day(last.started_at)}; between {thousands(lowest)} and {thousands(highest)} in {len(points)} runs"
    )
    return _Trend(heights, sparkline(found), words)
