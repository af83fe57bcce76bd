"""Adds to the existing results and mismatches of incentives the fields that all reconciliations have.

Versions that had only the reconciliation of incentives did not write these fields. The values of the fields are derived
from the levels.

Revision ID: 0005
Revises: 0004
"""

import json
import zlib
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_RUNS = sa.table(
    "reconciliation_runs",
    sa.column("id", sa.String()),
    sa.column("reconciliation", sa.String()),
    sa.column("result", sa.LargeBinary()),
)
_MISMATCHES = sa.table(
    "reconciliation_mismatches",
    sa.column("run_id", sa.String()),
    sa.column("key", sa.String()),
    sa.column("kind", sa.String()),
    sa.column("differences", sa.JSON(none_as_null=True)),
    sa.column("nomis_level", sa.String()),
    sa.column("dps_level", sa.String()),
)
_OF_EVERY_RESULT = {
    "reconciliation": "incentives",
    "title": "Incentive levels",
    "counted": "prisoners",
    "suspicious": None,
}
_RECORDS = ("mismatches", "inFlight", "excluded", "resolved", "unread")


def upgrade() -> None:
    """Adds the missing fields to the results and the mismatches."""
    connection = op.get_bind()
    query = sa.select(_RUNS.c.id).where(_RUNS.c.reconciliation == "incentives", _RUNS.c.result.is_not(None))
    for run_id in connection.execute(query).scalars().all():
        of_run = _RUNS.c.id == run_id
        content = json.loads(zlib.decompress(connection.execute(sa.select(_RUNS.c.result).where(of_run)).scalar_one()))
        if "reconciliation" not in content:
            packed = zlib.compress(json.dumps(_completed(content)).encode(), 6)
            connection.execute(sa.update(_RUNS).where(of_run).values(result=packed))
    for row in connection.execute(sa.select(_MISMATCHES).where(_MISMATCHES.c.kind.is_(None))).all():
        nomis, dps = row.nomis_level, row.dps_level
        kind = "DPS_only" if nomis is None else "NOMIS_only" if dps is None else "different"
        values = {"kind": kind, "differences": [{"field": "level", "nomis": nomis, "dps": dps}]}
        of_row = (_MISMATCHES.c.run_id == row.run_id) & (_MISMATCHES.c.key == row.key)
        connection.execute(sa.update(_MISMATCHES).where(of_row).values(values))


def downgrade() -> None:
    """Changes nothing, since earlier versions ignore the additional fields."""


def _completed(content: dict[str, Any]) -> dict[str, Any]:
    pages = content.get("unreadPages", [])
    gaps = [{"what": f"page {each['page']} of the prisoners", "reason": each["reason"]} for each in pages]
    records = {name: [_with_key(each) for each in content.get(name, ())] for name in _RECORDS}
    return {**_OF_EVERY_RESULT, "gaps": gaps, **content, **records}


def _with_key(record: dict[str, Any]) -> dict[str, Any]:
    """A record with its booking as its key. A record without a booking stays as it is."""
    booking_id = record.get("bookingId")
    return record if booking_id is None else {"key": {"bookingId": booking_id}, **record}
