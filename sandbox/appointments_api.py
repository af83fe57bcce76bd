"""The appointments of the activities API, one row for each prisoner of each occurrence; a deleted one is not there."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import date, time
from typing import TYPE_CHECKING

from sandbox.serving import Refused, Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.world import World


@dataclass(slots=True)
class AppointmentInstance:
    """One appointment of one prisoner; times are local. In a cell there is no room."""

    id: int
    booking_id: int
    prisoner_number: str
    prison_id: str
    category: str
    location_id: int | None
    in_cell: bool
    day: date
    start: time
    end: time | None
    comment: str | None = None
    cancelled: bool = False


class AppointmentsState:
    """The appointment instances by id."""

    def __init__(self) -> None:
        """Start without appointments."""
        self.instances: dict[int, AppointmentInstance] = {}
        self.ids = itertools.count(90_217)


def routes(world: World) -> list[Route]:
    """The read that is used here."""

    def get(request: Request, number: str) -> Reply:
        found = world.appointments.instances.get(int(number)) if number.isdigit() else None
        if found is None:
            raise Refused(404, f"Not found: Appointment Instance {number} not found")
        return Reply(body=_view(found))

    return [Route("GET", "/appointment-instances/{number}", get)]


def _view(found: AppointmentInstance) -> dict[str, object]:
    return {
        "id": found.id,
        "appointmentId": found.id // 2 + 1,
        "appointmentOccurrenceId": found.id // 2 + 1,
        "appointmentOccurrenceAllocationId": found.id,
        "appointmentType": "INDIVIDUAL",
        "prisonCode": found.prison_id,
        "prisonerNumber": found.prisoner_number,
        "bookingId": found.booking_id,
        "categoryCode": found.category,
        "internalLocationId": found.location_id,
        "inCell": found.in_cell,
        "appointmentDate": found.day.isoformat(),
        "startTime": found.start.strftime("%H:%M"),
        "endTime": None if found.end is None else found.end.strftime("%H:%M"),
        "comment": found.comment,
        "created": f"{found.day.isoformat()}T08:00:00",
        "createdBy": "SANDBOX",
    }
