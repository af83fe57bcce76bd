"""A step: one change in a publishing service, with its event. Steps that must happen in order form a scenario."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol


@dataclass(slots=True)
class Step:
    """One event, and the `change` that is made in the publishing service just before the event is published.

    `kind` is `create`, `update`, `end` (cancelled or deleted), `ignore` (it must have no effect), `vanished` (about a
    record that no service has) or `unknown` (of a type that nobody handles).
    """

    domain: str
    dps_id: int | str
    kind: str
    event_type: str
    information: dict[str, object] | None
    change: Callable[[], None] | None = None
    prisoner_id: str | None = None
    refused: bool = False

    @property
    def entity(self) -> tuple[str, int | str]:
        """The domain and the DPS id, which together identify the record."""
        return self.domain, self.dps_id


Scenario = list[Step]


class Scenarios(Protocol):
    """Generates any number of scenarios for one domain."""

    def scenario(self) -> Scenario:
        """Returns the next scenario, with its steps in the order in which they happen."""


@dataclass(slots=True)
class Counted:
    """A list of the planted steps of one kind, with details of each."""

    found: list[dict[str, object]] = field(default_factory=list)

    def add(self, step: Step, **details: object) -> None:
        """Adds a step, with further details."""
        self.found.append({"eventType": step.event_type, "domain": step.domain, "dps_id": step.dps_id, **details})


if TYPE_CHECKING:
    from sandbox.population.people import Prisoner
    from sandbox.world import World


class People:
    """Chooses active prisoners at random, for events about them."""

    def __init__(self, world: World, chance: random.Random) -> None:
        """Groups the active prisoners by prison, except those whose bookings are reserved for planted differences.

        Raises:
            ValueError: no active prisoner remains.
        """
        self._chance = chance
        self._all = [each for each in world.prisoners if each.active and each.booking_id not in world.reserved]
        if not self._all:
            raise ValueError("traffic needs at least one active prisoner: make the world with prisoners=1 or more")
        self._by_prison: dict[str, list[Prisoner]] = {}
        for prisoner in self._all:
            self._by_prison.setdefault(prisoner.prison_id, []).append(prisoner)
        self._largest = sorted(self._by_prison, key=lambda code: (-len(self._by_prison[code]), code))
        self._without_planted_levels = [each for each in self._all if each.booking_id not in planted_bookings(world)]
        chance.shuffle(self._without_planted_levels)

    def anyone(self) -> Prisoner:
        """Returns a random active prisoner from any prison."""
        return self._chance.choice(self._all)

    def prison(self) -> str:
        """Returns the code of a random prison from among those with the most active prisoners."""
        return self._chance.choice(self._largest[: max(3, len(self._largest) // 4)])

    def in_prison(self, prison_id: str) -> list[Prisoner]:
        """Returns the active prisoners of a prison."""
        return self._by_prison[prison_id]

    def without_planted_levels(self) -> Prisoner | None:
        """Returns a prisoner whose incentive levels are not planted, or None if no such prisoner is left.

        No prisoner is returned twice.
        """
        return self._without_planted_levels.pop() if self._without_planted_levels else None


def planted_bookings(world: World) -> set[int]:
    """Returns the ids of the bookings whose incentive levels are planted, whether the two sides differ or agree."""
    plan = world.plan
    planted = [each.prisoner for each in plan.mismatches]
    agreeing = [*plan.bulk_differs, *plan.unmapped, *plan.excluded_matching]
    return {each.booking_id for each in (*planted, *agreeing)} | set(world.in_flight)
