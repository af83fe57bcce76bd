"""The request to NOMIS support for the changes that only that team can make, as text to paste and CSV to attach."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from reports.presentation.csv import safe_cell
from reports.presentation.text import day
from sync.domains.repair_declaration import SUPPORT_CHANNEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.engine.result import Mismatch, ReconciliationResult

_ADDRESS = f"To {SUPPORT_CHANNEL}: "


def request_rows(rows: Iterable[tuple[int, Mismatch]]) -> list[dict[str, Any]]:
    """The changes to ask NOMIS support for, sorted by cause: a row for each difference that only that team can fix.

    Columns: `cause`, `row` (the number in the report), `prison_id`, `offender_no`, `booking_id`, `nomis_ids` (a list),
    `change` (a sentence) and `lookup` (SQL that finds the NOMIS records, or None if `nomis_ids` identifies them).
    """
    found = [
        {
            "cause": diagnosis.cause,
            "row": row,
            "prison_id": each.prison_id,
            "offender_no": each.offender_no,
            "booking_id": each.booking_id,
            "nomis_ids": list(diagnosis.nomis_ids),
            "change": _sentence(diagnosis.request),
            "lookup": diagnosis.lookup,
        }
        for row, each in rows
        if (diagnosis := each.diagnosis) is not None and diagnosis.request is not None
    ]
    return sorted(found, key=lambda each: (each["cause"], each["row"]))


def request_text(result: ReconciliationResult, rows: Sequence[dict[str, Any]]) -> str:
    """The request in words: a paragraph for each cause, with a numbered line for each record.

    If the ids of the NOMIS records are not known, the next line has the SQL that finds them.
    """
    number = "1 record" if len(rows) == 1 else f"{len(rows):,} records"
    compared = f"found by comparing {result.title.lower()} with DPS on {day(result.started_at)}"
    lines = [f"{_ADDRESS}{number} to change in NOMIS, {compared} (run {result.run_id})."]
    cause = None
    for place, each in enumerate(rows, start=1):
        if each["cause"] != cause:
            cause = each["cause"]
            lines += ["", f"Cause: {cause}."]
        lines.append(f"{place}. {each['change']}")
        if each["lookup"] is not None:
            lines.append(f"   To find it: {each['lookup']}")
    return "\n".join(lines)


def request_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The request as CSV: a heading, then a line for each record; spaces separate several ids in one cell."""
    out = io.StringIO()
    columns = ("row", "prison_id", "offender_no", "booking_id", "nomis_ids", "change", "lookup", "cause")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    for each in rows:
        values = {**each, "nomis_ids": " ".join(map(str, each["nomis_ids"]))}
        writer.writerow([safe_cell(values[column]) for column in columns])
    return out.getvalue()


def _sentence(request: str) -> str:
    text = request.removeprefix(_ADDRESS)
    return text[:1].upper() + text[1:]
