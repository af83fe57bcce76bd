"""NOMIS: course activities (with pay rates, rules and sessions), allocations and attendances."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import EMPTY, Operation, optional, written
from sync.upstream.responses import Body, Comment, Money, RecordNumber, Response
from sync.upstream.transport import ServiceClient


class PayRate(Body):
    """The pay in pounds for half a day, at one incentive level and in one pay band."""

    incentive_level: str
    pay_band: str
    rate: Money


class CourseSchedule(Body):
    """A session on one date; times have the form `HH:mm`."""

    date: date
    start_time: str
    end_time: str
    cancelled: bool


class ScheduleRule(Body):
    """The start and end times of sessions, and the days of the week on which they take place."""

    start_time: str
    end_time: str
    monday: bool
    tuesday: bool
    wednesday: bool
    thursday: bool
    friday: bool
    saturday: bool
    sunday: bool


class UpdateActivity(Body):
    """The parts of a course activity that can be changed."""

    start_date: date
    end_date: date | None
    internal_location_id: int | None
    capacity: int
    pay_rates: tuple[PayRate, ...]
    description: str
    minimum_incentive_level_code: str | None
    program_code: str
    pay_per_session: str
    schedules: tuple[CourseSchedule, ...]
    schedule_rules: tuple[ScheduleRule, ...]
    exclude_bank_holidays: bool


class CreateActivity(UpdateActivity):
    """A new course activity; its code has at most 12 characters."""

    code: str
    prison_id: str


class UpsertAllocation(Body):
    """A booking's place on a course activity. NOMIS uses the start date only for a new allocation.

    An allocation without a pay band is unpaid. NOMIS refuses unpaid allocations to some activities.
    """

    booking_id: int
    start_date: date
    end_date: date | None
    pay_band_code: str | None
    end_reason: str | None
    end_comment: Comment | None
    suspended: bool
    suspended_comment: Comment | None


class AttendanceSession(Body):
    """Identifies a session within a course activity; times have the form `HH:mm`."""

    schedule_date: date
    start_time: str
    end_time: str


class UpsertAttendance(AttendanceSession):
    """A booking's attendance at a session."""

    event_status_code: str
    event_outcome_code: str | None
    comments: Comment | None
    unexcused_absence: bool
    authorised_absence: bool
    paid: bool
    bonus_pay: Money | None


class ActivityCreated(Response):
    """The id of a new course activity."""

    course_activity_id: RecordNumber


class ScheduleUpdated(Response):
    """The id of the session that was changed."""

    course_schedule_id: RecordNumber


class AllocationUpserted(Response):
    """The id of the allocation, and whether the allocation was created rather than changed."""

    offender_program_reference_id: RecordNumber
    created: bool


class AttendanceUpserted(Response):
    """The ids of the attendance and its session, and whether the attendance was created rather than changed."""

    event_id: RecordNumber
    course_schedule_id: RecordNumber
    created: bool


class AttendanceStatus(Response):
    """The status of an attendance: a code of the reference domain `EVENT_STS`."""

    event_status: str


_ROLE = "NOMIS_ACTIVITIES"
CREATE_ACTIVITY = Operation(
    UpstreamName.NOMIS,
    "POST",
    "/activities",
    written(ActivityCreated),
    role=_ROLE,
    body=CreateActivity,
    # NOMIS has no endpoint that reads course activities.
    no_look_up=True,
)
UPDATE_ACTIVITY = Operation(
    UpstreamName.NOMIS, "PUT", "/activities/{courseActivityId}", EMPTY, role=_ROLE, body=UpdateActivity
)
DELETE_ACTIVITY = Operation(UpstreamName.NOMIS, "DELETE", "/activities/{courseActivityId}", EMPTY, role=_ROLE)
UPDATE_SCHEDULE = Operation(
    UpstreamName.NOMIS,
    "PUT",
    "/activities/{courseActivityId}/schedule",
    written(ScheduleUpdated),
    role=_ROLE,
    body=CourseSchedule,
)
UPSERT_ALLOCATION = Operation(
    UpstreamName.NOMIS,
    "PUT",
    "/activities/{courseActivityId}/allocation",
    written(AllocationUpserted),
    role=_ROLE,
    body=UpsertAllocation,
)
DELETE_ALLOCATION = Operation(UpstreamName.NOMIS, "DELETE", "/allocations/{referenceId}", EMPTY, role=_ROLE)
ATTENDANCE_STATUS = Operation(
    UpstreamName.NOMIS,
    "POST",
    "/activities/{courseActivityId}/booking/{bookingId}/attendance-status",
    optional(AttendanceStatus),
    role=_ROLE,
    body=AttendanceSession,
)
UPSERT_ATTENDANCE = Operation(
    UpstreamName.NOMIS,
    "POST",
    "/activities/{courseActivityId}/booking/{bookingId}/attendance",
    written(AttendanceUpserted),
    role=_ROLE,
    body=UpsertAttendance,
)
DELETE_ATTENDANCE = Operation(UpstreamName.NOMIS, "DELETE", "/attendances/{eventId}", EMPTY, role=_ROLE)


def create_activity(nomis: ServiceClient, body: Mapping[str, Any]) -> int:
    """Creates a course activity and returns its id. A repeated call creates another course activity.

    `body` is a `CreateActivity` as JSON.
    """
    return CREATE_ACTIVITY.call(nomis, body=body).course_activity_id


def update_activity(nomis: ServiceClient, course_activity_id: int, body: UpdateActivity) -> None:
    """Changes a course activity, including its pay rates, rules and sessions."""
    UPDATE_ACTIVITY.call(nomis, course_activity_id, body=body)


def delete_activity(nomis: ServiceClient, course_activity_id: int) -> None:
    """Deletes a course activity and everything that depends on it; an unknown id is ignored."""
    DELETE_ACTIVITY.call(nomis, course_activity_id)


def update_schedule(nomis: ServiceClient, course_activity_id: int, body: CourseSchedule) -> int:
    """Cancels a session, or reinstates a cancelled one. Returns the id of the session."""
    return UPDATE_SCHEDULE.call(nomis, course_activity_id, body=body).course_schedule_id


def upsert_allocation(nomis: ServiceClient, course_activity_id: int, body: UpsertAllocation) -> AllocationUpserted:
    """Creates or changes a booking's allocation to a course activity.

    If concurrent calls create two rows for the allocation, every later call fails.
    """
    return UPSERT_ALLOCATION.call(nomis, course_activity_id, body=body)


def delete_allocation(nomis: ServiceClient, allocation_id: int) -> None:
    """Deletes an allocation and its attendances, as a repair; an unknown id is ignored."""
    DELETE_ALLOCATION.call(nomis, allocation_id)


def attendance_status(
    nomis: ServiceClient, course_activity_id: int, booking_id: int, session: AttendanceSession
) -> str | None:
    """The status of a booking's attendance at a session, or None if NOMIS does not have the attendance."""
    found = ATTENDANCE_STATUS.call(nomis, course_activity_id, booking_id, body=session)
    return None if found is None else found.event_status


def upsert_attendance(
    nomis: ServiceClient, course_activity_id: int, booking_id: int, body: UpsertAttendance
) -> AttendanceUpserted:
    """Creates or changes a booking's attendance at a session.

    If concurrent calls create two rows for the attendance, every later call fails.
    """
    return UPSERT_ATTENDANCE.call(nomis, course_activity_id, booking_id, body=body)


def delete_attendance(nomis: ServiceClient, event_id: int) -> None:
    """Deletes an attendance, as a repair; an unknown id is ignored."""
    DELETE_ATTENDANCE.call(nomis, event_id)
