"""The endpoints of the activities API: its records as JSON, and what it counts for reconciliations."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Final, TypeVar

from sandbox.dps.activities import (
    DAY_NAMES,
    SUSPENDED,
    Activity,
    DpsAllocation,
    DpsAttendance,
    Instance,
    Schedule,
    Slot,
)
from sandbox.dps.rollout import ADMINISTRATOR, NEW_FIELD, ROLES_SINCE
from sandbox.http.serving import Refused, Reply, Request, Route
from sandbox.nomis.activity_counts import in_order
from sandbox.nomis.bodies import read_date

if TYPE_CHECKING:
    from sandbox.world import World

SYNCHRONISATION_ROLE: Final = "NOMIS_ACTIVITIES"
Found = TypeVar("Found")


def routes(world: World) -> list[Route]:
    """The endpoints that the program reads.

    The synchronisation endpoints require a role. From the month `ROLES_SINCE`, so do two others, which list
    allocations and attendances.
    """
    held = world.activities

    def schedule(request: Request, number: str) -> Reply:
        return Reply(body=_schedule(world, _get(held.schedules, number, "Activity Schedule")))

    def activity(request: Request, number: str) -> Reply:
        found = _get(held.activities, number, "Activity")
        schedules = [_schedule(world, each) for each in held.schedules.values() if each.activity is found]
        return Reply(body=_activity(found, schedules))

    def instance(request: Request, number: str) -> Reply:
        return Reply(body=_scheduled(world, _get(held.instances, number, "Scheduled Instance")))

    def allocations(request: Request, number: str) -> Reply:
        found = _get(held.schedules, number, "Activity Schedule")
        open_only = request.first("activeOnly", "true") != "false"
        listed = [each for each in held.allocations.values() if each.schedule_id == found.id]
        return Reply(body=[_allocation(world, each) for each in listed if not (open_only and each.status == "ENDED")])

    def allocation(request: Request, number: str) -> Reply:
        return Reply(body=_allocation(world, _get(held.allocations, number, "Allocation")))

    def prisoner_allocations(request: Request, prison_code: str) -> Reply:
        wanted = request.json()
        if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
            raise Refused(400, "Validation failure: the body must be a list of prisoner numbers")
        open_only = request.first("activeOnly", "true") != "false"
        found: dict[str, list[dict[str, object]]] = {}
        numbers = set(wanted)
        for each in held.allocations.values():
            here = held.schedules[each.schedule_id].activity.prison_id == prison_code
            if each.prisoner_number in numbers and here and not (open_only and each.status == "ENDED"):
                found.setdefault(each.prisoner_number, []).append(_allocation(world, each))
        return Reply(body=[{"prisonerNumber": each, "allocations": rows} for each, rows in found.items()])

    def attendance(request: Request, number: str) -> Reply:
        return Reply(body=_attendance(world, _get(held.attendances, number, "Attendance sync")))

    of_prisoners = "/prisons/{prison_code}/prisoner-allocations"
    return [
        Route("GET", "/schedules/{number}", schedule),
        Route("GET", "/activities/{number}", activity),
        Route("GET", "/scheduled-instances/{number}", instance),
        Route("GET", "/schedules/{number}/allocations", allocations),
        Route("GET", "/allocations/id/{number}", allocation),
        Route("POST", of_prisoners, prisoner_allocations, until=ROLES_SINCE),
        Route("POST", of_prisoners, prisoner_allocations, ADMINISTRATOR, since=ROLES_SINCE),
        Route("GET", "/synchronisation/attendance/{number}", attendance, SYNCHRONISATION_ROLE),
        *_count_routes(world, SYNCHRONISATION_ROLE),
    ]


def _get(held: dict[int, Found], text: str, noun: str) -> Found:
    if not text.isdecimal():
        raise Refused(400, f"Error converting '{text}' (id): For input string: \"{text}\"")
    found = held.get(int(text))
    if found is None:
        raise Refused(404, f"Not found: {noun} {text} not found")
    return found


def hours(moment: time) -> str:
    """A time of day, as the service writes it."""
    return moment.strftime("%H:%M")


def _band(band: int, prison_id: str) -> dict[str, object]:
    return {
        "id": band,
        "displaySequence": band,
        "alias": f"Band {band}",
        "description": f"Pay band {band}",
        "nomisPayBand": band,
        "prisonCode": prison_id,
    }


def _activity(activity: Activity, schedules: list[dict[str, object]]) -> dict[str, object]:
    return {
        **_lite(activity),
        "description": activity.summary,
        "eligibilityRules": [],
        "schedules": schedules,
        "waitingList": [],
        "pay": [
            {
                "id": place,
                "incentiveNomisCode": line.level,
                "incentiveLevel": line.level,
                "prisonPayBand": _band(line.band, activity.prison_id),
                "rate": line.rate,
            }
            for place, line in enumerate(activity.pay, 1)
        ],
        "startDate": activity.start.isoformat(),
        "endDate": None if activity.end is None else activity.end.isoformat(),
        "createdTime": f"{activity.start.isoformat()}T09:00:00",
        "createdBy": "SANDBOX",
    }


def _lite(activity: Activity) -> dict[str, object]:
    return {
        "id": activity.id,
        "prisonCode": activity.prison_id,
        "attendanceRequired": True,
        "inCell": False,
        "pieceWork": False,
        "outsideWork": False,
        "payPerSession": activity.pay_per_session,
        "summary": activity.summary,
        "category": {"id": 1, "code": activity.category, "name": activity.category.title()},
        "riskLevel": "low",
        "minimumIncentiveNomisCode": activity.level,
        "minimumIncentiveLevel": activity.level,
        "minimumEducationLevel": [],
    }


def _schedule(world: World, schedule: Schedule) -> dict[str, object]:
    return {
        **_schedule_lite(world, schedule),
        "instances": [_instance(each) for each in schedule.instances],
        "allocations": [],
        "suspensions": [],
        "runsOnBankHoliday": schedule.runs_on_bank_holiday,
    }


def _schedule_lite(world: World, schedule: Schedule) -> dict[str, object]:
    location = None if schedule.location_id is None else world.places.location(schedule.location_id)
    return {
        "id": schedule.id,
        "description": schedule.description,
        "internalLocation": None
        if location is None
        else {"id": location.id, "code": location.code, "description": location.description},
        "capacity": schedule.capacity,
        "activity": _lite(schedule.activity),
        "slots": [_slot(place, slot) for place, slot in enumerate(schedule.slots, 1)],
        "startDate": schedule.start.isoformat(),
        "endDate": None if schedule.end is None else schedule.end.isoformat(),
    }


def _slot(place: int, slot: Slot) -> dict[str, object]:
    flags = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return {
        "id": place,
        "startTime": hours(slot.start),
        "endTime": hours(slot.end),
        "daysOfWeek": [name for name, on in zip(DAY_NAMES, slot.days, strict=True) if on],
        **{f"{name}Flag": on for name, on in zip(flags, slot.days, strict=True)},
    }


def _instance(instance: Instance) -> dict[str, object]:
    return {
        "id": instance.id,
        "date": instance.day.isoformat(),
        "startTime": hours(instance.start),
        "endTime": hours(instance.end),
        "cancelled": instance.cancelled,
        "attendances": [],
    }


def _scheduled(world: World, instance: Instance) -> dict[str, object]:
    schedule = world.activities.schedules[instance.schedule_id]
    return {**_instance(instance), "activitySchedule": _schedule_lite(world, schedule)}


def _allocation(world: World, found: DpsAllocation) -> dict[str, object]:
    schedule = world.activities.schedules[found.schedule_id]
    return {
        "id": found.id,
        "prisonerNumber": found.prisoner_number,
        "bookingId": found.booking_id,
        "activitySummary": schedule.activity.summary,
        "scheduleId": found.schedule_id,
        "scheduleDescription": schedule.description,
        "isUnemployment": False,
        "prisonPayBand": _band(found.band, schedule.activity.prison_id),
        "startDate": found.start.isoformat(),
        "endDate": None if found.end is None else found.end.isoformat(),
        "deallocatedTime": _written(found.id, found.ended_at),
        "deallocatedBy": found.ended_by,
        "deallocatedReason": found.ended_why,
        "suspendedTime": _written(found.id, found.suspended_at),
        "suspendedBy": found.suspended_by,
        "suspendedReason": found.suspended_why,
        "status": found.status,
    }


def _written(number: int, moment: datetime | None) -> str | None:
    """A date-time, as the service writes it: with a meaningless `Z` if the id of the record (`number`) is odd."""
    if moment is None:
        return None
    return moment.isoformat(timespec="seconds") + ("Z" if number % 2 else "")


def _attendance(world: World, found: DpsAttendance) -> dict[str, object]:
    instance = world.activities.instances[found.instance_id]
    allocation = world.activities.allocation_of(found)
    if allocation is None:
        raise Refused(404, f"Not found: Attendance sync {found.id} not found")
    return {
        "attendanceId": found.id,
        "scheduledInstanceId": instance.id,
        "activityScheduleId": instance.schedule_id,
        "sessionDate": instance.day.isoformat(),
        "sessionStartTime": hours(instance.start),
        "sessionEndTime": hours(instance.end),
        "prisonerNumber": found.prisoner_number,
        "bookingId": allocation.booking_id,
        "attendanceReasonCode": found.reason,
        "comment": found.comment,
        "status": found.status,
        "payAmount": found.pay,
        "bonusAmount": found.bonus,
        "issuePayment": found.issue_payment,
    }


ACTIVE: Final = frozenset({"ACTIVE"})
NOON, EVENING = time(12), time(17)


def _count_routes(world: World, role: str) -> list[Route]:
    """The endpoints that return a prison's counts, and the endpoint that returns the prison's attendances on one day.

    The counts are in no particular order. An unknown prison has no counts and no attendances.
    """

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
    # The service promises no order, but NOMIS has one. No client may rely on both orders being the same.
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
    """The booking ids for which attendances on `day` are paid, once for each attendance.

    They come from the allocations to the attendance's schedule that the prisoner had on that day.
    """
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
