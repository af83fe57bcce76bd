"""Makes and changes schedules in ways NOMIS accepts: past sessions stay as they are, and no pay band in use is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, time, timedelta
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_today
from sandbox.dps.activities import Activity, Pay, Schedule, Slot
from sandbox.nomis.bodies import PROGRAMS
from sandbox.traffic.steps import Step

if TYPE_CHECKING:
    from sandbox.world import World

SUMMARIES: Final = (
    "Maths level 1",
    "English for speakers of other languages, entry",
    "Gym induction",
    "Kitchen and servery work on the house block",
    "Woodwork",
    "Thinking skills",
    "Library orderly",
    "Gardens and grounds maintenance party B",
)
TIMES: Final = ((time(8, 30), time(11, 45)), (time(13, 45), time(16, 45)), (time(17, 30), time(19, 15)))
DAYS_BACK: Final = 6
DAYS_AHEAD: Final = 14
LEVELS: Final = ("BAS", "STD", "ENH")
SATURDAY: Final = 5


class ScheduleMaker:
    """Makes schedules for prisons, and the events about those schedules."""

    def __init__(self, world: World, chance: random.Random) -> None:
        """Takes all random numbers from `chance`."""
        self._world, self._chance = world, chance
        self._summaries = 0

    def schedule(self, prison_id: str) -> Schedule:
        """Returns a new schedule with its sessions; the activities API does not show the schedule yet.

        It has a session on each weekday of the `DAYS_BACK` days before today and of the `DAYS_AHEAD` days from today.
        """
        held, chance = self._world.activities, self._chance
        today = london_today()
        bands = sorted(chance.sample(range(1, 11), chance.randint(1, 3)))
        self._summaries += 1
        activity = Activity(
            id=next(held.activity_ids),
            prison_id=prison_id,
            summary=f"{chance.choice(SUMMARIES)} {self._summaries}",
            category=chance.choice(PROGRAMS),
            start=today - timedelta(days=DAYS_BACK),
            end=None if chance.random() < 0.7 else today + timedelta(days=200),
            level=chance.choice(LEVELS[:2]),
            pay_per_session=chance.choice("HHHF"),
            pay=[Pay(level, band, chance.randint(25, 350)) for level in LEVELS for band in bands],
        )
        start, end = chance.choice(TIMES)
        schedule = Schedule(
            id=next(held.schedule_ids),
            activity=activity,
            description=f"{activity.summary}, house block {chance.randint(1, 6)}",
            capacity=chance.randint(1, 120),
            start=activity.start,
            end=activity.end,
            runs_on_bank_holiday=chance.random() < 0.3,
            location_id=chance.choice([None, *(room.id for room in self._world.places.in_prison(prison_id))]),
            slots=[Slot(start, end, tuple(day < SATURDAY for day in range(7)))],
        )
        for offset in range(-DAYS_BACK, DAYS_AHEAD):
            day = today + timedelta(days=offset)
            if day.weekday() < SATURDAY:
                held.add_instance(schedule, day, start, end)
        return schedule

    def created(self, schedule: Schedule) -> Step:
        """The step that makes a new schedule readable and publishes its event."""
        return self._step(schedule, "create", "created", lambda: hold(self._world, schedule))

    def amended(self, schedule: Schedule) -> Step:
        """A step that makes a random change to a schedule and publishes its event."""
        chance = self._chance
        changes: tuple[Callable[[], Callable[[], None]], ...] = (
            lambda: self._capacity(schedule, chance.randint(1, 120)),
            lambda: self._rates(schedule, chance.randint(25, 350)),
            lambda: self._bands(schedule, chance.randint(1, 10), chance.randint(25, 350)),
            lambda: self._summary(schedule),
            lambda: self._another_session(schedule, chance.choice(TIMES)),
            lambda: self._end(schedule, london_today() + timedelta(days=chance.randint(30, 300))),
        )
        return self._step(schedule, "update", "amended", chance.choice(changes)())

    def _capacity(self, schedule: Schedule, capacity: int) -> Callable[[], None]:
        def change() -> None:
            schedule.capacity = capacity

        return change

    def _rates(self, schedule: Schedule, rate: int) -> Callable[[], None]:
        def change() -> None:
            activity = schedule.activity
            activity.pay = [
                Pay(line.level, line.band, rate if line.level == "ENH" else line.rate) for line in activity.pay
            ]

        return change

    def _bands(self, schedule: Schedule, band: int, rate: int) -> Callable[[], None]:
        def change() -> None:
            activity = schedule.activity
            others = [line for line in activity.pay if (line.level, line.band) != ("ENH", band)]
            activity.pay = [*others, Pay("ENH", band, rate)]

        return change

    def _summary(self, schedule: Schedule) -> Callable[[], None]:
        self._summaries += 1
        summary = f"{self._chance.choice(SUMMARIES)} {self._summaries}"

        def change() -> None:
            schedule.activity.summary = summary

        return change

    def _another_session(self, schedule: Schedule, times: tuple[time, time]) -> Callable[[], None]:
        """Returns a change that adds a session on the day after the last one; existing sessions stay as they are."""
        start, end = times

        def change() -> None:
            last = max((each.day for each in schedule.instances), default=london_today())
            self._world.activities.add_instance(schedule, last + timedelta(days=1), start, end)

        return change

    def _end(self, schedule: Schedule, day: date) -> Callable[[], None]:
        def change() -> None:
            schedule.end = schedule.activity.end = day

        return change

    def _step(self, schedule: Schedule, kind: str, what: str, change: Callable[[], None]) -> Step:
        event_type = f"activities.activity-schedule.{what}"
        return Step("activity", schedule.id, kind, event_type, {"activityScheduleId": schedule.id}, change)


def hold(world: World, schedule: Schedule) -> None:
    """Makes a schedule and its activity readable in the activities API."""
    world.activities.activities[schedule.activity.id] = schedule.activity
    world.activities.schedules[schedule.id] = schedule
