"""Appointments in NOMIS. They have no unique key, and a request to write an appointment without a room fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_now
from sandbox.http.paging import page
from sandbox.http.serving import Refused, Reply, Request, Route
from sandbox.nomis.allocations import NOT_UNIQUE
from sandbox.nomis.bodies import (
    APPOINTMENT_SUBTYPES,
    Fields,
    bad_request,
    not_found,
    path_number,
    read_date,
    read_moment,
    unexpected,
)
from sandbox.nomis.courses import check_location
from sandbox.nomis.visits import USER

if TYPE_CHECKING:
    from sandbox.world import World

ROLE: Final = "NOMIS_APPOINTMENTS"
#: The month from which NOMIS names the event in its views and requires a prison for its list of ids, and the month
#: from which it finds all appointments of a booking at a place and time, instead of allowing only one.
NAMES_EVENTS: Final = "2025-09"
FINDS_SEVERAL: Final = "2026-01"


@dataclass(slots=True)
class NomisAppointment:
    """One appointment as NOMIS holds it; times are local. An appointment made on NOMIS screens may have no end.

    `location_id` is a room or, for an appointment in a cell, the prisoner's living unit at the time.
    """

    event_id: int
    booking_id: int
    prison_id: str
    location_id: int | None
    day: date
    start: time
    end: time | None
    subtype: str
    created: datetime
    status: str = "SCH"
    modified: datetime | None = None
    created_by: str = USER
    comment: str | None = None


class NomisAppointments:
    """All appointments in NOMIS; `event_ids` is the sequence of ids that they share with attendances."""

    def __init__(self, event_ids: Iterator[int]) -> None:
        """Starts without appointments."""
        self.appointments: dict[int, NomisAppointment] = {}
        self.event_ids = event_ids


def plant_duplicate(world: World, event_id: int) -> int:
    """Adds a copy of an appointment, as another installation would have made it; returns the id of the copy."""
    held = world.nomis_appointments
    second = replace(held.appointments[event_id], event_id=next(held.event_ids))
    held.appointments[second.event_id] = second
    return second.event_id


def routes(world: World) -> list[Route]:
    """Returns the NOMIS endpoints that read and write appointments."""

    def create(request: Request) -> Reply:
        return Reply(201, {"eventId": create_appointment(world, Fields.of(request)).event_id})

    def update(request: Request, event_id: str) -> Reply:
        update_appointment(world, path_number(event_id, "eventId"), Fields.of(request))
        return Reply()

    def cancel(request: Request, event_id: str) -> Reply:
        found = _appointment(world, event_id)
        found.status, found.modified = "CANC", london_now()
        return Reply()

    def delete(request: Request, event_id: str) -> Reply:
        del world.nomis_appointments.appointments[_appointment(world, event_id).event_id]
        return Reply(status=204)

    def get(request: Request, event_id: str) -> Reply:
        return Reply(body=_view(world, _appointment(world, event_id)))

    def search(request: Request, booking_id: str, location_id: str, start: str) -> Reply:
        booking, location = path_number(booking_id, "bookingId"), path_number(location_id, "locationId")
        moment = read_moment(start, "dateTime")
        found = [
            each
            for each in world.nomis_appointments.appointments.values()
            if (each.booking_id, each.location_id, datetime.combine(each.day, each.start))
            == (booking, location, moment)
        ]
        if world.options.month >= FINDS_SEVERAL:
            return Reply(body=[_view(world, each) for each in found])
        if len(found) > 1:
            raise unexpected(NOT_UNIQUE)
        if not found:
            raise not_found(f"No appointment for booking {booking} in location {location} at {start}")
        return Reply(body=_view(world, found[0]))

    def ids(request: Request) -> Reply:
        found = _listed(world, request)
        return page(request, found, lambda start, end: [{"eventId": each.event_id} for each in found[start:end]])

    one = "/appointments/{event_id}"
    return [
        Route("POST", "/appointments", create, ROLE, writes=True),
        Route("GET", "/appointments/ids", ids, ROLE),
        Route("GET", "/appointments/booking/{booking_id}/location/{location_id}/start/{start}", search, ROLE),
        Route("GET", one, get, ROLE),
        Route("PUT", one, update, ROLE, writes=True),
        Route("PUT", f"{one}/cancel", cancel, ROLE, writes=True),
        Route("DELETE", one, delete, ROLE, writes=True),
    ]


def create_appointment(world: World, fields: Fields) -> NomisAppointment:
    """Makes an appointment. The booking and the subtype must exist, and the room must be in the booking's prison."""
    booking_id = fields.number("bookingId")
    day, start, end, subtype, location_id = _read(fields)
    prisoner = world.by_booking.get(booking_id)
    if prisoner is None:
        raise bad_request(f"Booking with id={booking_id} not found")
    if location_id is None:
        raise unexpected("The given id must not be null!; nested exception is java.lang.IllegalArgumentException")
    check_location(world, location_id, prisoner.prison_id)
    _check(start, end, subtype)
    appointments = world.nomis_appointments
    made = NomisAppointment(
        event_id=next(appointments.event_ids),
        booking_id=booking_id,
        prison_id=prisoner.prison_id,
        location_id=location_id,
        day=day,
        start=start,
        end=end,
        subtype=subtype,
        created=london_now(),
    )
    appointments.appointments[made.event_id] = made
    return made


def update_appointment(world: World, event_id: int, fields: Fields) -> None:
    """Changes an appointment. The room must exist, but may be in any prison."""
    day, start, end, subtype, location_id = _read(fields)
    found = _appointment(world, str(event_id))
    if location_id is None:
        raise unexpected("The given id must not be null!; nested exception is java.lang.IllegalArgumentException")
    if world.places.location(location_id) is None:
        raise bad_request(f"Location with id={location_id} does not exist")
    _check(start, end, subtype)
    found.day, found.start, found.end = day, start, end
    found.subtype, found.location_id, found.modified = subtype, location_id, london_now()


def _read(fields: Fields) -> tuple[date, time, time, str, int | None]:
    return (
        fields.day("eventDate"),
        fields.clock_time("startTime"),
        fields.clock_time("endTime"),
        fields.text("eventSubType"),
        fields.optional_number("internalLocationId"),
    )


def _check(start: time, end: time, subtype: str) -> None:
    if end < start:
        raise bad_request("End time must be after start time")
    if subtype not in APPOINTMENT_SUBTYPES:
        raise bad_request(f"EventSubType with code={subtype} does not exist")


def _appointment(world: World, event_id: str) -> NomisAppointment:
    found = world.nomis_appointments.appointments.get(path_number(event_id, "eventId"))
    if found is None:
        raise not_found(f"Appointment with event id {event_id} not found")
    return found


def _listed(world: World, request: Request) -> list[NomisAppointment]:
    prisons = [prison for value in request.query.get("prisonIds", ()) for prison in value.split(",")]
    if not prisons and world.options.month >= NAMES_EVENTS:
        raise Refused(400, "Missing request parameter: prisonIds")
    from_date, to_date = request.first("fromDate"), request.first("toDate")
    earliest = read_date(from_date, "fromDate") if from_date else date.min
    latest = read_date(to_date, "toDate") if to_date else date.max
    found = [
        each
        for each in world.nomis_appointments.appointments.values()
        if (not prisons or each.prison_id in prisons) and earliest <= each.day <= latest
    ]
    return sorted(found, key=lambda each: each.event_id)


def _view(world: World, found: NomisAppointment) -> dict[str, object]:
    """The appointment as JSON, without the fields that are empty."""
    body = {
        "eventId": found.event_id if world.options.month >= NAMES_EVENTS else None,
        "bookingId": found.booking_id,
        "offenderNo": world.by_booking[found.booking_id].offender_no,
        "prisonId": found.prison_id,
        "internalLocation": found.location_id,
        "startDateTime": datetime.combine(found.day, found.start).isoformat(timespec="seconds"),
        "endDateTime": None if found.end is None else datetime.combine(found.day, found.end).isoformat("T", "seconds"),
        "comment": found.comment,
        "subtype": found.subtype,
        "status": found.status,
        "createdDate": found.created.isoformat(timespec="seconds"),
        "createdBy": found.created_by,
        "modifiedDate": None if found.modified is None else found.modified.isoformat(timespec="seconds"),
        "modifiedBy": None if found.modified is None else USER,
    }
    return {name: value for name, value in body.items() if value is not None}
