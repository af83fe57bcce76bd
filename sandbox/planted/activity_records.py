"""Makes schedules on both sides, and allocations and yesterday's attendances for one booking at a time."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from sandbox.clock import london_today
from sandbox.dps.activities import SUSPENDED, DpsAllocation, DpsAttendance, Instance, Schedule
from sandbox.nomis.attendances import upsert_attendance
from sandbox.nomis.bodies import Fields
from sandbox.population.people import Prisoner, new_offender_no
from sandbox.traffic.activities import allocate_in_nomis, hold_on_both_sides
from sandbox.traffic.schedules import ScheduleMaker
from sandbox.traffic.steps import planted_bookings

if TYPE_CHECKING:
    from sandbox.nomis.attendances import Attendance
    from sandbox.world import World

PEOPLE_OF_A_SCHEDULE: Final = 40
FEWEST_SCHEDULES: Final = 2
#: The first of the booking ids that NOMIS does not have. DPS may keep such ids after a refresh of the NOMIS data.
UNKNOWN_BOOKINGS: Final = 9_900_001


class Place(NamedTuple):
    """A schedule that both sides hold, with yesterday's session and the id of its NOMIS course."""

    schedule: Schedule
    course_id: int
    yesterday: Instance

    @property
    def prison_id(self) -> str:
        """The id of the prison at which the activity takes place."""
        return self.schedule.activity.prison_id


class ActivityRecords:
    """Makes the activity records of a world: allocations, attendances, and schedules at each prison with activities."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.yesterday = london_today() - timedelta(days=1)
        self.places = self._make_places()
        planted = planted_bookings(world)
        with_activities = [each for each in world.prisoners if each.active and each.prison_id in self.places]
        self.people = [each for each in with_activities if each.booking_id not in planted]
        self.others = [each for each in with_activities if each.booking_id in planted]
        chance.shuffle(self.people)
        self.unknown_bookings = iter(range(UNKNOWN_BOOKINGS, 10 * UNKNOWN_BOOKINGS))

    def _make_places(self) -> dict[str, list[Place]]:
        people: dict[str, int] = defaultdict(int)
        for prisoner in self.world.prisoners:
            if prisoner.active and prisoner.prison_id in self.world.rollout.activities:
                people[prisoner.prison_id] += 1
        maker = ScheduleMaker(self.world, self.chance)
        return {
            prison_id: [
                self._make_place(maker, prison_id) for _ in range(max(FEWEST_SCHEDULES, count // PEOPLE_OF_A_SCHEDULE))
            ]
            for prison_id, count in sorted(people.items())
        }

    def _make_place(self, maker: ScheduleMaker, prison_id: str) -> Place:
        """Makes a schedule on both sides; it has a session yesterday, even if that was a Saturday or Sunday."""
        schedule = maker.schedule(prison_id)
        session = next((each for each in schedule.instances if each.day == self.yesterday), None)
        if session is None:
            slot = schedule.slots[0]
            session = self.world.activities.add_instance(schedule, self.yesterday, slot.start, slot.end)
        return Place(schedule, hold_on_both_sides(self.world, schedule), session)

    def _place(self, prison_id: str) -> Place:
        return self.chance.choice(self.places[prison_id])

    def _place_elsewhere(self, prisoner: Prisoner) -> Place:
        others = [prison_id for prison_id in self.places if prison_id != prisoner.prison_id]
        if not others:
            raise ValueError("only one prison with activities has prisoners: increase `prisoners`")
        return self._place(self.chance.choice(others))

    def _somebody(self) -> Prisoner:
        """Returns a prisoner who has no records yet, and reserves their booking; no prisoner is returned twice."""
        if not self.people:
            raise ValueError("there are fewer prisoners than differences to plant in activities: increase `prisoners`")
        found = self.people.pop()
        self.world.reserved.add(found.booking_id)
        return found

    def _newcomer(self) -> Prisoner:
        """Makes a person who has no records in other domains, so that their release or move does not affect those."""
        prison_id = self.chance.choice(sorted(self.places))
        made = Prisoner(new_offender_no(self.world, self.chance), self.world.new_booking_id(), prison_id)
        self.world.add_old_booking(made)
        return made

    @property
    def _start(self) -> date:
        return self.yesterday - timedelta(days=3)

    def _band(self, place: Place) -> int:
        return place.schedule.activity.pay[0].band

    def _allocate(
        self, prisoner: Prisoner, place: Place, *, status: str = "ACTIVE", in_nomis: bool = True
    ) -> DpsAllocation:
        """Makes an allocation in DPS and, if `in_nomis` is set, an allocation in NOMIS that agrees with it."""
        allocation = DpsAllocation(
            id=next(self.world.activities.allocation_ids),
            schedule_id=place.schedule.id,
            prisoner_number=prisoner.offender_no,
            booking_id=prisoner.booking_id,
            band=self._band(place),
            start=self._start,
        )
        self.world.activities.add_allocation(allocation)
        if status in SUSPENDED:
            self._suspend_in_dps(allocation, status)
        if in_nomis:
            self._write(prisoner, place, allocation, suspended=status in SUSPENDED)
        return allocation

    def _write(self, prisoner: Prisoner, place: Place, allocation: DpsAllocation, **more: object) -> None:
        """Writes an allocation to NOMIS as if the prisoner were still at the prison of `place`."""
        now_at, prisoner.prison_id = prisoner.prison_id, place.prison_id
        allocate_in_nomis(self.world, place.course_id, allocation, **more)
        prisoner.prison_id = now_at

    def _suspend_in_dps(self, allocation: DpsAllocation, status: str) -> None:
        allocation.status = status
        allocation.suspended_by, allocation.suspended_why = "Activities Management Service", "Temporarily absent"
        allocation.suspended_at = datetime.combine(self.yesterday, time(13))

    def _end_in_dps(self, allocation: DpsAllocation) -> None:
        allocation.status, allocation.end = "ENDED", self.yesterday
        allocation.ended_by, allocation.ended_why = "Activities Management Service", "Allocation end date reached"
        allocation.ended_at = datetime.combine(self.yesterday, time(22))

    def _attend(
        self, allocation: DpsAllocation, place: Place, *, paid: bool = True, in_nomis: bool = True
    ) -> DpsAttendance:
        """Makes yesterday's attendance in DPS and, if `in_nomis` is set, an attendance in NOMIS that agrees with it."""
        made = DpsAttendance(
            id=next(self.world.activities.attendance_ids),
            instance_id=place.yesterday.id,
            prisoner_number=allocation.prisoner_number,
            status="COMPLETED",
            reason="ATTENDED" if paid else "REFUSED",
            pay=place.schedule.activity.pay[0].rate if paid else None,
            issue_payment=paid,
        )
        self.world.activities.attendances[made.id] = made
        if in_nomis:
            self._pay_in_nomis(place, allocation.booking_id, paid=paid)
        return made

    def _pay_in_nomis(self, place: Place, booking_id: int, *, paid: bool) -> None:
        session = place.yesterday
        body = {
            "scheduleDate": session.day.isoformat(),
            "startTime": session.start.strftime("%H:%M"),
            "endTime": session.end.strftime("%H:%M"),
            "eventStatusCode": "COMP",
            "eventOutcomeCode": "ATT" if paid else "UNACAB",
            "unexcusedAbsence": not paid,
            "paid": paid,
        }
        upsert_attendance(self.world, place.course_id, booking_id, Fields(body), arrived=0.0)

    def _nomis_attendances(self, place: Place, booking_id: int) -> list[Attendance]:
        attendances = self.world.nomis_courses.attendances.values()
        return [each for each in attendances if (each.course_id, each.booking_id) == (place.course_id, booking_id)]
