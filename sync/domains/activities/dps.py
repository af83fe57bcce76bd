"""The activities API: activities, schedules, sessions, allocations and attendances."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from sync.errors import NotUnderstood
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import Operation, one, rows, unparsed
from sync.upstream.responses import AlsoRead, LocalDateTime, LocalTime, Response, Since, parse_response
from sync.upstream.transport import ServiceClient


def _without_z(value: object) -> object:
    return value[:-1] if isinstance(value, str) and value[-1:] in ("Z", "z") else value


#: A local date-time. The activities API adds a meaningless `Z` to some date-times.
LooseLocalDateTime = Annotated[LocalDateTime, BeforeValidator(_without_z)]
PayPerSession = Literal["H", "F"]


class CategoryCode(Response):
    """A category of activities, identified by its code."""

    code: str


class PayBand(Response):
    """A pay band of a prison, identified by its number in NOMIS."""

    nomis_pay_band: int


class Pay(Response):
    """A pay line; `rate` is the pay in pence per session, or None for piece work."""

    incentive_nomis_code: str
    prison_pay_band: PayBand
    rate: int | None = None


class ActivityOfSchedule(Response):
    """The part of an activity that is included in each of its schedules."""

    id: int
    pay_per_session: PayPerSession
    minimum_incentive_nomis_code: str | None = None


class Activity(Response):
    """An activity of a prison."""

    id: int
    prison_code: str
    summary: str
    category: CategoryCode
    start_date: date
    end_date: date | None = None
    minimum_incentive_nomis_code: str | None = None
    pay: tuple[Pay, ...]


class Location(Response):
    """A location, identified by its number in NOMIS."""

    id: int


class Instance(Response):
    """One dated session of a schedule."""

    id: int
    date: date
    start_time: LocalTime
    end_time: LocalTime
    cancelled: bool


class Slot(Response):
    """The start and end times of sessions, and the days of the week on which they take place."""

    start_time: LocalTime
    end_time: LocalTime
    monday_flag: bool
    tuesday_flag: bool
    wednesday_flag: bool
    thursday_flag: bool
    friday_flag: bool
    saturday_flag: bool
    sunday_flag: bool


class Schedule(Response):
    """When and where an activity takes place."""

    id: int
    description: str
    capacity: int
    start_date: date
    end_date: date | None = None
    runs_on_bank_holiday: bool
    internal_location: Location | None = None
    instances: tuple[Instance, ...]
    slots: tuple[Slot, ...]
    activity: ActivityOfSchedule


class ScheduleOfInstance(Response):
    """The part of a schedule that is included in each of its sessions."""

    id: int


class ScheduledInstance(Instance):
    """One dated session together with its schedule."""

    activity_schedule: ScheduleOfInstance


class _Described(Response):
    description: str


def _reason(value: object) -> object:
    """A reason as text. The service sent plain text until May 2023, and now sends an object with a description."""
    return _Described.model_validate(value).description if isinstance(value, dict) else value


Reason = Annotated[str, BeforeValidator(_reason), AlsoRead(_Described)]


class PlannedDeallocation(Response):
    """Who planned the end of an allocation, when and why; only newer versions of the service give this."""

    planned_by: str | None = None
    planned_at: LooseLocalDateTime | None = None
    planned_reason: Reason | None = None


class Allocation(Response):
    """A prisoner's place on a schedule. It is unpaid if it has no pay band. Times are in London time."""

    id: int
    prisoner_number: str
    booking_id: int
    schedule_id: int
    start_date: date
    end_date: date | None = None
    prison_pay_band: PayBand | None = None
    status: str
    deallocated_by: str | None = None
    deallocated_time: LooseLocalDateTime | None = None
    deallocated_reason: Reason | None = None
    planned_deallocation: Annotated[PlannedDeallocation | None, Since("2025-09")] = None
    suspended_by: str | None = None
    suspended_time: LooseLocalDateTime | None = None
    suspended_reason: Reason | None = None


class _Row(Response):
    """The ids in one row of a list of allocations; any of them may be missing."""

    id: Any = None
    booking_id: Any = None
    prisoner_number: Any = None

    def may_follow(self, allocation: Allocation) -> bool:
        """Whether this row is, or may be, an allocation that was made after `allocation` for the same booking."""
        if isinstance(self.id, int) and self.id <= allocation.id:
            return False
        if self.booking_id is not None:
            return str(self.booking_id) == str(allocation.booking_id)
        return self.prisoner_number in (None, allocation.prisoner_number)


class Attendance(Response):
    """A prisoner's attendance at a session; `bonus_amount` is the number that the service gives, unchanged."""

    attendance_id: int
    scheduled_instance_id: int
    activity_schedule_id: int
    session_date: date
    session_start_time: LocalTime
    session_end_time: LocalTime
    prisoner_number: str
    booking_id: int
    attendance_reason_code: str | None = None
    comment: str | None = None
    status: str
    bonus_amount: int | None = None
    issue_payment: bool | None = None


class PrisonerAllocations(Response):
    """The allocations of a prisoner."""

    prisoner_number: str
    allocations: tuple[Allocation, ...]


class AttendanceOfDay(Response):
    """One attendance in the list for a prison and a day."""

    attendance_id: int
    prisoner_number: str
    status: str
    attendance_reason_code: str | None = None
    issue_payment: bool | None = None


SCHEDULE = Operation(UpstreamName.ACTIVITIES, "GET", "/schedules/{scheduleId}", one(Schedule))
ACTIVITY = Operation(UpstreamName.ACTIVITIES, "GET", "/activities/{activityId}", one(Activity))
SCHEDULED_INSTANCE = Operation(
    UpstreamName.ACTIVITIES, "GET", "/scheduled-instances/{instanceId}", one(ScheduledInstance)
)
ALLOCATION = Operation(UpstreamName.ACTIVITIES, "GET", "/allocations/id/{allocationId}", one(Allocation))
_ALLOCATIONS_OF_SCHEDULE = Operation(
    UpstreamName.ACTIVITIES,
    "GET",
    "/schedules/{scheduleId}/allocations",
    unparsed(Allocation, "list", none_on_404=True),
    query=("activeOnly",),
)
ATTENDANCE = Operation(
    UpstreamName.ACTIVITIES,
    "GET",
    "/synchronisation/attendance/{attendanceId}",
    one(Attendance),
    role="NOMIS_ACTIVITIES",
)
_PRISONER_ALLOCATIONS = Operation(
    UpstreamName.ACTIVITIES,
    "POST",
    "/prisons/{prisonCode}/prisoner-allocations",
    rows(PrisonerAllocations),
    body=list[str],
    query=("activeOnly",),
)
_ATTENDANCES_OF_DAY = Operation(
    UpstreamName.ACTIVITIES, "GET", "/attendances/{prisonCode}/{sessionDate}", rows(AttendanceOfDay)
)


def schedule(activities: ServiceClient, schedule_id: int) -> Schedule:
    """The schedule with the id `schedule_id`. Raises `UpstreamError`, with status 404 for an unknown id."""
    return SCHEDULE.call(activities, schedule_id, asked={"id": schedule_id})


def activity(activities: ServiceClient, activity_id: int) -> Activity:
    """The activity with the id `activity_id`. Raises `UpstreamError`, with status 404 for an unknown id."""
    return ACTIVITY.call(activities, activity_id, asked={"id": activity_id})


def scheduled_instance(activities: ServiceClient, instance_id: int) -> ScheduledInstance:
    """The session with the id `instance_id`, and its schedule.

    Raises `UpstreamError`, with status 404 for an unknown id.
    """
    return SCHEDULED_INSTANCE.call(activities, instance_id, asked={"id": instance_id})


def allocation(activities: ServiceClient, allocation_id: int) -> Allocation:
    """The allocation with the id `allocation_id`. Raises `UpstreamError`, with status 404 for an unknown id."""
    return ALLOCATION.call(activities, allocation_id, asked={"id": allocation_id})


def later_allocations(activities: ServiceClient, allocation: Allocation) -> tuple[Allocation, ...]:
    """The allocations that were made after `allocation` for the same booking and schedule.

    Of all other rows, only the ids are read, so it does no harm if the rest of such a row is malformed. Empty for an
    unknown schedule. Raises `UpstreamError`.
    """
    path = _ALLOCATIONS_OF_SCHEDULE.path_of(allocation.schedule_id)
    response = _ALLOCATIONS_OF_SCHEDULE.call(activities, allocation.schedule_id, query={"activeOnly": "false"})
    if response is None:
        return ()
    if not isinstance(response, list):
        raise NotUnderstood(activities.name, "GET", path, status=200, message="the response is not a list")
    found = []
    for row in response:
        if parse_response(_Row, row, activities, "GET", path).may_follow(allocation):
            later = parse_response(Allocation, row, activities, "GET", path)
            if later.id > allocation.id:
                found.append(later)
    return tuple(found)


def attendance(activities: ServiceClient, attendance_id: int) -> Attendance:
    """The attendance with the id `attendance_id`. Raises `UpstreamError`, with status 404 for an unknown id."""
    return ATTENDANCE.call(activities, attendance_id, asked={"attendanceId": attendance_id})


def prisoner_allocations(
    activities: ServiceClient, prison_id: str, prisoner_numbers: Sequence[str]
) -> dict[str, tuple[Allocation, ...]]:
    """The allocations of prisoners to a prison's activities, by prisoner number.

    Allocations that have ended are included. Prisoners without allocations are left out. Newer versions of the service
    require a role for this call. Raises `UpstreamError`.
    """
    query = {"activeOnly": "false"}
    found = _PRISONER_ALLOCATIONS.call(activities, prison_id, query=query, body=list(prisoner_numbers))
    return {each.prisoner_number: each.allocations for each in found}


def attendances_of_day(activities: ServiceClient, prison_id: str, day: date) -> tuple[AttendanceOfDay, ...]:
    """The attendances at a prison's sessions on one day. Raises `UpstreamError`."""
    return _ATTENDANCES_OF_DAY.call(activities, prison_id, day.isoformat())
