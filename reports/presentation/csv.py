"""The differences of a run as CSV: stable columns, and no cell that a spreadsheet would take for a formula."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from reports.presentation.text import Masking, without_control_characters

if TYPE_CHECKING:
    from reports.reconciliations.incentives.result import IncentiveMismatch, IncentiveResult, IncentiveUnconfirmed

#: The columns, in their order. Times are local to London, ISO 8601 to the second, save `since`, which is UTC.
COLUMNS = (
    "run_id",
    "offender_no",
    "booking_id",
    "prison_id",
    "nomis_level",
    "dps_level",
    "standing",
    "since",
    "nomis_date_time",
    "nomis_prison_id",
    "nomis_audit_module",
    "nomis_user_id",
    "nomis_sequence",
    "dps_date_time",
    "dps_prison_id",
    "dps_review_type",
    "dps_user_id",
    "dps_review_id",
    "cause_number",
    "cause",
    "confidence",
    "right_side",
    "explanation",
    "action",
    "commands",
    "request",
    "row",
    "evidence_missing",
)
#: A cell that begins so is a formula to some spreadsheet.
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def render_csv(result: IncentiveResult, masking: Masking | None = None) -> str:
    """One line for each mismatch in the order of the report, under a heading of `COLUMNS`; missing values are empty.

    Differences that were seen and not confirmed come last, without a row number; their standing is `unconfirmed`.
    """
    shown = masking or Masking()
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number, mismatch in result.rows:
        writer.writerow([_safe(cell) for cell in _row(result, number, mismatch, shown)])
    for seen in result.unconfirmed:
        writer.writerow([_safe(cell) for cell in _unconfirmed_row(result, seen, shown)])
    return out.getvalue()


def _row(result: IncentiveResult, number: int, mismatch: IncentiveMismatch, shown: Masking) -> list[object]:
    nomis, dps, found = mismatch.nomis, mismatch.dps, mismatch.diagnosis
    sides: list[object] = []
    for side in (nomis, dps):
        if side is None:
            sides += [None] * 5
        else:
            moment = side.at.isoformat(timespec="seconds") if side.at else None
            sides += [moment, side.prison_id, side.origin, side.user_id, side.record]
    cause: list[object] = [None] * 8
    if found is not None:
        cause = [
            found.number,
            found.cause,
            found.confidence,
            found.right_side,
            shown.text(found.explanation),
            found.action,
            shown.text("; ".join(found.commands)),
            shown.text(found.request or ""),
        ]
    return [
        result.run_id,
        shown.offender(mismatch.offender_no),
        shown.booking(mismatch.booking_id),
        mismatch.prison_id,
        mismatch.nomis_level,
        mismatch.dps_level,
        mismatch.standing,
        mismatch.since.isoformat(timespec="seconds"),
        *sides,
        *cause,
        number,
        shown.text(mismatch.evidence_missing or ""),
    ]


def _unconfirmed_row(result: IncentiveResult, seen: IncentiveUnconfirmed, shown: Masking) -> list[object]:
    values: dict[str, object] = {
        "run_id": result.run_id,
        "offender_no": shown.offender(seen.offender_no),
        "booking_id": shown.booking(seen.booking_id),
        "nomis_level": seen.nomis_level,
        "dps_level": seen.dps_level,
        "standing": "unconfirmed",
        "since": seen.since.isoformat(timespec="seconds"),
        "evidence_missing": shown.text(seen.reason),
    }
    return [values.get(column) for column in COLUMNS]


def _safe(cell: object) -> str:
    text = "" if cell is None else without_control_characters(str(cell))
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) or text.startswith("\n") else text
