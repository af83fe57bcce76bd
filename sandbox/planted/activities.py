"""Allocations and yesterday's attendances on both sides, and how NOMIS and the activities API come to differ.

A failed change appears in every reconciliation that it concerns. For example, if the suspension of an allocation did
not reach NOMIS, then NOMIS has one active allocation too many and one suspended allocation too few.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sandbox.aws.topic import domain_event
from sandbox.dps.activities import SUSPENDED, DpsAllocation
from sandbox.planted.activity_records import ActivityRecords, Place
from sandbox.planted.differences import Cause, Key, add_difference, how_many, plant_causes
from sandbox.population.people import Prisoner, new_offender_no
from sandbox.traffic.activities import allocate_in_nomis

if TYPE_CHECKING:
    from sandbox.world import World

ALLOCATIONS, SUSPENDED_ALLOCATIONS, ATTENDANCES = RECONCILIATIONS = (
    "allocations",
    "suspended-allocations",
    "attendances",
)
NOMIS_ONLY, DPS_ONLY, DIFFERENT = "NOMIS_only", "DPS_only", "different_count"
#: The shares of bookings whose counts differ: 2 in 10,000 of all bookings; 5 in 10,000 of the 4.6% with a suspended
#: allocation; 4 in 10,000 of the 80% with a paid attendance on a weekday.
ALLOCATION_SHARE, SUSPENDED_SHARE, ATTENDANCE_SHARE = 0.000_2, 0.000_5 * 0.046, 0.000_4 * 0.8
SUSPENSION_FAILED, RESUMPTION_FAILED = "suspension failed", "resumption failed"
PAID_ON_ANOTHER: Final = "paid on another booking"
SECOND_ALLOCATION, SUSPENDED_ONES, ATTENDED, UNPAID = 0.5, 0.03, 0.75, 0.2


class _Planter(ActivityRecords):
    """Makes the records of both sides: those that agree, and those that differ."""

    def agreeing(self, names: frozenset[str]) -> None:
        """Gives the prisoners without a difference one or two allocations each, on which both sides agree.

        If `names` includes the reconciliation of suspended allocations, a few allocations are suspended; if it includes
        that of attendances, most of the others have an attendance.
        """
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

    # Records that differ: each method makes the records of a booking, and returns the key of the difference.

    def creation_failed(self, turn: int) -> Key:
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        self._allocate(prisoner, place, in_nomis=False)
        return self._key(place, prisoner.booking_id)

    def ending_failed(self, turn: int) -> Key:
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        self._end_in_dps(self._allocate(prisoner, place))
        return self._key(place, prisoner.booking_id)

    def moved_open_in_dps(self, turn: int) -> Key:
        prisoner = self._somebody()
        place = self._place_elsewhere(prisoner)
        self._allocate(prisoner, place, in_nomis=False)
        return self._key(place, prisoner.booking_id)

    def moved_open_in_nomis(self, turn: int) -> Key:
        prisoner = self._somebody()
        place = self._place_elsewhere(prisoner)
        self._end_in_dps(self._allocate(prisoner, place))
        return self._key(place, prisoner.booking_id)

    def one_creation_failed(self, turn: int) -> Key:
        prisoner = self._somebody()
        first, second = self.chance.sample(self.places[prisoner.prison_id], 2)
        self._allocate(prisoner, first)
        self._allocate(prisoner, second, in_nomis=False)
        return self._key(first, prisoner.booking_id)

    def creation_late(self, turn: int) -> Key:
        """Makes an allocation in DPS that reaches NOMIS while the prison is being reconciled."""
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        allocation = self._allocate(prisoner, place, in_nomis=False)
        late = self.world.under_way.late.setdefault(place.prison_id, [])
        late.append(lambda: allocate_in_nomis(self.world, place.course_id, allocation))
        return self._key(place, prisoner.booking_id)

    def event_waits(self, turn: int) -> Key:
        """Allocates a prisoner in DPS only; the event has failed so far, and is waiting on a queue."""
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        allocation = self._allocate(prisoner, place, in_nomis=False)
        event = domain_event("activities.prisoner.allocated", {"allocationId": allocation.id})
        self.world.waiting.setdefault("activity", []).append(event)
        return self._key(place, prisoner.booking_id)

    def suspension_failed(self, turn: int) -> Key:
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        allocation = self._allocate(prisoner, place)
        self._suspend_in_dps(allocation, "SUSPENDED")
        key = self._key(place, prisoner.booking_id)
        add_difference(self.world, ALLOCATIONS, key, NOMIS_ONLY, SUSPENSION_FAILED)
        return key

    def resumption_failed(self, turn: int) -> Key:
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        self._allocate(prisoner, place, status="AUTO_SUSPENDED").status = "ACTIVE"
        key = self._key(place, prisoner.booking_id)
        add_difference(self.world, ALLOCATIONS, key, DPS_ONLY, RESUMPTION_FAILED)
        return key

    def suspended_elsewhere(self, turn: int) -> Key:
        """Suspends an allocation whose prisoner is now at another prison, so NOMIS does not count the allocation."""
        prisoner = self._somebody()
        place = self._place_elsewhere(prisoner)
        self._allocate(prisoner, place, status="AUTO_SUSPENDED")
        return self._key(place, prisoner.booking_id)

    def leaves_after_listing(self, turn: int) -> Key:
        """Ends in NOMIS an allocation that DPS suspends; the prisoner moves just after the prison has been listed."""
        prisoner = self._newcomer()
        place = self._place(prisoner.prison_id)
        allocation = self._allocate(prisoner, place)
        self._write(prisoner, place, allocation, endDate=self.yesterday.isoformat(), endReason="TRF")
        self._suspend_in_dps(allocation, "SUSPENDED")
        self.world.under_way.leaving[prisoner.booking_id] = self._place_elsewhere(prisoner).prison_id
        return self._key(place, prisoner.booking_id)

    def not_in_nomis(self, turn: int) -> Key:
        """Allocates a booking that NOMIS does not have."""
        place, allocation = self._unknown_booking()
        return self._key(place, allocation.booking_id)

    def attended_not_in_nomis(self, turn: int) -> Key:
        """Records an attendance for a booking that NOMIS does not have."""
        place, allocation = self._unknown_booking()
        self._attend(allocation, place, in_nomis=False)
        self._end_in_dps(allocation)
        return self._day_key(place, allocation.booking_id)

    def attendance_failed(self, turn: int) -> Key:
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        self._attend(self._allocate(prisoner, place), place, in_nomis=False)
        return self._day_key(place, prisoner.booking_id)

    def one_attendance_failed(self, turn: int) -> Key:
        prisoner = self._somebody()
        first, second = self.chance.sample(self.places[prisoner.prison_id], 2)
        self._attend(self._allocate(prisoner, first), first)
        self._attend(self._allocate(prisoner, second), second, in_nomis=False)
        return self._day_key(first, prisoner.booking_id)

    def paid_on_discharge(self, turn: int) -> Key:
        """Releases a prisoner whom NOMIS paid early, on discharge; DPS withdrew the pay later."""
        prisoner = self._newcomer()
        place = self._place(prisoner.prison_id)
        allocation = self._allocate(prisoner, place)
        self._attend(allocation, place).issue_payment = False
        self._write(prisoner, place, allocation, endDate=self.yesterday.isoformat(), endReason="PRG_END")
        self._end_in_dps(allocation)
        prisoner.active = False
        return self._day_key(place, prisoner.booking_id)

    def payroll_ran(self, turn: int) -> Key:
        """Withdraws the pay in DPS after payroll has paid the attendance, so NOMIS refuses the change."""
        prisoner = self._somebody()
        place = self._place(prisoner.prison_id)
        attendance = self._attend(self._allocate(prisoner, place), place)
        for paid in self._nomis_attendances(place, prisoner.booking_id):
            paid.transaction = paid.event_id
        attendance.issue_payment = False
        return self._day_key(place, prisoner.booking_id)

    def paid_on_another_booking(self, turn: int) -> Key:
        """Makes an attendance that NOMIS has paid on an old booking, but that DPS has on the current booking."""
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
        old_key = self._day_key(place, old.booking_id)
        add_difference(self.world, ATTENDANCES, old_key, NOMIS_ONLY, PAID_ON_ANOTHER, "ignored")
        return self._day_key(place, prisoner.booking_id)

    def _key(self, place: Place, booking_id: int) -> Key:
        return (place.prison_id, booking_id)

    def _day_key(self, place: Place, booking_id: int) -> Key:
        return (place.prison_id, booking_id, self.yesterday.isoformat())

    def _unknown_booking(self) -> tuple[Place, DpsAllocation]:
        """Makes an allocation in DPS for a booking that NOMIS does not have; returns the place and the allocation."""
        place = self._place(self.chance.choice(sorted(self.places)))
        prisoner = Prisoner(new_offender_no(self.world, self.chance), next(self.unknown_bookings), place.prison_id)
        return place, self._allocate(prisoner, place, in_nomis=False)


CAUSES: Final[Mapping[str, tuple[float, Mapping[str, Cause[_Planter]]]]] = {
    ALLOCATIONS: (
        ALLOCATION_SHARE,
        {
            "creation failed": Cause(DPS_ONLY, 0.4, _Planter.creation_failed),
            "ending failed": Cause(NOMIS_ONLY, 0.25, _Planter.ending_failed),
            "moved, still open in DPS": Cause(DPS_ONLY, 0.1, _Planter.moved_open_in_dps),
            "moved, still open in NOMIS": Cause(NOMIS_ONLY, 0.1, _Planter.moved_open_in_nomis),
            "one of two creations failed": Cause(DIFFERENT, 0.15, _Planter.one_creation_failed),
            "booking not in NOMIS": Cause(DPS_ONLY, 0.0, _Planter.not_in_nomis),
        },
    ),
    SUSPENDED_ALLOCATIONS: (
        SUSPENDED_SHARE,
        {
            SUSPENSION_FAILED: Cause(DPS_ONLY, 0.3, _Planter.suspension_failed),
            RESUMPTION_FAILED: Cause(NOMIS_ONLY, 0.2, _Planter.resumption_failed),
            "suspended at another prison": Cause(DPS_ONLY, 0.5, _Planter.suspended_elsewhere, "ignored"),
            "leaves after listing": Cause(DPS_ONLY, 0.0, _Planter.leaves_after_listing, "ignored"),
        },
    ),
    ATTENDANCES: (
        ATTENDANCE_SHARE,
        {
            "attendance failed": Cause(DPS_ONLY, 0.35, _Planter.attendance_failed),
            "one of two attendances failed": Cause(DIFFERENT, 0.15, _Planter.one_attendance_failed),
            "paid on discharge": Cause(NOMIS_ONLY, 0.25, _Planter.paid_on_discharge, "ignored"),
            "payroll ran": Cause(NOMIS_ONLY, 0.1, _Planter.payroll_ran),
            PAID_ON_ANOTHER: Cause(DPS_ONLY, 0.15, _Planter.paid_on_another_booking),
            "booking not in NOMIS": Cause(DPS_ONLY, 0.0, _Planter.attended_not_in_nomis),
        },
    ),
}
UNDER_WAY: Final[Mapping[str, Cause[_Planter]]] = {
    "creation late": Cause(DPS_ONLY, 0.0, _Planter.creation_late, "settles"),
    "event waits": Cause(DPS_ONLY, 0.0, _Planter.event_waits, "in flight"),
}


def plant(world: World, chance: random.Random, names: frozenset[str]) -> None:
    """Makes the activities of every prison that has any, with the differences for the reconciliations in `names`.

    Raises:
        ValueError: there are fewer people than differences, or only one prison with activities has prisoners.
    """
    planter = _Planter(world, chance)
    for name, (share, causes) in CAUSES.items():
        if name in names:
            plant_causes(world, name, planter, causes, how_many(world, len(world.prisoners), share, causes))
    if ALLOCATIONS in names:
        plant_causes(world, ALLOCATIONS, planter, UNDER_WAY, dict.fromkeys(UNDER_WAY, world.options.in_flight))
    planter.agreeing(names)
