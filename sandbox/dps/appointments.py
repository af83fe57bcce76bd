"""The appointments of the activities API, with one instance for each prisoner at each appointment.

Before September 2023, the service called an appointment an occurrence, and its attendees allocations. Both forms are
served here.
"""

from __future__ import annotations

import calendar
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Final

from sandbox.clock import london_now
from sandbox.http.serving import Refused, Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.world import World

ADMIN: Final = "ACTIVITY_ADMIN"
#: The month in which occurrences became appointments, and the month in which rooms were given a DPS id.
RENAMED: Final = "2023-09"
NAMES_ROOMS: Final = "2025-03"
USER: Final = "SANDBOX"


@dataclass(slots=True)
class AppointmentInstance:
    """One appointment of one prisoner; times are local. An appointment in a cell has no room.

    `appointment_id` is the same for all prisoners of one appointment; if it is None, there is only one prisoner, and
    the id of the instance also identifies the appointment. A deleted instance is found only by a search. `room_by_uuid`
    says whether the room is named only by its DPS id.
    """

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
    appointment_id: int | None = None
    created: datetime = field(default_factory=london_now)
    updated: datetime | None = None
    deleted: bool = False
    room_by_uuid: bool = False


class AppointmentsState:
    """The appointment instances of the activities API by id; deleted instances are kept, and marked as deleted."""

    def __init__(self) -> None:
        """Starts without appointments."""
        self.instances: dict[int, AppointmentInstance] = {}
        self.ids = itertools.count(90_217)


def routes(world: World) -> list[Route]:
    """Returns the endpoints that read an appointment instance or search for appointments, with the roles required."""

    def get(request: Request, number: str) -> Reply:
        found = world.appointments.instances.get(int(number)) if number.isdecimal() else None
        if found is None or found.deleted:
            raise Refused(404, f"Not found: Appointment Instance {number} not found")
        return Reply(body=_instance(world, found))

    def search(request: Request, prison: str) -> Reply:
        asked = _asked(request)
        if prison not in world.rollout.appointments:
            raise Refused(400, f"Prison '{prison}' is not active for appointments")
        if asked.first > asked.last:
            raise Refused(400, "End date cannot be before the start date")
        if asked.last >= _month_later(asked.first):
            raise Refused(400, "End date cannot be more than one month after the start date")
        return Reply(body=[_appointment(world, each) for each in _found(world, prison, asked)])

    def search_occurrences(request: Request, prison: str) -> Reply:
        found = _found(world, prison, _asked(request))
        return Reply(body=[_occurrence(world, each) for each in found if not each[0].deleted])

    one, searched = "/appointment-instances/{number}", "/appointments/{prison}/search"
    return [
        Route("GET", one, get, until=RENAMED),
        Route("GET", one, get, ADMIN, since=RENAMED),
        Route("POST", searched, search, ADMIN, since=RENAMED),
        Route("POST", "/appointment-occurrences/{prison}/search", search_occurrences, until=RENAMED),
    ]


@dataclass(frozen=True, slots=True)
class _Search:
    """The criteria of a search; None or an empty set allows anything."""

    first: date
    last: date
    category: str | None
    room: int | None
    in_cell: bool | None
    prisoners: frozenset[str]

    def fits(self, each: AppointmentInstance) -> bool:
        """Whether an instance meets all the criteria except `prisoners`."""
        return (
            self.first <= each.day <= self.last
            and self.category in (None, each.category)
            and self.room in (None, each.location_id)
            and self.in_cell in (None, each.in_cell)
        )


def _asked(request: Request) -> _Search:
    body = request.json()
    if not isinstance(body, dict):
        raise _invalid("the body must be an object")
    first = _day(body, "startDate")
    if first is None:
        raise _invalid("Start date must be supplied")
    prisoners = body.get("prisonerNumbers") or []
    return _Search(
        first,
        _day(body, "endDate") or first,
        body.get("categoryCode"),
        body.get("internalLocationId"),
        body.get("inCell"),
        frozenset(map(str, prisoners)),
    )


def _day(body: dict[str, Any], name: str) -> date | None:
    text = body.get(name)
    try:
        return None if text is None else date.fromisoformat(text)
    except (TypeError, ValueError):
        raise _invalid(f"JSON parse error: {name} is not a date") from None


def _invalid(reason: str) -> Refused:
    return Refused(400, f"Validation failure: {reason}")


def _month_later(day: date) -> date:
    """The same day of the next month, or the last day of that month if it has no such day."""
    year, month = (day.year, day.month + 1) if day.month < 12 else (day.year + 1, 1)
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _found(world: World, prison: str, asked: _Search) -> list[list[AppointmentInstance]]:
    """The appointments that meet the criteria, each with all its instances.

    If the search names prisoners, at least one of them must attend the appointment.
    """
    together: dict[int, list[AppointmentInstance]] = {}
    for each in world.appointments.instances.values():
        if each.prison_id == prison and asked.fits(each):
            together.setdefault(_appointment_id(each), []).append(each)
    if not asked.prisoners:
        return list(together.values())
    return [each for each in together.values() if any(one.prisoner_number in asked.prisoners for one in each)]


def _appointment_id(found: AppointmentInstance) -> int:
    return found.appointment_id or found.id


def _hours(moment: time | None) -> str | None:
    return None if moment is None else moment.strftime("%H:%M")


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _instance(world: World, found: AppointmentInstance) -> dict[str, object]:
    """One instance, in the form that the service used in the imitated month."""
    body: dict[str, object] = {
        "id": found.id,
        "appointmentType": "INDIVIDUAL" if found.appointment_id is None else "GROUP",
        "prisonCode": found.prison_id,
        "prisonerNumber": found.prisoner_number,
        "bookingId": found.booking_id,
        "categoryCode": found.category,
        "internalLocationId": None if found.room_by_uuid else found.location_id,
        "inCell": found.in_cell,
        "appointmentDate": found.day.isoformat(),
        "startTime": _hours(found.start),
        "endTime": _hours(found.end),
        "createdBy": USER,
        "updatedBy": None if found.updated is None else USER,
    }
    if world.options.month < RENAMED:
        return body | {
            "appointmentId": _appointment_id(found),
            "appointmentOccurrenceId": _appointment_id(found),
            "appointmentOccurrenceAllocationId": found.id,
            "appointmentDescription": None,
            "comment": found.comment,
            "created": _moment(found.created),
            "updated": _moment(found.updated),
        }
    return body | {
        "appointmentSeriesId": _appointment_id(found),
        "appointmentId": _appointment_id(found),
        "appointmentAttendeeId": found.id,
        "customName": None,
        "dpsLocationId": _room_uuid(world, found),
        "extraInformation": found.comment,
        "prisonerExtraInformation": None,
        "createdTime": _moment(found.created),
        "updatedTime": _moment(found.updated),
    }


def _room_uuid(world: World, found: AppointmentInstance) -> str | None:
    if found.location_id is None or world.options.month < NAMES_ROOMS:
        return None
    return world.places.dps_location_id(found.location_id)


def _searched(found: AppointmentInstance) -> dict[str, object]:
    """The fields that both forms of a search result have in common."""
    return {
        "appointmentType": "INDIVIDUAL" if found.appointment_id is None else "GROUP",
        "prisonCode": found.prison_id,
        "category": {"code": found.category, "description": found.category.capitalize()},
        "inCell": found.in_cell,
        "startDate": found.day.isoformat(),
        "startTime": _hours(found.start),
        "endTime": _hours(found.end),
        "isRepeat": False,
        "sequenceNumber": 1,
        "maxSequenceNumber": 1,
        "isEdited": found.updated is not None,
        "isCancelled": found.cancelled,
    }


def _room(world: World, found: AppointmentInstance) -> dict[str, object] | None:
    room = None if found.location_id is None else world.places.location(found.location_id)
    return None if room is None else {"id": room.id, "prisonCode": room.prison_id, "description": room.description}


def _attendees(name: str, found: Iterable[AppointmentInstance]) -> list[dict[str, object]]:
    return [{name: each.id, "prisonerNumber": each.prisoner_number, "bookingId": each.booking_id} for each in found]


def _appointment(world: World, found: list[AppointmentInstance]) -> dict[str, object]:
    """An appointment as today's search shows it, without empty fields."""
    first = found[0]
    room = _room(world, first)
    if room is not None:
        room["dpsLocationId"] = _room_uuid(world, first)
        if first.room_by_uuid:
            room["id"] = None
    body = _searched(first) | {
        "appointmentSeriesId": _appointment_id(first),
        "appointmentId": _appointment_id(first),
        "appointmentName": first.category.capitalize(),
        "attendees": _attendees("appointmentAttendeeId", found),
        "internalLocation": room,
        "timeSlot": "AM" if first.start.hour < 12 else "PM" if first.start.hour < 17 else "ED",
        "isExpired": False,
        "isDeleted": first.deleted,
        "createdTime": _moment(first.created),
        "updatedTime": _moment(first.updated),
        "cancelledTime": _moment(first.updated if first.cancelled else None),
    }
    return {name: value for name, value in body.items() if value is not None}


def _occurrence(world: World, found: list[AppointmentInstance]) -> dict[str, object]:
    """An occurrence, as the 2023 version of the search returns it."""
    first = found[0]
    return _searched(first) | {
        "appointmentId": _appointment_id(first),
        "appointmentOccurrenceId": _appointment_id(first),
        "allocations": _attendees("id", found),
        "appointmentDescription": None,
        "internalLocation": _room(world, first),
    }
