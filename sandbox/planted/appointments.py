"""Makes the coming weeks' appointments in NOMIS and the activities API, including those on which the two differ."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

from sandbox.clock import london_now, london_today
from sandbox.dps.appointments import NAMES_ROOMS, AppointmentInstance
from sandbox.nomis.appointments import NomisAppointment
from sandbox.planted.differences import Cause, Key, add_difference, how_many, plant_causes
from sandbox.population.people import Prisoner

if TYPE_CHECKING:
    from sandbox.world import World

NAME: Final = "appointments"
RECONCILIATIONS: Final = (NAME,)
NOMIS_ONLY, DPS_ONLY, DIFFERENT, DUPLICATE = "nomis-only", "dps-only", "different", "duplicate"
WITHOUT_NOMIS, WITHOUT_DPS = "mapping-without-nomis", "mapping-without-dps"
#: One pair in 20,000 differs.
SHARE: Final = 1 / 20_000
#: How many appointments each prisoner has, and on how many days each of these may be; the first day is yesterday.
EACH, DAYS_OF_ONE = 2, 12
#: The appointments that differ are on later days.
FIRST_DAY_OF_DIFFERENCES, DAYS_OF_DIFFERENCES = EACH * DAYS_OF_ONE - 1, 3
#: Traffic makes no appointments at these minutes past the hour.
MINUTES: Final = (10, 25, 40, 55)
HOURS: Final = range(8, 17)
LENGTHS: Final = (15, 30, 45, 90, 120)
CATEGORIES: Final = ("CHAP", "EDUC", "GOVE", "IMB", "KWS", "LIBR", "MEDO", "OIC", "OMU", "OTHE", "SOTP")
WITHOUT_END, END_LEFT_OUT_IN_NOMIS, IN_CELL, CANCELLED, ROOM_BY_UUID = 0.05, 0.05, 0.05, 0.04, 0.1
GROUPS, GROUP_SIZE = 0.3, 4
SCREEN_USER: Final = "XQA12G_GEN"
MAPPING_LOST: Final = "mapping lost"


class _Planter:
    """Makes the appointments of one prisoner after another."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance, self.today = world, chance, london_today()
        self.made = london_now().replace(microsecond=0) - timedelta(days=9)
        rolled_out = world.rollout.appointments
        self.people = [each for each in world.prisoners if each.active and each.prison_id in rolled_out]
        self.prisons = sorted({each.prison_id for each in self.people})
        if len(self.prisons) < 2:
            raise ValueError("fewer than two prisons with appointments in DPS have prisoners: increase `prisoners`")
        self.chosen = itertools.cycle(chance.sample(self.people, len(self.people)))
        self.turns = itertools.count()

    def agreeing(self) -> None:
        """Gives each prisoner appointments on which both sides agree: alone or in a group, with or without an end."""
        chance = self.chance
        by_prison: dict[str, list[Prisoner]] = {}
        for each in self.people:
            by_prison.setdefault(each.prison_id, []).append(each)
        for turn, people in itertools.product(range(EACH), by_prison.values()):
            waiting = iter(people)
            for first in waiting:
                together = [first]
                if chance.random() < GROUPS / GROUP_SIZE:
                    together += itertools.islice(waiting, GROUP_SIZE - 1)
                day = self.today + timedelta(days=turn * DAYS_OF_ONE - 1 + chance.randrange(DAYS_OF_ONE))
                self._agreeing(together, day, time(chance.choice(HOURS), chance.choice(MINUTES)))

    def creation_under_way(self, turn: int) -> Key:
        """Makes an appointment in DPS, created a moment ago, that has not reached NOMIS yet."""
        instance = self._somebody(created=london_now().replace(microsecond=0))
        self._hold(instance)
        return (None, instance.id)

    def _agreeing(self, people: list[Prisoner], day: date, start: time) -> None:
        chance = self.chance
        end = None if chance.random() < WITHOUT_END else _later(start, chance.choice(LENGTHS))
        left_out = chance.random() < END_LEFT_OUT_IN_NOMIS
        if left_out:
            end = _later(start, 60)
        first = self._instance(
            people[0],
            day,
            start,
            end,
            in_cell=chance.random() < IN_CELL,
            cancelled=chance.random() < CANCELLED,
            room_by_uuid=self.world.options.month >= NAMES_ROOMS and chance.random() < ROOM_BY_UUID,
        )
        if len(people) > 1:
            first.appointment_id = first.id
        for each in people:
            instance = first if each is people[0] else self._for(first, each)
            self._pair(instance, end=None if left_out else instance.end)

    def time_changed(self, turn: int) -> Key:
        instance = self._somebody()
        return self._differs(instance, start=_later(instance.start, 15), end=instance.end)

    def end_changed(self, turn: int) -> Key:
        instance = self._somebody()
        return self._differs(instance, end=_later(instance.start, 70))

    def date_changed(self, turn: int) -> Key:
        instance = self._somebody()
        return self._differs(instance, day=instance.day - timedelta(days=1))

    def location_changed(self, turn: int) -> Key:
        instance = self._somebody()
        rooms = [each.id for each in self.world.places.in_prison(instance.prison_id) if each.id != instance.location_id]
        return self._differs(instance, location_id=self.chance.choice(rooms))

    def category_changed(self, turn: int) -> Key:
        instance = self._somebody()
        others = [each for each in CATEGORIES if each != instance.category]
        return self._differs(instance, subtype=self.chance.choice(others))

    def made_on_screen(self, turn: int) -> Key:
        record = self._in_nomis(self._somebody(), created_by=SCREEN_USER)
        return (record.event_id, None)

    def creation_failed(self, turn: int) -> Key:
        instance = self._somebody()
        self._hold(instance)
        return (None, instance.id)

    def deleted_in_nomis(self, turn: int) -> Key:
        instance = self._somebody()
        record = self._pair(instance)
        del self.world.nomis_appointments.appointments[record.event_id]
        return (record.event_id, instance.id)

    def created_twice(self, turn: int) -> Key:
        instance = self._somebody()
        self._pair(instance)
        return (self._in_nomis(instance).event_id, None)

    def mapping_lost(self, turn: int) -> Key:
        instance = self._somebody()
        self._hold(instance)
        add_difference(self.world, NAME, (None, instance.id), DPS_ONLY, MAPPING_LOST)
        return (self._in_nomis(instance).event_id, None)

    def cancellation_failed(self, turn: int) -> Key:
        return self._differs(replace(self._somebody(), cancelled=True), status="SCH")

    def cancelled_in_nomis(self, turn: int) -> Key:
        return self._differs(self._somebody(), status="CANC")

    def deletion_failed(self, turn: int) -> Key:
        instance = replace(self._somebody(), deleted=True)
        return (self._pair(instance).event_id, instance.id)

    def on_another_booking(self, turn: int) -> Key:
        instance = self._somebody()
        old = Prisoner(instance.prisoner_number, self.world.new_booking_id(), instance.prison_id, active=False)
        self.world.add_old_booking(old)
        return self._differs(instance, booking_id=old.booking_id)

    def at_another_prison(self, turn: int) -> Key:
        instance = self._somebody()
        prison_id = self.chance.choice([each for each in self.prisons if each != instance.prison_id])
        room = self.chance.choice(self.world.places.in_prison(prison_id))
        return self._differs(instance, prison_id=prison_id, location_id=room.id)

    def outside_the_window(self, turn: int) -> Key:
        instance = self._somebody()
        return self._differs(instance, day=instance.day + timedelta(days=20))

    def years_ahead(self, turn: int) -> Key:
        instance = self._somebody()
        day = instance.day.replace(year=instance.day.year + 37, day=min(instance.day.day, 28))
        return self._differs(instance, day=day)

    def _differs(self, instance: AppointmentInstance, **in_nomis: Any) -> Key:
        return (self._pair(instance, **in_nomis).event_id, instance.id)

    def _somebody(self, created: datetime | None = None) -> AppointmentInstance:
        """Returns an appointment, not stored yet, for the next prisoner at a time when they have no other."""
        turn = next(self.turns)
        day = self.today + timedelta(days=FIRST_DAY_OF_DIFFERENCES + turn % DAYS_OF_DIFFERENCES)
        start = time(HOURS[turn // DAYS_OF_DIFFERENCES % len(HOURS)], MINUTES[turn % len(MINUTES)])
        instance = self._instance(next(self.chosen), day, start, _later(start, 45))
        return instance if created is None else replace(instance, created=created)

    def _instance(
        self,
        prisoner: Prisoner,
        day: date,
        start: time,
        end: time | None,
        *,
        in_cell: bool = False,
        cancelled: bool = False,
        room_by_uuid: bool = False,
    ) -> AppointmentInstance:
        room = self.chance.choice(self.world.places.in_prison(prisoner.prison_id))
        return AppointmentInstance(
            id=next(self.world.appointments.ids),
            booking_id=prisoner.booking_id,
            prisoner_number=prisoner.offender_no,
            prison_id=prisoner.prison_id,
            category=self.chance.choice(CATEGORIES),
            location_id=None if in_cell else room.id,
            in_cell=in_cell,
            day=day,
            start=start,
            end=end,
            cancelled=cancelled,
            created=self.made,
            updated=self.made + timedelta(days=1) if cancelled else None,
            room_by_uuid=room_by_uuid and not in_cell,
        )

    def _for(self, first: AppointmentInstance, prisoner: Prisoner) -> AppointmentInstance:
        """Returns a copy of `first`, with its own id, for another prisoner who attends the same appointment."""
        number, offender_no = next(self.world.appointments.ids), prisoner.offender_no
        return replace(first, id=number, booking_id=prisoner.booking_id, prisoner_number=offender_no)

    def _hold(self, instance: AppointmentInstance) -> None:
        self.world.appointments.instances[instance.id] = instance

    def _pair(self, instance: AppointmentInstance, **in_nomis: Any) -> NomisAppointment:
        """Stores an appointment on both sides with its mapping, and returns its NOMIS record.

        The values in `in_nomis` replace those that the NOMIS record would otherwise have.
        """
        self._hold(instance)
        record = self._in_nomis(instance, **in_nomis)
        self.world.mapping.add("appointments", instance.id, (record.event_id,), "APPOINTMENT_CREATED", record.created)
        return record

    def _in_nomis(self, instance: AppointmentInstance, **changed: Any) -> NomisAppointment:
        """Stores an appointment in NOMIS as the synchronisation would, but with the values in `changed`."""
        appointments = self.world.nomis_appointments
        living_unit = self.world.places.living_unit(instance.booking_id)
        values: dict[str, Any] = {
            "event_id": next(appointments.event_ids),
            "booking_id": instance.booking_id,
            "prison_id": instance.prison_id,
            "location_id": living_unit if instance.in_cell else instance.location_id,
            "day": instance.day,
            "start": instance.start,
            "end": instance.end,
            "subtype": instance.category,
            "created": self.made + timedelta(seconds=20),
            "status": "CANC" if instance.cancelled else "SCH",
        }
        record = NomisAppointment(**(values | changed))
        appointments.appointments[record.event_id] = record
        return record


CAUSES: Final[Mapping[str, Cause[_Planter]]] = {
    "change of time failed": Cause(DIFFERENT, 0.1, _Planter.time_changed),
    "change of end failed": Cause(DIFFERENT, 0.05, _Planter.end_changed),
    "change of date failed": Cause(DIFFERENT, 0.05, _Planter.date_changed),
    "change of location failed": Cause(DIFFERENT, 0.1, _Planter.location_changed),
    "change of category failed": Cause(DIFFERENT, 0.05, _Planter.category_changed),
    "made on the NOMIS screen": Cause(NOMIS_ONLY, 0.25, _Planter.made_on_screen),
    "creation failed": Cause(DPS_ONLY, 0.15, _Planter.creation_failed),
    "deleted in NOMIS": Cause(WITHOUT_NOMIS, 0.1, _Planter.deleted_in_nomis),
    "created twice": Cause(DUPLICATE, 0.15, _Planter.created_twice),
    MAPPING_LOST: Cause(NOMIS_ONLY, 0.0, _Planter.mapping_lost),
    "cancellation failed": Cause(DIFFERENT, 0.0, _Planter.cancellation_failed),
    "cancelled in NOMIS": Cause(DIFFERENT, 0.0, _Planter.cancelled_in_nomis),
    "deletion failed": Cause(WITHOUT_DPS, 0.0, _Planter.deletion_failed),
    "prisoner on another booking": Cause(DIFFERENT, 0.0, _Planter.on_another_booking),
    "at another prison in NOMIS": Cause(DIFFERENT, 0.0, _Planter.at_another_prison),
    "outside the window in NOMIS": Cause(DIFFERENT, 0.0, _Planter.outside_the_window),
    "37 years ahead in NOMIS": Cause(DIFFERENT, 0.0, _Planter.years_ahead, "ignored"),
}
UNDER_WAY: Final[Mapping[str, Cause[_Planter]]] = {
    "creation under way": Cause(DPS_ONLY, 0.0, _Planter.creation_under_way, "in flight"),
}


def plant(world: World, chance: random.Random, names: frozenset[str]) -> None:
    """Makes appointments for prisoners at prisons with appointments in DPS: some that differ, and others that agree.

    Raises:
        ValueError: fewer than two such prisons have active prisoners.
    """
    planter = _Planter(world, chance)
    plant_causes(world, NAME, planter, CAUSES, how_many(world, EACH * len(planter.people), SHARE, CAUSES))
    plant_causes(world, NAME, planter, UNDER_WAY, dict.fromkeys(UNDER_WAY, world.options.in_flight))
    planter.agreeing()


def _later(start: time, minutes: int) -> time:
    return (datetime.combine(date.min, start) + timedelta(minutes=minutes)).time()
