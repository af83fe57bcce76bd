"""Activities as prisons run them: schedules with their sessions, allocations and attendances."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_now, london_today
from sandbox.dps.activities import DpsAllocation, DpsAttendance, Instance, Pay, Schedule
from sandbox.nomis.allocations import upsert_allocation
from sandbox.nomis.bodies import Fields
from sandbox.nomis.courses import DAYS, create_course
from sandbox.traffic.schedules import ScheduleMaker, hold
from sandbox.traffic.steps import People, Scenario, Step
from sandbox.verification.activities import PREFIX, SUMMARY_LENGTH

if TYPE_CHECKING:
    from sandbox.population.people import Prisoner
    from sandbox.world import World

REASONS: Final = (
    *("ATTENDED",) * 4,
    "SICK",
    "REFUSED",
    "NOT_REQUIRED",
    "REST",
    "CLASH",
    "OTHER",
    "SUSPENDED",
    "CANCELLED",
)
STAFF: Final = ("A.JONES", "SMITH_GEN", "Activities Management Service")
ALLOCATIONS_OF_A_SCHEDULE: Final = 12
SHARES: Final = {
    "attendance": 60,
    "allocation": 18,
    "settled_allocation": 8,
    "schedule": 7,
    "settled_schedule": 4,
    "session": 3,
}


class ActivityScenarios:
    """Scenarios of activities; most are attendances at sessions whose schedules count as synchronised earlier.

    Except in a `chain`, where each event depends on the one before, a new schedule gets no allocations, so that no
    scenario waits for another.
    """

    def __init__(self, world: World, people: People, chance: random.Random) -> None:
        """Takes all random numbers from `chance`."""
        self._world, self._people, self._chance = world, people, chance
        self._maker = ScheduleMaker(world, chance)
        self._schedules: list[Schedule] = []
        self._allocated: list[DpsAllocation] = []
        self._pairs: set[tuple[int, str]] = set()
        self._seats: list[tuple[DpsAllocation, Instance]] = []
        self._cancelled: set[int] = set()

    def scenario(self) -> Scenario:
        """A scenario of a random kind."""
        kinds: dict[str, Callable[[], Scenario]] = {
            "attendance": self._attendance_scenario,
            "allocation": self._allocation_scenario,
            "settled_allocation": self._settled_allocation_scenario,
            "schedule": self._schedule_scenario,
            "settled_schedule": self._settled_schedule_scenario,
            "session": self._session_scenario,
        }
        drawn = self._chance.choices(list(SHARES), list(SHARES.values()))[0]
        return kinds[drawn]()

    def chain(self) -> Scenario:
        """A new schedule, an allocation to it and an attendance for that allocation; each depends on the one before."""
        schedule = self._maker.schedule(self._people.prison())
        allocation = self._new_allocation(
            schedule, self._chance.choice(self._people.in_prison(schedule.activity.prison_id))
        )
        attendance = self._new_attendance(allocation, schedule.instances[0])
        return [
            self._maker.created(schedule),
            self._step("allocation", allocation.id, "create", "prisoner.allocated", lambda: self._hold(allocation)),
            self._attendance(attendance, "create", lambda: self._attend(attendance)),
        ]

    def _schedule_scenario(self) -> Scenario:
        schedule = self._maker.schedule(self._people.prison())
        scenario = [self._maker.created(schedule)]
        if self._chance.random() < 0.5:
            scenario.extend(self._maker.amended(schedule) for _ in range(self._chance.randint(1, 3)))
        return scenario

    def _settled_schedule_scenario(self) -> Scenario:
        schedule = self._a_schedule()
        return [self._maker.amended(schedule) for _ in range(self._chance.randint(1, 2))]

    def _session_scenario(self) -> Scenario:
        """Cancels a future session of a random schedule, and perhaps restores it.

        If the schedule has no session left to cancel, the scenario is an attendance instead.
        """
        schedule = self._a_schedule()
        open_sessions = [
            each for each in schedule.instances if each.day > london_today() and each.id not in self._cancelled
        ]
        if not open_sessions:
            return self._attendance_scenario()
        instance = self._chance.choice(open_sessions)
        self._cancelled.add(instance.id)
        scenario = [self._session(instance, cancelled=True)]
        if self._chance.random() < 0.3:
            scenario.append(self._session(instance, cancelled=False))
        return scenario

    def _allocation_scenario(self) -> Scenario:
        schedule, prisoner = self._free_place()
        allocation = self._new_allocation(schedule, prisoner)
        scenario = [
            self._step("allocation", allocation.id, "create", "prisoner.allocated", lambda: self._hold(allocation))
        ]
        if self._chance.random() < 0.3:
            scenario.append(self._allocation_amended(allocation))
        return scenario

    def _settled_allocation_scenario(self) -> Scenario:
        self._fill()
        allocation = self._chance.choice(self._allocated)
        return [self._allocation_amended(allocation) for _ in range(self._chance.randint(1, 2))]

    def _attendance_scenario(self) -> Scenario:
        self._fill()
        allocation, instance = self._seats.pop(self._chance.randrange(len(self._seats)))
        attendance = self._new_attendance(allocation, instance)
        scenario = [self._attendance(attendance, "create", lambda: self._attend(attendance))]
        drawn = self._chance.random()
        if drawn < 0.5:
            scenario.append(self._marked(attendance))
        if drawn < 0.1:
            scenario.append(self._marked(attendance))
        return scenario

    def _a_schedule(self) -> Schedule:
        self._fill()
        return self._chance.choice(self._schedules)

    def _fill(self) -> None:
        """Adds a settled schedule with settled allocations if no session is left that needs an attendance."""
        if self._seats:
            return
        prison_id = self._people.prison()
        schedule = self._maker.schedule(prison_id)
        settle_schedule(self._world, schedule)
        self._schedules.append(schedule)
        people = self._people.in_prison(prison_id)
        for prisoner in self._chance.sample(people, min(ALLOCATIONS_OF_A_SCHEDULE, len(people))):
            allocation = self._new_allocation(schedule, prisoner)
            settle_allocation(self._world, allocation)
            self._allocated.append(allocation)
            self._seats.extend((allocation, each) for each in schedule.instances if each.day <= london_today())

    def _free_place(self) -> tuple[Schedule, Prisoner]:
        """Returns a settled schedule, and a prisoner in the same prison who has no allocation to that schedule."""
        self._fill()
        for schedule in self._chance.sample(self._schedules, len(self._schedules)):
            for prisoner in self._people.in_prison(schedule.activity.prison_id):
                if (schedule.id, prisoner.offender_no) not in self._pairs:
                    return schedule, prisoner
        schedule = self._maker.schedule(self._people.prison())
        settle_schedule(self._world, schedule)
        self._schedules.append(schedule)
        return schedule, self._chance.choice(self._people.in_prison(schedule.activity.prison_id))

    def _new_allocation(self, schedule: Schedule, prisoner: Prisoner) -> DpsAllocation:
        self._pairs.add((schedule.id, prisoner.offender_no))
        return DpsAllocation(
            id=next(self._world.activities.allocation_ids),
            schedule_id=schedule.id,
            prisoner_number=prisoner.offender_no,
            booking_id=prisoner.booking_id,
            band=self._chance.choice(schedule.activity.pay).band,
            # The allocation starts as early as the schedule, since a prisoner cannot attend a session without an
            # allocation.
            start=schedule.start,
        )

    def _new_attendance(self, allocation: DpsAllocation, instance: Instance) -> DpsAttendance:
        number = next(self._world.activities.attendance_ids)
        return DpsAttendance(number, instance.id, allocation.prisoner_number)

    def _allocation_amended(self, allocation: DpsAllocation) -> Step:
        schedule = self._world.activities.schedules[allocation.schedule_id]
        who, when = self._chance.choice(STAFF), london_now().replace(microsecond=0)
        drawn = self._chance.random()
        values: dict[str, object] = {
            "status": "ACTIVE",
            "suspended_by": None,
            "suspended_at": None,
            "suspended_why": None,
        }
        if drawn < 0.3:
            status = self._chance.choice(("SUSPENDED", "AUTO_SUSPENDED"))
            values = {
                "status": status,
                "suspended_by": who,
                "suspended_at": when,
                "suspended_why": "Temporarily absent",
            }
        elif drawn < 0.6:
            values["band"] = self._chance.choice(_held_bands(schedule.activity.pay))
        elif drawn < 0.8:
            values.update(
                status="ENDED", end=london_today(), ended_by=who, ended_at=when, ended_why="Completed the course"
            )
        else:
            values["end"] = london_today() + timedelta(days=self._chance.randint(5, 60))
        if values["status"] != "ENDED":
            values |= {"ended_by": None, "ended_at": None, "ended_why": None} | (
                {} if "end" in values else {"end": None}
            )
        return self._step(
            "allocation", allocation.id, "update", "prisoner.allocation-amended", lambda: _set(allocation, values)
        )

    def _marked(self, attendance: DpsAttendance) -> Step:
        """Returns a step that records whether the prisoner attended or, one time in ten, locks the attendance."""
        values: dict[str, object] = {"status": "LOCKED"}
        if self._chance.random() < 0.9:
            paid = self._chance.random() < 0.7
            values = {
                "status": "COMPLETED",
                "reason": self._chance.choice(REASONS),
                "issue_payment": paid,
                "pay": 100 if paid else None,
                "bonus": self._chance.choice((None, None, None, 50)) if paid else None,
                "comment": self._chance.choice((None, None, "Left early")),
            }
        return self._attendance(attendance, "update", lambda: _set(attendance, values))

    def _attendance(self, attendance: DpsAttendance, kind: str, change: Callable[[], None]) -> Step:
        event_type = "prisoner.attendance-created" if kind == "create" else "prisoner.attendance-amended"
        return self._step("attendance", attendance.id, kind, event_type, change)

    def _session(self, instance: Instance, *, cancelled: bool) -> Step:
        return self._step(
            "session",
            instance.id,
            "update",
            "scheduled-instance.amended",
            lambda: _set(instance, {"cancelled": cancelled}),
        )

    def _step(self, domain: str, dps_id: int, kind: str, event_type: str, change: Callable[[], None]) -> Step:
        key = {"session": "scheduledInstanceId"}.get(domain, f"{domain}Id")
        return Step(domain, dps_id, kind, f"activities.{event_type}", {key: dps_id}, change)

    def _hold(self, allocation: DpsAllocation) -> None:
        self._world.activities.add_allocation(allocation)

    def _attend(self, attendance: DpsAttendance) -> None:
        self._world.activities.attendances[attendance.id] = attendance


def _held_bands(pay: list[Pay]) -> list[int]:
    return sorted({line.band for line in pay})


def _set(record: object, values: dict[str, object]) -> None:
    for name, value in values.items():
        setattr(record, name, value)


if TYPE_CHECKING:
    from sandbox.dps.activities import Slot
    from sandbox.world import World


def settle_schedule(world: World, schedule: Schedule) -> None:
    """Stores a schedule on both sides with its mapping, as if its event had been published long ago."""
    hold_on_both_sides(world, schedule)
    world.published.record("activity", schedule.id, "created")


def hold_on_both_sides(world: World, schedule: Schedule) -> int:
    """Stores a schedule on both sides with its mapping, and returns the id of its course in NOMIS."""
    hold(world, schedule)
    activity = schedule.activity
    body = {
        "code": str(schedule.id),
        "startDate": schedule.start.isoformat(),
        "endDate": None if schedule.end is None else schedule.end.isoformat(),
        "prisonId": activity.prison_id,
        "internalLocationId": schedule.location_id,
        "capacity": schedule.capacity,
        "payRates": [
            {"incentiveLevel": line.level, "payBand": str(line.band), "rate": line.rate / 100} for line in activity.pay
        ],
        "description": PREFIX + activity.summary[:SUMMARY_LENGTH],
        "minimumIncentiveLevelCode": activity.level,
        "programCode": activity.category,
        "payPerSession": activity.pay_per_session,
        "schedules": [
            {
                "date": each.day.isoformat(),
                "startTime": each.start.strftime("%H:%M"),
                "endTime": each.end.strftime("%H:%M"),
                "cancelled": each.cancelled,
            }
            for each in schedule.instances
        ],
        "scheduleRules": [_rule(slot) for slot in schedule.slots],
        "excludeBankHolidays": not schedule.runs_on_bank_holiday,
    }
    course = create_course(world, Fields(body))
    world.mapping.add("activities", schedule.id, (course.id,), "ACTIVITY_CREATED")
    return course.id


def settle_allocation(world: World, allocation: DpsAllocation) -> None:
    """Stores an allocation on both sides, as if its event had been published long ago. Its schedule must be settled.

    Raises:
        ValueError: the schedule is not settled.
    """
    mapped = world.mapping.nomis_id("activities", allocation.schedule_id)
    if mapped is None:
        raise ValueError(f"schedule {allocation.schedule_id} is not settled")
    world.activities.add_allocation(allocation)
    allocate_in_nomis(world, int(mapped[0]), allocation)
    world.published.record("allocation", allocation.id, "created")


def allocate_in_nomis(world: World, course_id: int, allocation: DpsAllocation, **more: object) -> None:
    """Writes an allocation to the course in NOMIS; `more` adds fields to the request, such as `suspended`."""
    body: dict[str, object] = {
        "bookingId": allocation.booking_id,
        "payBandCode": str(allocation.band),
        "startDate": allocation.start.isoformat(),
        **more,
    }
    upsert_allocation(world, course_id, Fields(body), arrived=0.0)


def _rule(slot: Slot) -> dict[str, object]:
    return {
        "startTime": slot.start.strftime("%H:%M"),
        "endTime": slot.end.strftime("%H:%M"),
        **dict(zip(DAYS, slot.days, strict=True)),
    }
