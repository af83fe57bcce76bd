"""Incentive reviews by staff, and changes to levels."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

from sandbox.clock import london_now
from sandbox.nomis.incentives import BY_SCREEN
from sandbox.traffic.steps import People, Scenario, Step

if TYPE_CHECKING:
    from sandbox.population.people import Prisoner
    from sandbox.world import World

CHANGEABLE = ("EN2", "EN3")
USER = "AB12345_GEN"


class IncentiveScenarios:
    """Scenarios of one event each: mainly reviews, with no more than one for each person."""

    def __init__(self, world: World, people: People, chance: random.Random) -> None:
        """Takes all random numbers from `chance`."""
        self._world, self._people, self._chance = world, people, chance
        self._passed = timedelta()

    def scenario(self) -> Scenario:
        """A review; about one time in eight, or if no prisoner is left for a review, a change to the levels instead."""
        drawn = self._chance.random()
        prisoner = self._people.without_planted_levels() if drawn < 0.88 else None
        if prisoner is None:
            return [self._chance.choice((self._level, self._order, self._prison_level, self._prison_level))()]
        return [self._review(prisoner, by_nomis=drawn < 0.03)]

    def _review(self, prisoner: Prisoner, *, by_nomis: bool) -> Step:
        incentives = self._world.incentives
        review = incentives.add_review(
            prisoner.booking_id,
            self._chance.choice(self._codes(prisoner.prison_id)),
            london_now() + self._later(),
            prisoner.prison_id,
            user_id=USER,
            comments=self._chance.choice((None, "Moved after review", "Good behaviour on the wing")),
        )
        if by_nomis:
            record = self._world.nomis_incentives.add(
                prisoner.booking_id,
                review.code,
                review.at,
                prisoner.prison_id,
                BY_SCREEN,
                USER,
                review.comments,
                london_now(),
            )
            self._world.mapping.add_incentive(review.id, prisoner.booking_id, record.sequence, "NOMIS_CREATED")
        information: dict[str, object] = {
            "id": review.id,
            "nomsNumber": prisoner.offender_no,
            "reason": "USER_CREATED_NOMIS" if by_nomis else None,
        }
        kind = "ignore" if by_nomis else "create"
        return Step("incentive", review.id, kind, "incentives.iep-review.inserted", information)

    def _later(self) -> timedelta:
        """Returns a slightly longer period than the previous call did, so that no two reviews have the same time."""
        self._passed += timedelta(milliseconds=1)
        return self._passed

    def _codes(self, prison_id: str) -> list[str]:
        levels = self._world.nomis_incentives.prison_levels
        return [code for code in ("BAS", "STD", "ENH", "EN2") if (prison_id, code) in levels]

    def _level(self) -> Step:
        code = self._chance.choice(CHANGEABLE)
        name = f"Enhanced {code[-1]}{self._chance.choice(('', ' plus'))}"

        def change() -> None:
            self._world.incentives.levels[code].name = name

        return Step("level", code, "update", "incentives.level.changed", {"incentiveLevel": code}, change)

    def _order(self) -> Step:
        def change() -> None:
            levels = self._world.incentives.levels
            first, second = (levels[code] for code in CHANGEABLE)
            first.order, second.order = second.order, first.order

        return Step("level-order", "all", "update", "incentives.levels.reordered", None, change)

    def _prison_level(self) -> Step:
        prison_id = self._people.prison()
        code = self._chance.choice(("BAS", "STD", "ENH"))
        transfer, orders = self._chance.choice((550, 1980, 3300)), self._chance.randint(0, 2)

        def change() -> None:
            level = self._world.incentives.prison_levels[prison_id, code]
            level.convicted_transfer, level.convicted_spend, level.visit_orders = transfer, transfer * 10, orders

        information: dict[str, object] = {"incentiveLevel": code, "prisonId": prison_id}
        return Step(
            "prison-level", f"{prison_id}:{code}", "update", "incentives.prison-level.changed", information, change
        )
