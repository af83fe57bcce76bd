"""What NOMIS counts for reconciliations: the current allocations and the paid attendances of each booking."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_today
from sandbox.dps.rollout import NEW_FIELD
from sandbox.hmpps.auth import NOMIS_SYNCHRONISATION
from sandbox.http.paging import flag
from sandbox.http.serving import Refused, Reply, Request, Route
from sandbox.nomis.bodies import read_date

if TYPE_CHECKING:
    from sandbox.nomis.allocations import Allocation
    from sandbox.nomis.courses import Course
    from sandbox.world import World

#: Since this month, suspended allocations are counted separately, and the rest even if the prisoner has moved.
SUSPENDED_SINCE: Final = "2025-05"


@dataclass(slots=True)
class UnderWay:
    """What happens while prisons are being reconciled.

    `late` holds, by prison, the changes whose events are still queued. These changes reach NOMIS when the prison's
    allocations are read again, `seconds` or more after the first reading. `leaving` holds, by booking id, the prison to
    which the booking moves once the allocations of its present prison have been listed.
    """

    seconds: float
    late: dict[str, list[Callable[[], None]]] = field(default_factory=dict)
    leaving: dict[int, str] = field(default_factory=dict)
    _first_asked: dict[str, float] = field(default_factory=dict)

    def before_list(self, prison_id: str) -> None:
        """Notes when a prison is first read, and makes its late changes if they are due."""
        now = time.monotonic()
        first = self._first_asked.setdefault(prison_id, now)
        if self.late.get(prison_id) and now > first and now - first >= self.seconds:
            for change in self.late.pop(prison_id):
                change()

    def after_list(self, world: World, prison_id: str) -> None:
        """Transfers the bookings that are to leave the prison once its allocations have been listed."""
        for booking_id in [each for each in self.leaving if world.by_booking[each].prison_id == prison_id]:
            world.by_booking[booking_id].prison_id = self.leaving.pop(booking_id)


def routes(world: World) -> list[Route]:
    """Returns the endpoints that give all counts of a prison in a single response; an unknown prison has no counts."""

    def allocations(request: Request, prison_id: str) -> Reply:
        suspended = flag(request, "suspended", False)
        world.under_way.before_list(prison_id)
        counted = _allocations(world, prison_id, suspended)
        world.under_way.after_list(world, prison_id)
        return Reply(body={"prisonId": prison_id, "bookings": in_order(counted), **NEW_FIELD})

    def attendances(request: Request, prison_id: str) -> Reply:
        given = request.first("date")
        if not given:
            raise Refused(400, "Missing request parameter: Required request parameter 'date' is not present")
        day = read_date(given, "date")
        counted = _attendances(world, prison_id, day)
        return Reply(body={"prisonId": prison_id, "date": day.isoformat(), "bookings": in_order(counted), **NEW_FIELD})

    role, since = NOMIS_SYNCHRONISATION, "2023-10"
    return [
        Route("GET", "/allocations/reconciliation/{prison_id}", allocations, role, since=since),
        Route("GET", "/attendances/reconciliation/{prison_id}", attendances, role, since=since),
    ]


def in_order(booking_ids: Iterable[int]) -> list[dict[str, object]]:
    """Returns how many times each booking id occurs, sorted by booking id."""
    return [{"bookingId": each, "count": count, **NEW_FIELD} for each, count in sorted(Counter(booking_ids).items())]


def _courses(world: World, prison_id: str) -> dict[int, Course]:
    return {each.id: each for each in world.nomis_courses.courses.values() if each.prison_id == prison_id}


def _allocations(world: World, prison_id: str, suspended: bool) -> list[int]:
    courses, today = _courses(world, prison_id), london_today()
    apart = world.options.month >= SUSPENDED_SINCE
    here_only = suspended or not apart
    return [
        each.booking_id
        for each in world.nomis_courses.allocations.values()
        if each.course_id in courses
        and _is_current(each, courses[each.course_id], today)
        and (each.suspended == suspended or not apart)
        and (not here_only or _is_at(world, each.booking_id, prison_id))
    ]


def _is_current(allocation: Allocation, course: Course, today: date) -> bool:
    """Whether the allocation has the status `ALLOC` and has begun, and neither it nor its course has ended.

    NOMIS now gives an ended allocation the status `END`. In this fake, the status remains `ALLOC`, as in May 2023, and
    an allocation that ends today counts as ended only if it has an end reason.
    """
    if allocation.status != "ALLOC" or allocation.start > today or (course.end is not None and course.end < today):
        return False
    if allocation.end is None or allocation.end > today:
        return True
    return allocation.end == today and allocation.end_reason is None


def _is_at(world: World, booking_id: int, prison_id: str) -> bool:
    prisoner = world.by_booking[booking_id]
    return prisoner.active and prisoner.prison_id == prison_id


def _attendances(world: World, prison_id: str, day: date) -> list[int]:
    sessions = {
        session.id
        for course in _courses(world, prison_id).values()
        for session in course.sessions.values()
        if session.day == day
    }
    return [
        each.booking_id
        for each in world.nomis_courses.attendances.values()
        if each.paid and each.session_id in sessions
    ]
