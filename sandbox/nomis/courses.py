"""Course activities in NOMIS: what they contain, and how they are made, changed and deleted.

The code of a course is not unique, so a creation request that is sent twice makes two courses.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_today
from sandbox.http.serving import Refused, Reply, Request, Route
from sandbox.nomis.bodies import PAY_BANDS, PROGRAMS, Fields, bad_request, check_column, not_found, path_number

if TYPE_CHECKING:
    from sandbox.nomis.allocations import Allocation
    from sandbox.nomis.attendances import Attendance
    from sandbox.world import World

LARGEST_CAPACITY: Final = 999
DESCRIPTION_BYTES: Final = 40
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
THOUSANDTH: Final = Decimal("0.001")

Rule = tuple[time, time, tuple[bool, ...]]
Slot = tuple[date, time, time]


@dataclass(frozen=True, slots=True)
class CourseRequest:
    """The fields common to requests to create a course and requests to change one; only their form has been checked."""

    start: date
    end: date | None
    location_id: int | None
    capacity: int
    description: str
    level: str
    program: str
    pay_per_session: str
    exclude_bank_holidays: bool
    rates: dict[tuple[str, str], Decimal]
    rules: list[Rule]
    sessions: dict[Slot, bool]


def read_course(fields: Fields) -> CourseRequest:
    """Returns the request as NOMIS reads it.

    A field that is malformed or out of bounds, or required but missing, is refused with 400. If a description of the
    allowed length takes more bytes than its column holds, the request fails with 500.
    """
    capacity, description = fields.number("capacity"), fields.text("description", shortest=1, longest=DESCRIPTION_BYTES)
    if capacity > LARGEST_CAPACITY:
        raise bad_request(f"Validation failed for capacity: must be less than or equal to {LARGEST_CAPACITY}")
    check_column(description, "DESCRIPTION", DESCRIPTION_BYTES)
    return CourseRequest(
        start=fields.day("startDate"),
        end=fields.optional_day("endDate"),
        location_id=fields.optional_number("internalLocationId"),
        capacity=capacity,
        description=description,
        level=fields.text("minimumIncentiveLevelCode"),
        program=fields.text("programCode"),
        pay_per_session=fields.choice("payPerSession", ("H", "F")),
        exclude_bank_holidays=fields.flag("excludeBankHolidays"),
        rates={_rate_key(each): _rate(each) for each in fields.objects("payRates", required=True)},
        rules=[_rule(each) for each in fields.objects("scheduleRules", required=False)],
        sessions={
            (each.day("date"), each.clock_time("startTime"), each.clock_time("endTime")): each.flag("cancelled")
            for each in fields.objects("schedules", required=False)
        },
    )


def _rate_key(fields: Fields) -> tuple[str, str]:
    return fields.text("incentiveLevel"), fields.text("payBand")


def _rate(fields: Fields) -> Decimal:
    rate = fields.money("rate")
    if rate is None:
        raise bad_request("JSON parse error: value failed for JSON property rate due to missing (therefore NULL) value")
    return rate.quantize(THOUSANDTH)


def _rule(fields: Fields) -> Rule:
    return fields.clock_time("startTime"), fields.clock_time("endTime"), tuple(fields.flag(day) for day in DAYS)


ROLE: Final = "NOMIS_ACTIVITIES"
COURSE: Final = "/activities/{course_id}"


@dataclass(slots=True)
class PayRate:
    """Pounds per half day for an incentive level and a pay band, from `start` to `end` (None if there is no end)."""

    level: str
    band: str
    rate: Decimal
    start: date
    end: date | None = None


@dataclass(slots=True)
class Session:
    """One dated session of a course; `status` is `SCH` or `CANC`."""

    id: int
    day: date
    start: time
    end: time
    status: str

    @property
    def slot(self) -> Slot:
        """What distinguishes the session from the other sessions of its course: its date, start and end."""
        return self.day, self.start, self.end


@dataclass(slots=True)
class Course:
    """One course activity as NOMIS holds it."""

    id: int
    code: str
    prison_id: str
    start: date
    end: date | None
    location_id: int | None
    capacity: int
    description: str
    level: str
    program: str
    pay_per_session: str
    exclude_bank_holidays: bool
    pay_rates: list[PayRate] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    sessions: dict[Slot, Session] = field(default_factory=dict)

    def open_rates(self) -> dict[tuple[str, str], Decimal]:
        """The rates without an end, by level and band."""
        return {(rate.level, rate.band): rate.rate for rate in self.pay_rates if rate.end is None}


class NomisCourses:
    """All courses, sessions, allocations and attendances in NOMIS.

    `event_ids` is the sequence from which both attendances and appointments take their ids.
    """

    def __init__(self, event_ids: Iterator[int]) -> None:
        """Starts without courses."""
        self.courses: dict[int, Course] = {}
        self.allocations: dict[int, Allocation] = {}
        self.attendances: dict[int, Attendance] = {}
        self.allocations_of: dict[tuple[int, int], list[Allocation]] = {}
        self.attendances_of: dict[tuple[int, int], list[Attendance]] = {}
        self.event_ids = event_ids
        self.course_ids = itertools.count(540_001)
        self.session_ids = itertools.count(77_001)
        self.allocation_ids = itertools.count(2_204_001)

    def allocations_in(self, course_id: int) -> list[Allocation]:
        """Returns all allocations to a course, including ended ones."""
        return [each for each in self.allocations.values() if each.course_id == course_id]

    def remove_course(self, course_id: int) -> None:
        """Removes a course and everything that belongs to it; does nothing if the course is unknown."""
        self.courses.pop(course_id, None)
        for allocation in self.allocations_in(course_id):
            self.remove_allocation(allocation.id)

    def remove_allocation(self, allocation_id: int) -> None:
        """Removes an allocation and its attendances; does nothing if the allocation is unknown."""
        found = self.allocations.pop(allocation_id, None)
        if found is None:
            return
        self.allocations_of[found.course_id, found.booking_id].remove(found)
        for attendance in [each for each in self.attendances.values() if each.allocation_id == allocation_id]:
            self.remove_attendance(attendance.event_id)

    def remove_attendance(self, event_id: int) -> None:
        """Removes an attendance; does nothing if it is unknown."""
        found = self.attendances.pop(event_id, None)
        if found is not None:
            self.attendances_of[found.session_id, found.booking_id].remove(found)


def course_or_404(world: World, course_id: int) -> Course:
    """The course with this id; 404 if there is none."""
    course = world.nomis_courses.courses.get(course_id)
    if course is None:
        raise not_found(f"Course activity with id={course_id} does not exist")
    return course


def create_course(world: World, fields: Fields) -> Course:
    """Makes a course with its pay rates, rules and sessions.

    If a check fails, the request is refused with 400, or with 500 if the description takes too many bytes.
    """
    code = fields.text("code", shortest=1, longest=12)
    prison_id = fields.text("prisonId")
    asked = read_course(fields)
    if prison_id not in world.prisons:
        raise bad_request(f"Prison with id={prison_id} does not exist")
    _check(world, prison_id, asked)
    courses = world.nomis_courses
    course = Course(
        id=next(courses.course_ids),
        code=code,
        prison_id=prison_id,
        start=asked.start,
        end=asked.end,
        location_id=asked.location_id,
        capacity=asked.capacity,
        description=asked.description,
        level=asked.level,
        program=asked.program,
        pay_per_session=asked.pay_per_session,
        exclude_bank_holidays=asked.exclude_bank_holidays,
        pay_rates=[PayRate(level, band, rate, asked.start) for (level, band), rate in asked.rates.items()],
        rules=asked.rules,
        sessions={slot: _session(world, slot, cancelled=cancelled) for slot, cancelled in asked.sessions.items()},
    )
    courses.courses[course.id] = course
    return course


def plant_duplicate(world: World, course_id: int) -> int:
    """Adds a copy of a course and its sessions, as another installation would have made it; returns the copy's id."""
    courses = world.nomis_courses
    second = copy.deepcopy(courses.courses[course_id])
    second.id = next(courses.course_ids)
    for session in second.sessions.values():
        session.id = next(courses.session_ids)
    courses.courses[second.id] = second
    return second.id


def update_course(world: World, course_id: int, fields: Fields) -> None:
    """Changes a course: pay rates are versioned, and rules and future sessions are replaced.

    Sessions up to and including today's can be cancelled or restored, but not added or removed.
    """
    asked = read_course(fields)
    course = course_or_404(world, course_id)
    if asked.end is not None and asked.start > asked.end:
        raise bad_request(f"Start date {asked.start} must not be after end date {asked.end}")
    _check(world, course.prison_id, asked)
    _check_past(course, asked.sessions)
    _check_bands(world, course, asked.rates)
    _version_rates(course, asked.rates)
    course.sessions = {
        slot: _replaced(world, course, slot, cancelled=cancelled) for slot, cancelled in asked.sessions.items()
    }
    if course.program != asked.program:
        for allocation in world.nomis_courses.allocations_in(course_id):
            if allocation.end is None:
                allocation.program = asked.program
    course.start, course.end = asked.start, asked.end
    course.location_id, course.capacity, course.description = asked.location_id, asked.capacity, asked.description
    course.level, course.program, course.pay_per_session = asked.level, asked.program, asked.pay_per_session
    course.exclude_bank_holidays, course.rules = asked.exclude_bank_holidays, asked.rules


def update_session(world: World, course_id: int, fields: Fields) -> Session:
    """Cancels or restores the session with exactly the given date, start and end; 404 if there is none."""
    slot = (fields.day("date"), fields.clock_time("startTime"), fields.clock_time("endTime"))
    cancelled = fields.flag("cancelled")
    course = course_or_404(world, course_id)
    session = course.sessions.get(slot)
    if session is None:
        raise not_found(f"Course schedule for activity {course_id} with slot {slot} does not exist")
    session.status = "CANC" if cancelled else "SCH"
    return session


def _check(world: World, prison_id: str, asked: CourseRequest) -> None:
    if asked.location_id is not None:
        check_location(world, asked.location_id, prison_id)
    for level, band in asked.rates:
        _check_level(world, prison_id, level, "Pay rate IEP type")
        if band not in PAY_BANDS:
            raise bad_request(f"Pay band code {band} does not exist")
    _check_level(world, prison_id, asked.level, "IEP type")
    if asked.program not in PROGRAMS:
        raise bad_request(f"Program Service with code={asked.program} does not exist")
    for day, start, end in asked.sessions:
        if day < asked.start:
            raise bad_request(f"Schedule for date {day} is before the activity start date {asked.start}")
        if end < start:
            raise bad_request(f"Schedule for date {day} has times out of order - {start} to {end}")
    for start, end, _ in asked.rules:
        if end < start:
            raise bad_request(f"Schedule rule has times out of order - {start} to {end}")


def _check_level(world: World, prison_id: str, level: str, what: str) -> None:
    if (prison_id, level) not in world.nomis_incentives.prison_levels:
        raise bad_request(f"{what} {level} does not exist for prison {prison_id}")


def check_location(world: World, location_id: int, prison_id: str) -> None:
    """Refuses, with 400, a room that does not exist or is in another prison."""
    location = world.places.location(location_id)
    if location is None:
        raise bad_request(f"Location with id={location_id} does not exist")
    if location.prison_id != prison_id:
        raise bad_request(f"Location with id={location_id} not found in prison {prison_id}")


def _check_past(course: Course, asked: dict[Slot, bool]) -> None:
    today = london_today()
    saved = {slot for slot in course.sessions if slot[0] <= today}
    wanted = {slot for slot in asked if slot[0] <= today}
    if saved != wanted:
        changed = min(saved ^ wanted)
        raise bad_request(
            f"Cannot update schedules starting before tomorrow, such as that of {changed[0]} {changed[1]}"
        )


def _check_bands(world: World, course: Course, rates: dict[tuple[str, str], Decimal]) -> None:
    kept = {band for _, band in rates}
    dropped = {band for _, band in course.open_rates()} - kept
    today = london_today()
    for allocation in world.nomis_courses.allocations_in(course.id):
        if allocation.band in dropped and (allocation.end is None or allocation.end >= today):
            raise bad_request(f"Pay band {allocation.band} is allocated to offender(s) and cannot be removed")


def _version_rates(course: Course, rates: dict[tuple[str, str], Decimal]) -> None:
    """Keeps unchanged rates. Changed and omitted ones end today, or are dropped if they have not begun.

    A new rate starts tomorrow if its level and band still have an earlier rate. Otherwise it starts today or, if the
    course starts later, with the course.
    """
    today = london_today()
    for rate in course.pay_rates:
        if rate.end is None and rates.get((rate.level, rate.band)) != rate.rate:
            rate.end = today
    course.pay_rates = [rate for rate in course.pay_rates if rate.end is None or rate.start <= rate.end]
    still_open = course.open_rates()
    for (level, band), amount in rates.items():
        if (level, band) not in still_open:
            earlier = any((rate.level, rate.band) == (level, band) for rate in course.pay_rates)
            start = today + timedelta(days=1) if earlier else max(course.start, today)
            course.pay_rates.append(PayRate(level, band, amount, start))


def _session(world: World, slot: Slot, *, cancelled: bool) -> Session:
    day, start, end = slot
    return Session(next(world.nomis_courses.session_ids), day, start, end, "CANC" if cancelled else "SCH")


def _replaced(world: World, course: Course, slot: Slot, *, cancelled: bool) -> Session:
    session = course.sessions.get(slot)
    if session is None:
        return _session(world, slot, cancelled=cancelled)
    session.status = "CANC" if cancelled else "SCH"
    return session


def session_or_400(course: Course, fields: Fields) -> Session:
    """The session named by a request about an attendance; 400 if the course has no such session."""
    slot = (fields.day("scheduleDate"), fields.clock_time("startTime"), fields.clock_time("endTime"))
    session = course.sessions.get(slot)
    if session is None:
        raise bad_request(f"Course schedule for activity={course.id}, date={slot[0]}, start={slot[1]} does not exist")
    return session


def course_or_400(world: World, course_id: int) -> Course:
    """The course with this id. If there is none, 400 instead of 404, which is how the attendance endpoints respond."""
    try:
        return course_or_404(world, course_id)
    except Refused as missing:
        raise bad_request(missing.user_message.removeprefix("Not Found: ")) from missing


def routes(world: World) -> list[Route]:
    """Returns the endpoints that make, change and delete courses, and the one that changes sessions.

    No endpoint reads courses or sessions.
    """

    def create(request: Request) -> Reply:
        return Reply(201, {"courseActivityId": create_course(world, Fields.of(request)).id})

    def update(request: Request, course_id: str) -> Reply:
        update_course(world, path_number(course_id, "courseActivityId"), Fields.of(request))
        return Reply()

    def delete(request: Request, course_id: str) -> Reply:
        world.nomis_courses.remove_course(path_number(course_id, "course_id"))
        return Reply(status=204)

    def schedule(request: Request, course_id: str) -> Reply:
        session = update_session(world, path_number(course_id, "courseActivityId"), Fields.of(request))
        return Reply(body={"courseScheduleId": session.id})

    return [
        Route("POST", "/activities", create, ROLE, writes=True),
        Route("PUT", COURSE, update, ROLE, writes=True),
        Route("DELETE", COURSE, delete, ROLE, writes=True),
        Route("PUT", f"{COURSE}/schedule", schedule, ROLE, writes=True),
    ]
