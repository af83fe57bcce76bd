"""Allocations and yesterday's attendances on both sides, and how NOMIS and the activities API come to differ in them.

A change that failed shows in every reconciliation it concerns: an allocation whose suspension did not reach NOMIS is
one too many among the active ones there, and one too few among the suspended ones.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from sandbox.aws.topic import domain_event
from sandbox.clock import london_today
from sandbox.dps.activities import SUSPENDED, DpsAllocation, DpsAttendance, Instance, Schedule
from sandbox.nomis.attendances import upsert_attendance
from sandbox.nomis.bodies import Fields
from sandbox.planted.differences import Difference, Outcome, how_many
from sandbox.population.people import Prisoner, new_offender_no
from sandbox.traffic.activities import allocate_in_nomis, hold_on_both_sides
from sandbox.traffic.schedules import ScheduleMaker
from sandbox.traffic.steps import planted_bookings

if TYPE_CHECKING:
    from sandbox.nomis.attendances import Attendance
    from sandbox.world import World

ALLOCATIONS, SUSPENDED_ALLOCATIONS, ATTENDANCES = RECONCILIATIONS = (
    "allocations",
    "suspended-allocations",
    "attendances",
)
NOMIS_ONLY, DPS_ONLY, DIFFERENT = "NOMIS_only", "DPS_only", "different_count"
#: Shares of the bookings whose counts differ: 2 in 10,000 of all; 5 in 10,000 of the 4.6 % with a suspended allocation;
#: 4 in 10,000 of the 80 % with a paid attendance on a weekday.
ALLOCATION_SHARE, SUSPENDED_SHARE, ATTENDANCE_SHARE = 0.000_2, 0.000_5 * 0.046, 0.000_4 * 0.8
ALLOCATION_CAUSES: Final = {
    "creation failed": 0.4,
    "ending failed": 0.25,
    "moved, still open in DPS": 0.1,
    "moved, still open in NOMIS": 0.1,
    "one of two creations failed": 0.15,
}
SUSPENSION_CAUSES: Final = {"suspension failed": 0.3, "resumption failed": 0.2, "suspended at another prison": 0.5}
ATTENDANCE_CAUSES: Final = {
    "attendance failed": 0.35,
    "one of two attendances failed": 0.15,
    "paid on discharge": 0.25,
    "payroll ran": 0.1,
    "paid on another booking": 0.15,
}
PEOPLE_OF_A_SCHEDULE: Final = 40
FEWEST_SCHEDULES: Final = 2
SECOND_ALLOCATION, SUSPENDED_ONES, ATTENDED, UNPAID = 0.5, 0.03, 0.75, 0.2
#: A number that no booking of NOMIS has: DPS keeps it after the data of NOMIS were refreshed.
UNKNOWN_BOOKINGS: Final = 9_900_001


class Place(NamedTuple):
    """A schedule on both sides with its session of yesterday."""

    schedule: Schedule
    course_id: int
    yesterday: Instance

    @property
    def prison_id(self) -> str:
        """The prison of the activity."""
        return self.schedule.activity.prison_id


def plant(world: World, chance: random.Random, names: frozenset[str]) -> None:
    """Make the activities of every prison that has them, with the differences of the reconciliations that are named.

    Raises:
        ValueError: fewer people than differences, or nobody in a second prison with activities.
    """
    planter = _Planter(world, chance)
    for name, causes, share in (
        (ALLOCATIONS, ALLOCATION_CAUSES, ALLOCATION_SHARE),
        (SUSPENDED_ALLOCATIONS, SUSPENSION_CAUSES, SUSPENDED_SHARE),
        (ATTENDANCES, ATTENDANCE_CAUSES, ATTENDANCE_SHARE),
    ):
        if name in names:
            for cause, count in how_many(world, len(world.prisoners), share, causes).items():
                for _ in range(count):
                    planter.causes[cause]()
            planter.special_cases(name)
    planter.agreeing(names)


class _Planter:
    """Makes the records of one booking after the other."""

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
        self.causes: dict[str, Callable[[], None]] = {
            "creation failed": self._creation_failed,
            "ending failed": self._ending_failed,
            "moved, still open in DPS": self._moved_open_in_dps,
            "moved, still open in NOMIS": self._moved_open_in_nomis,
            "one of two creations failed": self._one_creation_failed,
            "suspension failed": self._suspension_failed,
            "resumption failed": self._resumption_failed,
            "suspended at another prison": self._suspended_elsewhere,
            "attendance failed": self._attendance_failed,
            "one of two attendances failed": self._one_attendance_failed,
            "paid on discharge": self._paid_on_discharge,
            "payroll ran": self._payroll_ran,
            "paid on another booking": self._paid_on_another_booking,
        }

    def agreeing(self, names: frozenset[str]) -> None:
        """Give everybody who is left one or two allocations, and an attendance of each, that both sides agree on."""
        chance = self.chance
        for prisoner in [*self.people, *self.others]:
            count = 2 if chance.random() < SECOND_ALLOCATION else 1
            for place in chance.sample(self.places[prisoner.prison_id], count):
                if SUSPENDED_ALLOCATIONS in names and chance.random() < SUSPENDED_ONES:
                    self._allocate(prisoner, place, status=chance.choice(sorted(SUSPENDED)))
                    continue
                allocation = self._allocate(prisoner, place)
                if ATTENDANCES in names and chance.random() < ATTENDED:
                    self._attend(allocation, place, paid=chance.random() >= UNPAID)

    def special_cases(self, name: str) -> None:
        """What every world with all causes has beside them, and what is under way."""
        if self.world.options.every_cause:
            if name == SUSPENDED_ALLOCATIONS:
                self._leaves_after_listing()
            else:
                self._not_in_nomis(name)
        if name == ALLOCATIONS:
            for _ in range(self.world.options.in_flight):
                self._creation_late()
                self._event_waits()

    def _creation_failed(self) -> None:
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        self._allocate(prisoner, place, in_nomis=False)
        self._list(ALLOCATIONS, place, prisoner.booking_id, DPS_ONLY, "creation failed")

    def _ending_failed(self) -> None:
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        self._end_in_dps(self._allocate(prisoner, place))
        self._list(ALLOCATIONS, place, prisoner.booking_id, NOMIS_ONLY, "ending failed")

    def _moved_open_in_dps(self) -> None:
        prisoner = self._somebody()
        place = self._place_elsewhere(prisoner)
        self._allocate(prisoner, place, in_nomis=False)
        self._list(ALLOCATIONS, place, prisoner.booking_id, DPS_ONLY, "moved, still open in DPS")

    def _moved_open_in_nomis(self) -> None:
        prisoner = self._somebody()
        place = self._place_elsewhere(prisoner)
        self._end_in_dps(self._allocate(prisoner, place))
        self._list(ALLOCATIONS, place, prisoner.booking_id, NOMIS_ONLY, "moved, still open in NOMIS")

    def _one_creation_failed(self) -> None:
        prisoner = self._somebody()
        first, second = self.chance.sample(self.places[prisoner.prison_id], 2)
        self._allocate(prisoner, first)
        self._allocate(prisoner, second, in_nomis=False)
        self._list(ALLOCATIONS, first, prisoner.booking_id, DIFFERENT, "one of two creations failed")

    def _creation_late(self) -> None:
        """Allocate somebody a moment ago: NOMIS gets it while the prison is being reconciled."""
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        allocation = self._allocate(prisoner, place, in_nomis=False)
        late = self.world.under_way.late.setdefault(place.prison_id, [])
        late.append(lambda: allocate_in_nomis(self.world, place.course_id, allocation))
        self._list(ALLOCATIONS, place, prisoner.booking_id, DPS_ONLY, "creation late", "settles")

    def _event_waits(self) -> None:
        """Allocate somebody whose event has failed so far, and waits on a queue."""
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        allocation = self._allocate(prisoner, place, in_nomis=False)
        event = domain_event("activities.prisoner.allocated", {"allocationId": allocation.id})
        self.world.waiting.setdefault("activity", []).append(event)
        self._list(ALLOCATIONS, place, prisoner.booking_id, DPS_ONLY, "event waits", "in flight")

    def _suspension_failed(self) -> None:
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        allocation = self._allocate(prisoner, place)
        self._suspend_in_dps(allocation, "SUSPENDED")
        self._list(ALLOCATIONS, place, prisoner.booking_id, NOMIS_ONLY, "suspension failed")
        self._list(SUSPENDED_ALLOCATIONS, place, prisoner.booking_id, DPS_ONLY, "suspension failed")

    def _resumption_failed(self) -> None:
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        self._allocate(prisoner, place, status="AUTO_SUSPENDED").status = "ACTIVE"
        self._list(ALLOCATIONS, place, prisoner.booking_id, DPS_ONLY, "resumption failed")
        self._list(SUSPENDED_ALLOCATIONS, place, prisoner.booking_id, NOMIS_ONLY, "resumption failed")

    def _suspended_elsewhere(self) -> None:
        """Suspend somebody who is at another prison now, whom NOMIS does not count where the allocation is."""
        prisoner = self._somebody()
        place = self._place_elsewhere(prisoner)
        self._allocate(prisoner, place, status="AUTO_SUSPENDED")
        cause = "suspended at another prison"
        self._list(SUSPENDED_ALLOCATIONS, place, prisoner.booking_id, DPS_ONLY, cause, "ignored")

    def _leaves_after_listing(self) -> None:
        """End a suspended allocation in NOMIS alone; its prisoner moves on just after NOMIS has listed the prison."""
        prisoner = self._newcomer()
        place = self._place(prisoner.prison_id)
        allocation = self._allocate(prisoner, place)
        self._write(prisoner, place, allocation, endDate=self.yesterday.isoformat(), endReason="TRF")
        self._suspend_in_dps(allocation, "SUSPENDED")
        self.world.under_way.leaving[prisoner.booking_id] = self._place_elsewhere(prisoner).prison_id
        self._list(SUSPENDED_ALLOCATIONS, place, prisoner.booking_id, DPS_ONLY, "leaves after listing", "ignored")

    def _not_in_nomis(self, name: str) -> None:
        """Allocate, and for attendances let attend, a booking that NOMIS does not have."""
        place = self._place(self.chance.choice(sorted(self.places)))
        stranger = Prisoner(new_offender_no(self.world, self.chance), next(self.unknown_bookings), place.prison_id)
        allocation = self._allocate(stranger, place, in_nomis=False)
        if name == ATTENDANCES:
            self._attend(allocation, place, in_nomis=False)
            self._end_in_dps(allocation)
        self._list(name, place, stranger.booking_id, DPS_ONLY, "booking not in NOMIS")

    def _attendance_failed(self) -> None:
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        self._attend(self._allocate(prisoner, place), place, in_nomis=False)
        self._list(ATTENDANCES, place, prisoner.booking_id, DPS_ONLY, "attendance failed")

    def _one_attendance_failed(self) -> None:
        prisoner = self._somebody()
        first, second = self.chance.sample(self.places[prisoner.prison_id], 2)
        self._attend(self._allocate(prisoner, first), first)
        self._attend(self._allocate(prisoner, second), second, in_nomis=False)
        self._list(ATTENDANCES, first, prisoner.booking_id, DIFFERENT, "one of two attendances failed")

    def _paid_on_discharge(self) -> None:
        """Release somebody whom NOMIS paid early; DPS took the pay back later."""
        prisoner = self._newcomer()
        place = self._place(prisoner.prison_id)
        allocation = self._allocate(prisoner, place)
        self._attend(allocation, place).issue_payment = False
        self._write(prisoner, place, allocation, endDate=self.yesterday.isoformat(), endReason="PRG_END")
        self._end_in_dps(allocation)
        prisoner.active = False
        self._list(ATTENDANCES, place, prisoner.booking_id, NOMIS_ONLY, "paid on discharge", "ignored")

    def _payroll_ran(self) -> None:
        """Take the pay back in DPS after payroll has paid it: NOMIS refuses the change."""
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        attendance = self._attend(self._allocate(prisoner, place), place)
        for paid in self._nomis_attendances(place, prisoner.booking_id):
            paid.transaction = paid.event_id
        attendance.issue_payment = False
        self._list(ATTENDANCES, place, prisoner.booking_id, NOMIS_ONLY, "payroll ran")

    def _paid_on_another_booking(self) -> None:
        """Put somebody back on an old booking: NOMIS paid on that one, and DPS counts the present one."""
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        self._attend(self._allocate(prisoner, place), place, in_nomis=False)
        old = Prisoner(prisoner.offender_no, self.world.new_booking_id(), place.prison_id)
        self.world.add_old_booking(old)
        allocation = DpsAllocation(
            0, place.schedule.id, old.offender_no, old.booking_id, self._band(place), self._start
        )
        self._write(old, place, allocation, endDate=self.yesterday.isoformat(), endReason="PRG_END")
        self._pay_in_nomis(place, old.booking_id, paid=True)
        old.active = False
        cause = "paid on another booking"
        self._list(ATTENDANCES, place, prisoner.booking_id, DPS_ONLY, cause)
        self._list(ATTENDANCES, place, old.booking_id, NOMIS_ONLY, cause, "ignored")

    def _list(
        self, name: str, place: Place, booking_id: int, kind: str, cause: str, outcome: Outcome = "reported"
    ) -> None:
        key: tuple[str | int, ...] = (place.prison_id, booking_id)
        if name == ATTENDANCES:
            key = (*key, self.yesterday.isoformat())
        self.world.differences.setdefault(name, []).append(Difference(key, kind, cause, outcome))

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
        """A schedule on both sides; one that has no sessions at weekends gets one yesterday all the same."""
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
            raise ValueError("nobody is in a second prison with activities: raise `prisoners`")
        return self._place(self.chance.choice(others))

    def _somebody(self) -> Prisoner:
        """Somebody who has nothing yet, each one once."""
        if not self.people:
            raise ValueError(
                "more differences of activities are to be planted than there are people: raise `prisoners`"
            )
        found = self.people.pop()
        self.world.reserved.add(found.booking_id)
        return found

    def _newcomer(self) -> Prisoner:
        """Somebody whom the other domains know nothing of, so that a release or a move disturbs none of them."""
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
        """An allocation in DPS, and one in NOMIS that agrees with it."""
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
        """Write an allocation to NOMIS, from when the prisoner was at its prison."""
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
        """An attendance of yesterday in DPS, and one in NOMIS that agrees with it."""
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
