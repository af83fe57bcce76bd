"""Attendances at course sessions in NOMIS, written by an upsert that refuses to change those that payroll has paid."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from sandbox.http.serving import Reply, Request, Route
from sandbox.nomis.allocations import NOT_UNIQUE
from sandbox.nomis.bodies import (
    ATTENDANCE_OUTCOMES,
    EVENT_STATUSES,
    Fields,
    bad_request,
    not_found,
    path_number,
    unexpected,
)
from sandbox.nomis.courses import (
    COURSE,
    ROLE,
    THOUSANDTH,
    Course,
    Session,
    course_or_400,
    session_or_400,
)

if TYPE_CHECKING:
    from sandbox.world import World


@dataclass(slots=True)
class Attendance:
    """The attendance of one booking at one session.

    `transaction` is the number of the payment, or None until payroll has paid; `stored` is when the row was stored, by
    `time.perf_counter`.
    """

    event_id: int
    course_id: int
    session_id: int
    booking_id: int
    allocation_id: int
    status: str
    outcome: str | None = None
    comment: str | None = None
    unexcused: bool = False
    authorised: bool = False
    paid: bool = False
    bonus: Decimal | None = None
    performance: str | None = None
    transaction: int | None = None
    stored: float = 0.0


def upsert_attendance(
    world: World, course_id: int, booking_id: int, fields: Fields, arrived: float
) -> tuple[Attendance, bool]:
    """Writes the attendance of a booking at a session; returns it, and whether it is new.

    An unknown course, session, booking or code, a missing allocation and a change to an attendance that payroll has
    paid are refused with 400. Two rows for one booking and session make NOMIS fail with 500.
    """
    status, outcome = fields.text("eventStatusCode"), fields.optional_text("eventOutcomeCode")
    comment, bonus = fields.comment("comments"), fields.money("bonusPay")
    unexcused = fields.flag("unexcusedAbsence", default=False)
    authorised = fields.flag("authorisedAbsence", default=False)
    paid = fields.flag("paid", default=False)
    course, session = _session(world, course_id, booking_id, fields)
    allocations = world.nomis_courses.allocations_of.get((course.id, booking_id), [])
    if not allocations:
        raise bad_request(f"Offender program profile for booking {booking_id} and course {course.id} does not exist")
    if status not in EVENT_STATUSES:
        raise bad_request(f"Event status code {status} does not exist")
    if outcome is not None and outcome not in ATTENDANCE_OUTCOMES:
        raise bad_request(f"Attendance outcome code {outcome} does not exist")
    found = _seen(world, session, booking_id, arrived)
    created = found is None
    if found is None:
        found = _create(world, course, session, booking_id, allocations[-1].id, status)
    elif found.transaction is not None:
        raise bad_request(f"Attendance {found.event_id} cannot be changed after it has already been paid")
    found.status, found.outcome, found.comment = status, outcome, comment
    found.unexcused, found.authorised, found.paid = unexcused, authorised, paid
    found.bonus = None if bonus is None else bonus.quantize(THOUSANDTH)
    found.performance = "STANDARD" if outcome == "ATT" and paid else None
    return found, created


def attendance_status(world: World, course_id: int, booking_id: int, fields: Fields, arrived: float) -> str:
    """Returns the status of a booking's attendance at a session.

    The request is refused with 404 if the attendance is missing, and with 400 if the course, session or booking is
    unknown.
    """
    _, session = _session(world, course_id, booking_id, fields)
    found = _seen(world, session, booking_id, arrived)
    if found is None:
        raise not_found(
            f"Attendance for activity={course_id}, booking={booking_id}, session={session.id} does not exist"
        )
    return found.status


def plant_duplicate(world: World, event_id: int) -> Attendance:
    """Adds a second row for the booking and session of an attendance, as two simultaneous creations would."""
    first = world.nomis_courses.attendances[event_id]
    second = Attendance(
        event_id=next(world.nomis_courses.event_ids),
        course_id=first.course_id,
        session_id=first.session_id,
        booking_id=first.booking_id,
        allocation_id=first.allocation_id,
        status=first.status,
        outcome=first.outcome,
        stored=time.perf_counter(),
    )
    world.nomis_courses.attendances[second.event_id] = second
    world.nomis_courses.attendances_of[first.session_id, first.booking_id].append(second)
    return second


def _session(world: World, course_id: int, booking_id: int, fields: Fields) -> tuple[Course, Session]:
    course = course_or_400(world, course_id)
    session = session_or_400(course, fields)
    if booking_id not in world.by_booking:
        raise bad_request(f"Booking with id={booking_id} does not exist")
    return course, session


def _seen(world: World, session: Session, booking_id: int, arrived: float) -> Attendance | None:
    rows = world.nomis_courses.attendances_of.get((session.id, booking_id), [])
    seen = [row for row in rows if not (world.options.nomis_duplicates and row.stored > arrived)]
    if len(seen) > 1:
        raise unexpected(NOT_UNIQUE)
    return seen[0] if seen else None


def _create(
    world: World, course: Course, session: Session, booking_id: int, allocation_id: int, status: str
) -> Attendance:
    courses = world.nomis_courses
    made = Attendance(
        event_id=next(courses.event_ids),
        course_id=course.id,
        session_id=session.id,
        booking_id=booking_id,
        allocation_id=allocation_id,
        status=status,
        stored=time.perf_counter(),
    )
    courses.attendances[made.event_id] = made
    courses.attendances_of.setdefault((session.id, booking_id), []).append(made)
    return made


def routes(world: World) -> list[Route]:
    """Returns the endpoints for attendances; only the status of an attendance can be read."""

    def attend(request: Request, course_id: str, booking_id: str) -> Reply:
        course, booking = path_number(course_id, "courseActivityId"), path_number(booking_id, "bookingId")
        attendance, created = upsert_attendance(world, course, booking, Fields.of(request), request.arrived)
        return Reply(
            body={"eventId": attendance.event_id, "courseScheduleId": attendance.session_id, "created": created}
        )

    def status(request: Request, course_id: str, booking_id: str) -> Reply:
        course, booking = path_number(course_id, "courseActivityId"), path_number(booking_id, "bookingId")
        return Reply(
            body={"eventStatus": attendance_status(world, course, booking, Fields.of(request), request.arrived)}
        )

    def delete(request: Request, number: str) -> Reply:
        world.nomis_courses.remove_attendance(path_number(number, "number"))
        return Reply(status=204)

    path = f"{COURSE}/booking/{{booking_id}}/attendance"
    return [
        Route("POST", path, attend, ROLE, writes=True),
        Route("POST", f"{path}-status", status, ROLE),
        Route("DELETE", "/attendances/{number}", delete, ROLE, writes=True),
    ]
