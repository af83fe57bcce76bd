"""An appointment in DPS, and the events about it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sandbox import Sandbox
from sandbox.clock import london_today
from sync.events.context import Outcome
from tests.harness.handlers import Harness, Prisoner

EVENT = "appointments.appointment-instance"
INSTANCE = 90_217
#: The place and time of the appointments that `put_in_dps` and `put_in_nomis` make.
PRISON = "MDI"
DAY = london_today() + timedelta(days=5)


def put_appointment(harness: Harness, prisoner: Prisoner, instance_id: int = INSTANCE, **changes: Any) -> None:
    """Creates an appointment in DPS, or changes one."""
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
    """Handles one of the four events about an appointment."""
    return harness.handle(f"{EVENT}.{word}", appointmentInstanceId=instance_id)


def room_of(upstream: Sandbox, prison_id: str = PRISON) -> int:
    """The id of a room in a prison."""
    return int(upstream.control("GET", f"/locations/{prison_id}")[0]["id"])


def put_in_dps(
    upstream: Sandbox, prisoner: dict[str, Any], number: int, start: str, end: str | None, **more: Any
) -> None:
    """Creates, in DPS, an appointment that is old enough to be compared."""
    values = {
        "booking_id": prisoner["bookingId"],
        "prisoner_number": prisoner["offenderNo"],
        "prison_id": PRISON,
        "category": "CHAP",
        "location_id": room_of(upstream),
        "in_cell": False,
        "day": DAY.isoformat(),
        "start": start,
        "end": end,
        "created": "2023-05-01T10:00:00",
    }
    upstream.put("appointment", id=number, **(values | more))


def put_in_nomis(
    upstream: Sandbox,
    prisoner: dict[str, Any],
    number: int,
    start: str,
    end: str | None,
    mapped_to: int | None = None,
    **more: Any,
) -> None:
    """Creates, in NOMIS, an appointment that is old enough to be compared.

    If `mapped_to` is given, the appointment is mapped to the DPS appointment with that id.
    """
    values = {
        "event_id": number,
        "booking_id": prisoner["bookingId"],
        "prison_id": PRISON,
        "location_id": room_of(upstream),
        "day": DAY.isoformat(),
        "start": start,
        "end": end,
        "subtype": "CHAP",
        "created": "2023-05-01T10:00:30",
        "dpsId": mapped_to,
    }
    upstream.control("POST", "/nomis/appointments", values | more)


def make_worked_example(upstream: Sandbox, prisoner: dict[str, Any]) -> None:
    """Creates the worked example, with four appointments on each side.

    Of the three mapped pairs, one agrees, one has no end time in NOMIS, and one has different start times. One
    appointment in NOMIS is an unmapped duplicate, and one in DPS is missing from NOMIS.
    """
    for number, start, end in (
        (71, "09:00", "10:00"),
        (72, "09:30", "10:30"),
        (73, "14:15", "15:00"),
        (75, "16:00", None),
    ):
        put_in_dps(upstream, prisoner, number, start, end)
    put_in_nomis(upstream, prisoner, 9001, "09:00", "10:00", 71)
    put_in_nomis(upstream, prisoner, 9002, "09:30", None, 72)
    put_in_nomis(upstream, prisoner, 9003, "14:00", "15:00", 73)
    put_in_nomis(upstream, prisoner, 9004, "09:30", None)
