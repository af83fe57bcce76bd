"""What NOMIS must hold for the schedules, allocations and attendances of the activities API."""

from __future__ import annotations

from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_today
from sandbox.dps.activities import SUSPENDED
from sandbox.nomis.courses import Course
from sandbox.verification import discrepancies
from sandbox.verification.discrepancies import Discrepancies, Either

if TYPE_CHECKING:
    from sandbox.dps.activities import DpsAllocation, DpsAttendance, Schedule
    from sandbox.nomis.allocations import Allocation
    from sandbox.nomis.attendances import Attendance
    from sandbox.verification.published import Entity
    from sandbox.world import World

PREFIX: Final = "SAA "
SUMMARY_LENGTH: Final = 36
DESCRIPTION_BYTES: Final = 40
PAID_OUTCOMES: Final = {"ATTENDED": "ATT", "SICK": "ACCAB", "REST": "ACCAB", "OTHER": "ACCAB"}
UNPAID_OUTCOMES: Final = {"ATTENDED": "UNBEH", "SICK": "REST", "REST": "REST", "OTHER": "UNACAB"}
OUTCOMES: Final = {
    "CANCELLED": "CANC",
    "SUSPENDED": "SUS",
    "AUTO_SUSPENDED": "SUS",
    "REFUSED": "UNACAB",
    "NOT_REQUIRED": "NREQ",
    "CLASH": "ACCAB",
}


def verify(world: World, found: Discrepancies) -> None:
    """Checks the published schedules, allocations and attendances, and lists the courses that are not mapped.

    The course of a schedule is found by the course's code, which is the schedule's id. The row of an allocation is
    found by course and booking, and the row of an attendance by session and booking.
    """
    by_code: dict[str, list[Course]] = {}
    for course in world.nomis_courses.courses.values():
        by_code.setdefault(course.code, []).append(course)
    for entity in world.published.of("activity"):
        found.count("activity")
        _verify_schedule(world, found, entity, by_code.get(str(entity.dps_id), []))
    known = {str(entity.dps_id) for entity in world.published.of("activity") if entity.exists}
    mapped = {row.nomis_id[0] for row in world.mapping.rows("activities")}
    for course in world.nomis_courses.courses.values():
        if course.id not in mapped:
            found.unmapped_record("activity", course.code if course.code in known else None, nomis_id=course.id)
    _verify_allocations(world, found)
    _verify_attendances(world, found)


def _verify_schedule(world: World, found: Discrepancies, entity: Entity, courses: list[Course]) -> None:
    schedule = world.activities.schedules.get(int(entity.dps_id))
    if schedule is None or not entity.exists:
        return
    if not courses:
        found.add("activity", schedule.id, discrepancies.MISSING)
        return
    if len(courses) > 1:
        found.add("activity", schedule.id, discrepancies.DUPLICATE, nomis_ids=[each.id for each in courses])
    mapped = world.mapping.nomis_id("activities", schedule.id)
    if mapped is None:
        found.add("activity", schedule.id, discrepancies.UNMAPPED, nomis_id=courses[0].id)
        return
    course = next((each for each in courses if each.id == mapped[0]), None)
    if course is None:
        found.add("activity", schedule.id, discrepancies.WRONGLY_MAPPED, mapped_to=mapped[0])
        return
    found.compare("activity", schedule.id, expected_course(schedule), _held_course(course))


def expected_course(schedule: Schedule) -> dict[str, object]:
    """The NOMIS course that a schedule must have.

    The course's dates may be those of the activity or the schedule: a create writes the former, an update the latter.
    """
    activity = schedule.activity
    return {
        "prison_id": activity.prison_id,
        "start": Either((schedule.start, activity.start)),
        "end": Either((schedule.end, activity.end)),
        "location_id": schedule.location_id,
        "capacity": schedule.capacity,
        "description": discrepancies.held(PREFIX + activity.summary[:SUMMARY_LENGTH], DESCRIPTION_BYTES),
        "level": activity.level,
        "program": activity.category,
        "pay_per_session": activity.pay_per_session,
        "exclude_bank_holidays": not schedule.runs_on_bank_holiday,
        "rates": {
            (line.level, str(line.band)): (Decimal(line.rate) / 100).quantize(Decimal("0.001")) for line in activity.pay
        },
        "rules": frozenset((slot.start, slot.end, slot.days) for slot in schedule.slots),
        "sessions": {
            (each.day, each.start, each.end): "CANC" if each.cancelled else "SCH" for each in schedule.instances
        },
    }


def _held_course(course: Course) -> dict[str, object]:
    return {
        "prison_id": course.prison_id,
        "start": course.start,
        "end": course.end,
        "location_id": course.location_id,
        "capacity": course.capacity,
        "description": course.description,
        "level": course.level,
        "program": course.program,
        "pay_per_session": course.pay_per_session,
        "exclude_bank_holidays": course.exclude_bank_holidays,
        "rates": course.open_rates(),
        "rules": frozenset(course.rules),
        "sessions": {slot: session.status for slot, session in course.sessions.items()},
    }


def _course_of(world: World, schedule_id: int) -> Course | None:
    mapped = world.mapping.nomis_id("activities", schedule_id)
    return None if mapped is None else world.nomis_courses.courses.get(int(mapped[0]))


def _verify_allocations(world: World, found: Discrepancies) -> None:
    for entity in world.published.of("allocation"):
        found.count("allocation")
        allocation = world.activities.allocations.get(int(entity.dps_id))
        if allocation is None:
            continue
        newest = world.activities.allocations_of(allocation.schedule_id, allocation.prisoner_number)[-1]
        course = _course_of(world, allocation.schedule_id)
        rows = [] if course is None else world.nomis_courses.allocations_of.get((course.id, allocation.booking_id), [])
        if not rows:
            found.add("allocation", allocation.id, discrepancies.MISSING, booking_id=allocation.booking_id)
        elif len(rows) > 1:
            found.add("allocation", allocation.id, discrepancies.DUPLICATE, nomis_ids=[row.id for row in rows])
        elif newest is allocation:
            found.compare("allocation", allocation.id, expected_allocation(allocation), _held_allocation(rows[0]))


def expected_allocation(allocation: DpsAllocation) -> dict[str, object]:
    """The NOMIS row that an allocation must have.

    The row has a comment about the end of the allocation only if there is an end date, and a comment about a suspension
    only if there is no end date.
    """
    ended, suspended = allocation.status == "ENDED", allocation.status in SUSPENDED
    comment = None
    if allocation.end is not None:
        if ended:
            comment = _comment("Deallocated", allocation.ended_by, allocation.ended_at, allocation.ended_why)
    elif suspended:
        word = "SUSPENDED_WITH_PAY" if allocation.status == "SUSPENDED_WITH_PAY" else "Suspended"
        comment = _comment(word, allocation.suspended_by, allocation.suspended_at, allocation.suspended_why)
    return {
        "band": str(allocation.band),
        "end": allocation.end,
        "end_reason": "PRG_END" if ended else None,
        "comment": discrepancies.held(comment, discrepancies.COMMENT_BYTES),
        "suspended": suspended,
    }


def _comment(what: str, who: str | None, when: datetime | None, why: str | None) -> str:
    moment = "null" if when is None else when.strftime("%Y-%m-%d %H:%M:%S")
    return f"{what} in DPS by {who or 'null'} at {moment} for reason {why or 'null'}"


def _held_allocation(row: Allocation) -> dict[str, object]:
    return {
        "band": row.band,
        "end": row.end,
        "end_reason": row.end_reason,
        "comment": row.comment,
        "suspended": row.suspended,
    }


def _verify_attendances(world: World, found: Discrepancies) -> None:
    for entity in world.published.of("attendance"):
        found.count("attendance")
        attendance = world.activities.attendances.get(int(entity.dps_id))
        allocation = None if attendance is None else world.activities.allocation_of(attendance)
        if attendance is None or allocation is None:
            continue
        instance = world.activities.instances[attendance.instance_id]
        course = _course_of(world, instance.schedule_id)
        session = None if course is None else course.sessions.get((instance.day, instance.start, instance.end))
        rows = (
            [] if session is None else world.nomis_courses.attendances_of.get((session.id, allocation.booking_id), [])
        )
        if not rows:
            found.add("attendance", attendance.id, discrepancies.MISSING, booking_id=allocation.booking_id)
        elif len(rows) > 1:
            found.add("attendance", attendance.id, discrepancies.DUPLICATE, nomis_ids=[row.event_id for row in rows])
        else:
            found.compare(
                "attendance", attendance.id, expected_attendance(attendance, instance.day), _held_attendance(rows[0])
            )


def expected_attendance(attendance: DpsAttendance, day: date = date.max) -> dict[str, object]:
    """The NOMIS row that an attendance at a session on `day` must have.

    An attendance that nobody has recorded expires once `day` has passed, but the row may have been written earlier. A
    locked attendance keeps the status that it had in NOMIS, or expires if it was scheduled or missing there. Which of
    the two applies depends on what was written before, so either is accepted if the attendance has a reason.
    """
    paid = bool(attendance.issue_payment)
    outcome = outcome_of(attendance.reason, paid=paid)
    completed = "CANC" if attendance.reason == "CANCELLED" else "COMP"
    waiting = "SCH" if day >= london_today() else Either(("SCH", "EXP"))
    status: object = {"WAITING": waiting, "COMPLETED": completed}.get(attendance.status)
    if attendance.status == "LOCKED":
        status = "EXP" if attendance.reason is None else Either((completed, "EXP"))
    bonus = None
    if attendance.bonus is not None:
        bonus = Decimal(attendance.bonus).quantize(Decimal("0.001"), ROUND_HALF_UP)
    unexcused = outcome == "UNACAB"
    return {
        "status": status,
        "outcome": outcome,
        "comment": discrepancies.held(attendance.comment, discrepancies.COMMENT_BYTES),
        "unexcused": unexcused,
        "authorised": outcome not in {None, "ATT", "UNBEH"} and not unexcused,
        "paid": paid,
        "bonus": bonus,
    }


def outcome_of(reason: str | None, *, paid: bool) -> str | None:
    """The NOMIS outcome for the reason of an attendance, or None if there is no reason."""
    if reason is None:
        return None
    return OUTCOMES.get(reason) or (PAID_OUTCOMES if paid else UNPAID_OUTCOMES)[reason]


def _held_attendance(row: Attendance) -> dict[str, object]:
    return {
        "status": row.status,
        "outcome": row.outcome,
        "comment": row.comment,
        "unexcused": row.unexcused,
        "authorised": row.authorised,
        "paid": row.paid,
        "bonus": row.bonus,
    }
