"""An appointment in DPS, and the events about it."""

from __future__ import annotations

from typing import Any

from sync.events.context import Outcome
from tests.harness.handlers import Harness, Prisoner

EVENT = "appointments.appointment-instance"
INSTANCE = 90_217


def put_appointment(harness: Harness, prisoner: Prisoner, instance_id: int = INSTANCE, **changes: Any) -> None:
    """Makes an appointment in DPS, or changes one."""
    values: dict[str, Any] = {
        "booking_id": prisoner.booking_id,
        "prisoner_number": prisoner.offender_no,
        "prison_id": prisoner.prison_id,
        "category": "CHAP",
        "location_id": prisoner.rooms[0],
        "in_cell": False,
        "day": "2023-06-05",
        "start": "09:05",
        "end": "10:00",
    }
    harness.sandbox.put("appointment", id=instance_id, **{**values, **changes})


def handle(harness: Harness, word: str, instance_id: int = INSTANCE) -> Outcome | str:
    """Handles one of the four events of an appointment."""
    return harness.handle(f"{EVENT}.{word}", appointmentInstanceId=instance_id)
