"""An adjustment of a key date in DPS, and the events about it."""

from __future__ import annotations

from typing import Any

from tests.harness.handlers import Harness, Prisoner

EVENT = "release-date-adjustments.adjustment"
ADJUSTMENT = "5b0c7b1e-3f6a-4b0c-9a51-0b3c5f2d8e77"


def put_adjustment(harness: Harness, prisoner: Prisoner, adjustment_id: str = ADJUSTMENT, **changes: Any) -> None:
    """Creates an adjustment of a key date in DPS, or changes one."""
    values: dict[str, Any] = {
        "booking_id": prisoner.booking_id,
        "offender_no": prisoner.offender_no,
        "sentence": None,
        "type": "ADA",
        "day": "2023-05-20",
        "start": "2023-05-01",
        "days": 12,
        "comment": "twelve days",
    }
    harness.sandbox.put("adjustment", id=adjustment_id, **{**values, **changes})


def handle(
    harness: Harness, prisoner: Prisoner, word: str, adjustment_id: str = ADJUSTMENT, source: str = "DPS"
) -> Any:
    """Handles one of the three events about an adjustment."""
    return harness.handle(f"{EVENT}.{word}", id=adjustment_id, offenderNo=prisoner.offender_no, source=source)
