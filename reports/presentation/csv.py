"""The differences of a run as CSV: stable columns, and no cell that a spreadsheet would treat as a formula."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import TYPE_CHECKING, Any

from reports.presentation.masking import UNMASKED, Masking
from reports.presentation.text import without_control_characters
from reports.presentation.view import view_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.engine.result import Mismatch, ReconciliationResult, Unconfirmed

#: Some spreadsheets treat a cell that begins with one of these characters as a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def render_csv(result: ReconciliationResult, masking: Masking = UNMASKED) -> str:
    """The CSV of a run: a heading, then a line for each mismatch in the order of the report; missing values are empty.

    Differences that were seen but not confirmed come last, without a row number and with the standing `unconfirmed`.
    """
    return "".join(_csv_lines(result, masking))


def packed_csv(result: ReconciliationResult, masking: Masking) -> str:
    """The lines of the CSV as a JSON list, compressed with gzip, in hexadecimal digits.

    The digits take up about an eighth of the space that the lines would. They form a single word, so the masking of a
    page finds no prisoner number or booking id in them.
    """
    lines = json.dumps(_csv_lines(result, masking), ensure_ascii=False)
    return gzip.compress(lines.encode(), mtime=0).hex()


def _csv_lines(result: ReconciliationResult, masking: Masking) -> list[str]:
    """The lines of the CSV with their line ends; the first one is the heading."""
    view = view_of(result)
    columns = view.csv_columns()
    lines = [_line(columns)]
    for number, mismatch in result.rows:
        values = {"standing": mismatch.standing, "row": number, "evidence_missing": mismatch.evidence_missing}
        row = _common(result, mismatch, masking) | _masked(values | view.csv_row(mismatch), masking)
        lines.append(_line([safe_cell(row.get(column)) for column in columns]))
    for seen in result.unconfirmed:
        values = {"standing": "unconfirmed", "evidence_missing": seen.reason}
        row = _common(result, seen, masking) | _masked(values | view.csv_row(seen), masking)
        lines.append(_line([safe_cell(row.get(column)) for column in columns]))
    return lines


def _line(cells: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()


def _common(result: ReconciliationResult, record: Mismatch | Unconfirmed, masking: Masking) -> dict[str, Any]:
    return {
        "run_id": result.run_id,
        "offender_no": None if record.offender_no is None else masking.offender(record.offender_no),
        "booking_id": masking.booking(record.booking_id),
        "prison_id": record.prison_id,
        "since": record.since.isoformat(timespec="seconds"),
    }


def _masked(values: dict[str, Any], masking: Masking) -> dict[str, Any]:
    """The values with prisoner numbers and booking ids masked, if masking is on."""
    return {name: _masked_value(name, value, masking) for name, value in values.items()}


def _masked_value(name: str, value: Any, masking: Masking) -> Any:
    if isinstance(value, int) and "booking" in name:
        return masking.booking(value)
    return masking.text(value) if isinstance(value, str) else value


def safe_cell(cell: object) -> str:
    """`cell` as text that no spreadsheet treats as a formula; empty for None."""
    text = "" if cell is None else without_control_characters(str(cell))
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) or text.startswith("\n") else text
