"""What the activities API counts for reconciliations, and the allocations of given prisoners."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, time
from typing import TYPE_CHECKING, Final

from sandbox.dps.activities import SUSPENDED
from sandbox.dps.rollout import ADMINISTRATOR, NEW_FIELD, ROLES_SINCE
from sandbox.http.serving import Refused, Reply, Route
from sandbox.nomis.activity_counts import in_order
from sandbox.nomis.bodies import read_date

if TYPE_CHECKING:
    from sandbox.http.serving import Request
    from sandbox.world import World

ACTIVE: Final = frozenset({"ACTIVE"})
NOON, EVENING = time(12), time(17)


def routes(world: World, role: str) -> list[Route]:
    """The counts of one prison, in no order; an unknown prison has none."""

    def allocations(request: Request, prison_code: str) -> Reply:
        return _counts(prison_code, _allocated(world, prison_code, ACTIVE))

    def suspended(request: Request, prison_code: str) -> Reply:
        return _counts(prison_code, _allocated(world, prison_code, SUSPENDED))

    def attendances(request: Request, prison_code: str) -> Reply:
        given = request.first("date")
        if not given:
            raise Refused(400, "Validation failure: Required request parameter 'date' is not present")
        day = read_date(given, "date")
        return _counts(prison_code, _paid(world, prison_code, day), date=day.isoformat())

    def of_day(request: Request, prison_code: str, day: str) -> Reply:
        return Reply(body=_attendances(world, prison_code, read_date(day, "sessionDate")))

    path, listed = "/synchronisation/reconciliation", "/attendances/{prison_code}/{day}"
    return [
        Route("GET", f"{path}/allocations/{{prison_code}}", allocations, role, since="2023-10"),
        Route("GET", f"{path}/suspended-allocations/{{prison_code}}", suspended, role, since="2025-05"),
        Route("GET", f"{path}/attendances/{{prison_code}}", attendances, role, since="2023-10"),
        Route("GET", listed, of_day, until=ROLES_SINCE),
        Route("GET", listed, of_day, ADMINISTRATOR, since=ROLES_SINCE),
    ]


def _counts(prison_code: str, booking_ids: Iterable[int], **more: object) -> Reply:
    bookings = in_order(booking_ids)
    # The service promises no order; NOMIS has one, and nobody may rely on both being the same.
    bookings.reverse()
    return Reply(body={"prisonCode": prison_code, **more, "bookings": bookings, **NEW_FIELD})


def _allocated(world: World, prison_code: str, statuses: frozenset[str]) -> list[int]:
    here = _schedules(world, prison_code)
    return [
        each.booking_id
        for each in world.activities.allocations.values()
        if each.status in statuses and each.schedule_id in here
    ]


def _paid(world: World, prison_code: str, day: date) -> list[int]:
    """The bookings of the allocations that were valid on the day, once for each attendance of it with pay."""
    held, here = world.activities, _schedules(world, prison_code)
    found: list[int] = []
    for attendance in held.attendances.values():
        instance = held.instances[attendance.instance_id]
        if attendance.issue_payment and instance.day == day and instance.schedule_id in here:
            allocations = held.allocations_of(instance.schedule_id, attendance.prisoner_number)
            valid = [each for each in allocations if each.start <= day and (each.end is None or each.end >= day)]
            found.extend({each.booking_id for each in valid})
    return found


def _schedules(world: World, prison_code: str) -> set[int]:
    schedules = world.activities.schedules.values()
    return {schedule.id for schedule in schedules if schedule.activity.prison_id == prison_code}


def _attendances(world: World, prison_code: str, day: date) -> list[dict[str, object]]:
    held, here = world.activities, _schedules(world, prison_code)
    found: list[dict[str, object]] = []
    for attendance in held.attendances.values():
        instance = held.instances[attendance.instance_id]
        if instance.day == day and instance.schedule_id in here:
            found.append(
                {
                    "attendanceId": attendance.id,
                    "prisonCode": prison_code,
                    "sessionDate": day.isoformat(),
                    "timeSlot": "AM" if instance.start < NOON else "PM" if instance.start < EVENING else "ED",
                    "status": attendance.status,
                    "attendanceReasonCode": attendance.reason,
                    "issuePayment": attendance.issue_payment,
                    "prisonerNumber": attendance.prisoner_number,
                    **NEW_FIELD,
                }
            )
    return found
