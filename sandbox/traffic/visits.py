"""Visits that are booked, changed and cancelled."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from sandbox.clock import london_now, london_today
from sandbox.dps.visits import BookedVisit
from sandbox.nomis.bodies import Fields
from sandbox.nomis.visits import create_visit
from sandbox.population.people import FIRST_PERSON, PERSONS
from sandbox.traffic.steps import People, Scenario, Step
from sandbox.verification.visits import COMMENT, ORDER_COMMENT, OUTCOMES

if TYPE_CHECKING:
    from sandbox.world import World

ROOMS = ("Visits Main Hall", "Legal Visit Room 6", "Video Link", "Family Room")
CANCELLATIONS = (*OUTCOMES, "CANCELLATION", "NOT_RECORDED", None)


class VisitScenarios:
    """Scenarios of visits; about a tenth concern visits that count as synchronised earlier."""

    def __init__(self, world: World, people: People, chance: random.Random) -> None:
        """Takes all random numbers from `chance`."""
        self._world, self._people, self._chance = world, people, chance

    def scenario(self) -> Scenario:
        """A scenario for a new visit or, less often, for an existing one.

        A new visit may be changed, cancelled or both. An existing visit is cancelled, perhaps after a change.
        """
        visit = self._visit()
        if self._chance.random() < 0.1:
            settle_visit(self._world, visit)
            return [self._changed(visit), self._cancelled(visit)][self._chance.randrange(2) :]
        scenario = [self._step("booked", visit, "create", lambda: self._put(replace(visit)))]
        drawn = self._chance.random()
        if drawn < 0.25:
            scenario.extend(self._changed(visit) for _ in range(self._chance.randint(1, 4)))
        if drawn < 0.05 or drawn > 0.92:
            scenario.append(self._cancelled(visit))
        return scenario

    def _visit(self) -> BookedVisit:
        prisoner = self._people.anyone()
        day = london_today() + timedelta(days=self._chance.randint(2, 28))
        start = datetime.combine(day, time(self._chance.randint(9, 16), self._chance.choice((0, 15, 30, 45))))
        return BookedVisit(
            reference=self._reference(),
            prisoner_id=prisoner.offender_no,
            prison_id=prisoner.prison_id,
            room=self._chance.choice(ROOMS),
            start=start,
            end=start + timedelta(minutes=self._chance.choice((45, 60, 90, 120))),
            person_ids=self._visitors(),
            visit_type=self._chance.choice(("SOCIAL", "SOCIAL", "SOCIAL", "FAMILY")),
            restriction=self._chance.choice(("OPEN", "OPEN", "OPEN", "OPEN", "CLOSED", "UNKNOWN")),
        )

    def _reference(self) -> str:
        while True:
            pairs = [
                "".join(self._chance.choices("bcdfghjklmnpqrstvwxz", k=1) + self._chance.choices("aeiouy", k=1))
                for _ in range(4)
            ]
            reference = "-".join(pairs)
            if reference not in self._world.visits.visits:
                return reference

    def _visitors(self) -> list[int]:
        count = self._chance.randint(1, 4)
        return self._chance.sample(range(FIRST_PERSON + 1000, FIRST_PERSON + PERSONS), count)

    def _changed(self, visit: BookedVisit) -> Step:
        start = visit.start + timedelta(days=self._chance.randint(0, 3), minutes=15 * self._chance.randint(-2, 2))
        values: dict[str, Any] = {"start": start, "end": start + (visit.end - visit.start)}
        if self._chance.random() < 0.4:
            values["person_ids"] = self._visitors()
        if self._chance.random() < 0.3:
            values["room"] = self._chance.choice(ROOMS)
        if self._chance.random() < 0.2:
            values["restriction"] = self._chance.choice(("OPEN", "CLOSED"))
        return self._step("changed", visit, "update", lambda: self._set(visit.reference, values))

    def _cancelled(self, visit: BookedVisit) -> Step:
        values = {"status": "CANCELLED", "outcome": self._chance.choice(CANCELLATIONS)}
        return self._step("cancelled", visit, "end", lambda: self._set(visit.reference, values))

    def _step(self, what: str, visit: BookedVisit, kind: str, change: Any) -> Step:
        return Step(
            domain="visit",
            dps_id=visit.reference,
            kind=kind,
            event_type=f"prison-visit.{what}",
            information={"reference": visit.reference},
            change=change,
            prisoner_id=visit.prisoner_id,
        )

    def _put(self, visit: BookedVisit) -> None:
        self._world.visits.visits[visit.reference] = visit

    def _set(self, reference: str, values: dict[str, Any]) -> None:
        visit = self._world.visits.visits[reference]
        for name, value in {**values, "modified": london_now()}.items():
            setattr(visit, name, value)


def settle_visit(world: World, visit: BookedVisit) -> None:
    """Stores a visit on both sides with its mapping, as if it had been synchronised earlier."""
    held = replace(visit)
    world.visits.visits[held.reference] = held
    body = {
        "startDateTime": held.start.isoformat(timespec="seconds"),
        "endTime": held.end.strftime("%H:%M:%S"),
        "prisonId": held.prison_id,
        "visitorPersonIds": held.person_ids,
        "visitType": "SCON",
        "issueDate": london_today().isoformat(),
        "visitComment": f"{COMMENT}{held.reference}",
        "visitOrderComment": f"{ORDER_COMMENT}{held.reference}",
        "room": held.room,
        "openClosedStatus": held.restriction,
    }
    record = create_visit(world, held.prisoner_id, Fields(body))
    world.mapping.add("visits", held.reference, (record.id,), "ONLINE")
    world.published.record("visit", held.reference, "created")
