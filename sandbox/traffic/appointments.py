"""Appointments that are made, moved, cancelled and deleted."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from sandbox.clock import london_today
from sandbox.dps.appointments import AppointmentInstance
from sandbox.nomis.appointments import create_appointment
from sandbox.nomis.bodies import Fields
from sandbox.traffic.steps import People, Scenario, Step

if TYPE_CHECKING:
    from sandbox.world import World

CATEGORIES = ("CHAP", "EDUC", "GOVE", "IMB", "KWS", "LIBR", "MEDO", "OIC", "OMU", "OTHE", "SOTP")


class AppointmentScenarios:
    """Scenarios of appointments; about a fifth concern appointments that count as synchronised earlier."""

    def __init__(self, world: World, people: People, chance: random.Random) -> None:
        """Takes all random numbers from `chance`."""
        self._world, self._people, self._chance = world, people, chance
        self._taken: set[tuple[object, ...]] = set()

    def scenario(self) -> Scenario:
        """A new appointment, perhaps changed or cancelled later; or an existing one, changed, cancelled or deleted."""
        instance = self._instance()
        drawn = self._chance.random()
        if drawn < 0.2:
            settle_appointment(self._world, instance)
            last = self._chance.choice((self._updated, self._cancelled, self._deleted))
            return [self._updated(instance), self._cancelled(instance)] if drawn < 0.04 else [last(instance)]
        scenario = [self._step("created", instance, "create", lambda: self._put(replace(instance)))]
        if drawn > 0.75:
            scenario.extend(self._updated(instance) for _ in range(self._chance.randint(1, 3)))
        if drawn > 0.9:
            scenario.append(self._cancelled(instance))
        return scenario

    def refused_scenario(self) -> Scenario:
        """A new appointment in a cell; NOMIS cannot store such an appointment."""
        instance = replace(self._instance(), in_cell=True, location_id=None)
        step = self._step("created", instance, "create", lambda: self._put(replace(instance)))
        step.refused = True
        return [step]

    def _instance(self) -> AppointmentInstance:
        while True:
            prisoner = self._people.anyone()
            day = london_today() + timedelta(days=self._chance.randint(1, 21))
            start = time(self._chance.randint(8, 17), self._chance.choice((0, 15, 30, 45)))
            location = self._chance.choice(self._world.places.in_prison(prisoner.prison_id))
            place = (prisoner.booking_id, location.id, day, start)
            if place not in self._taken:
                self._taken.add(place)
                break
        length = timedelta(minutes=self._chance.choice((15, 30, 45, 60, 90, 120)))
        return AppointmentInstance(
            id=next(self._world.appointments.ids),
            booking_id=prisoner.booking_id,
            prisoner_number=prisoner.offender_no,
            prison_id=prisoner.prison_id,
            category=self._chance.choice(CATEGORIES),
            location_id=location.id,
            in_cell=False,
            day=day,
            start=start,
            end=(datetime.combine(day, start) + length).time(),
            comment=self._chance.choice((None, "Bring the file")),
        )

    def _updated(self, instance: AppointmentInstance) -> Step:
        while True:
            day = instance.day + timedelta(days=self._chance.randint(0, 5))
            start = time(self._chance.randint(8, 17), self._chance.choice((5, 20, 35, 50)))
            place = (instance.booking_id, instance.location_id, day, start)
            if place not in self._taken:
                self._taken.add(place)
                break
        length = timedelta(minutes=self._chance.choice((15, 30, 60)))
        values = {
            "day": day,
            "start": start,
            "end": (datetime.combine(day, start) + length).time(),
            "category": self._chance.choice(CATEGORIES),
        }
        return self._step("updated", instance, "update", lambda: self._set(instance.id, values))

    def _cancelled(self, instance: AppointmentInstance) -> Step:
        return self._step("cancelled", instance, "end", lambda: self._set(instance.id, {"cancelled": True}))

    def _deleted(self, instance: AppointmentInstance) -> Step:
        return self._step("deleted", instance, "end", lambda: self._remove(instance.id))

    def _step(self, what: str, instance: AppointmentInstance, kind: str, change: Any) -> Step:
        event_type = f"appointments.appointment-instance.{what}"
        return Step("appointment", instance.id, kind, event_type, {"appointmentInstanceId": instance.id}, change)

    def _put(self, instance: AppointmentInstance) -> None:
        self._world.appointments.instances[instance.id] = instance

    def _set(self, number: int, values: dict[str, Any]) -> None:
        instance = self._world.appointments.instances[number]
        for name, value in values.items():
            setattr(instance, name, value)

    def _remove(self, number: int) -> None:
        del self._world.appointments.instances[number]


def settle_appointment(world: World, instance: AppointmentInstance) -> None:
    """Stores an appointment on both sides with its mapping, as if it had been synchronised earlier."""
    held = replace(instance)
    world.appointments.instances[held.id] = held
    body = {
        "bookingId": held.booking_id,
        "eventDate": held.day.isoformat(),
        "startTime": held.start.strftime("%H:%M"),
        "endTime": None if held.end is None else held.end.strftime("%H:%M"),
        "internalLocationId": held.location_id,
        "eventSubType": held.category,
    }
    record = create_appointment(world, Fields(body))
    world.mapping.add("appointments", held.id, (record.event_id,), "APPOINTMENT_CREATED")
    world.published.record("appointment", held.id, "created")
