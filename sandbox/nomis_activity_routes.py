"""The endpoints of NOMIS about courses, sessions, allocations and attendances."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sandbox.bodies import Fields, path_number
from sandbox.nomis_allocations import upsert_allocation
from sandbox.nomis_attendances import attendance_status, upsert_attendance
from sandbox.nomis_courses import create_course, update_course, update_session
from sandbox.serving import Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.world import World

ROLE: Final = "NOMIS_ACTIVITIES"
COURSE: Final = "/activities/{course_id}"


def routes(world: World) -> list[Route]:
    """All of them; reads of courses, allocations and attendances do not exist."""

    def create(request: Request) -> Reply:
        return Reply(201, {"courseActivityId": create_course(world, Fields.of(request)).id})

    def update(request: Request, course_id: str) -> Reply:
        update_course(world, path_number(course_id, "courseActivityId"), Fields.of(request))
        return Reply()

    def schedule(request: Request, course_id: str) -> Reply:
        session = update_session(world, path_number(course_id, "courseActivityId"), Fields.of(request))
        return Reply(body={"courseScheduleId": session.id})

    def allocate(request: Request, course_id: str) -> Reply:
        number = path_number(course_id, "courseActivityId")
        allocation, created = upsert_allocation(world, number, Fields.of(request), request.arrived)
        return Reply(body={"offenderProgramReferenceId": allocation.id, "created": created})

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

    courses = world.nomis_courses
    attendance_path = f"{COURSE}/booking/{{booking_id}}/attendance"
    return [
        Route("POST", "/activities", create, ROLE, writes=True),
        Route("PUT", COURSE, update, ROLE, writes=True),
        Route("DELETE", COURSE, _remover("course_id", courses.remove_course), ROLE, writes=True),
        Route("PUT", f"{COURSE}/schedule", schedule, ROLE, writes=True),
        Route("PUT", f"{COURSE}/allocation", allocate, ROLE, writes=True),
        Route("POST", attendance_path, attend, ROLE, writes=True),
        Route("POST", f"{attendance_path}-status", status, ROLE),
        Route("DELETE", "/allocations/{number}", _remover("number", courses.remove_allocation), ROLE, writes=True),
        Route("DELETE", "/attendances/{number}", _remover("number", courses.remove_attendance), ROLE, writes=True),
    ]


def _remover(name: str, remove: Callable[[int], None]) -> Callable[..., Reply]:
    def delete(request: Request, **parts: str) -> Reply:
        remove(path_number(parts[name], name))
        return Reply(status=204)

    return delete
