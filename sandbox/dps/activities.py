"""What the activities API holds: activities with pay, schedules with their sessions, allocations and attendances."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Final

DAY_NAMES: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
#: The statuses of an allocation that is suspended.
SUSPENDED: Final = frozenset({"SUSPENDED", "AUTO_SUSPENDED", "SUSPENDED_WITH_PAY"})


@dataclass(frozen=True, slots=True)
class Pay:
    """One pay line: the rate, in pence per session, for an incentive level and a NOMIS pay band."""

    level: str
    band: int
    rate: int


@dataclass(frozen=True, slots=True)
class Slot:
    """The times of a schedule's sessions; `days` says whether each day of the week, from Monday, has a session."""

    start: time
    end: time
    days: tuple[bool, ...]


@dataclass(slots=True)
class Activity:
    """One activity of a prison; in the sandbox it has a single schedule."""

    id: int
    prison_id: str
    summary: str
    category: str
    start: date
    end: date | None
    level: str
    pay_per_session: str
    pay: list[Pay]


@dataclass(slots=True)
class Instance:
    """One dated session of a schedule; `cancelled` says whether it is cancelled."""

    id: int
    schedule_id: int
    day: date
    start: time
    end: time
    cancelled: bool = False


@dataclass(slots=True)
class Schedule:
    """When and where an activity takes place."""

    id: int
    activity: Activity
    description: str
    capacity: int
    start: date
    end: date | None
    runs_on_bank_holiday: bool
    location_id: int | None
    slots: list[Slot]
    instances: list[Instance] = field(default_factory=list)


@dataclass(slots=True)
class DpsAllocation:
    """The allocation of a prisoner to a schedule; times are local.

    If the allocation ends or is suspended, the `ended_*` or `suspended_*` fields are set together with `status`.
    """

    id: int
    schedule_id: int
    prisoner_number: str
    booking_id: int
    band: int
    start: date
    end: date | None = None
    status: str = "ACTIVE"
    ended_by: str | None = None
    ended_at: datetime | None = None
    ended_why: str | None = None
    suspended_by: str | None = None
    suspended_at: datetime | None = None
    suspended_why: str | None = None


@dataclass(slots=True)
class DpsAttendance:
    """The attendance of a prisoner at an instance, with its status, reason and pay."""

    id: int
    instance_id: int
    prisoner_number: str
    status: str = "WAITING"
    reason: str | None = None
    comment: str | None = None
    pay: int | None = None
    bonus: int | None = None
    issue_payment: bool | None = None


class ActivitiesState:
    """Everything that the activities API holds about activities.

    Each kind of record has its own sequence of ids.
    """

    def __init__(self) -> None:
        """Starts without activities."""
        self.activities: dict[int, Activity] = {}
        self.schedules: dict[int, Schedule] = {}
        self.instances: dict[int, Instance] = {}
        self.allocations: dict[int, DpsAllocation] = {}
        self.attendances: dict[int, DpsAttendance] = {}
        self._allocations_of: dict[tuple[int, str], list[DpsAllocation]] = {}
        self.activity_ids = itertools.count(201)
        self.schedule_ids = itertools.count(318)
        self.instance_ids = itertools.count(40_188)
        self.allocation_ids = itertools.count(6_120)
        self.attendance_ids = itertools.count(220_145)

    def add_instance(self, schedule: Schedule, day: date, start: time, end: time) -> Instance:
        """Adds a dated session to a schedule, and returns the session."""
        made = Instance(next(self.instance_ids), schedule.id, day, start, end)
        self.instances[made.id] = made
        schedule.instances.append(made)
        return made

    def add_allocation(self, allocation: DpsAllocation) -> None:
        """Adds an allocation, and indexes it by its id, and also by its schedule and prisoner."""
        self.allocations[allocation.id] = allocation
        self._allocations_of.setdefault((allocation.schedule_id, allocation.prisoner_number), []).append(allocation)

    def allocations_of(self, schedule_id: int, prisoner_number: str) -> list[DpsAllocation]:
        """A prisoner's allocations to a schedule, oldest first."""
        return self._allocations_of.get((schedule_id, prisoner_number), [])

    def allocation_of(self, attendance: DpsAttendance) -> DpsAllocation | None:
        """The allocation that gives an attendance its booking: the prisoner's newest allocation to the schedule."""
        found = self.allocations_of(self.instances[attendance.instance_id].schedule_id, attendance.prisoner_number)
        return found[-1] if found else None
