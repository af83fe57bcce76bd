"""The differences that are planted for reconciliations, so that the result of a run can be checked.

A planter takes the world, a separate stream of random numbers, and the names of the requested reconciliations. It makes
the records of both sides, including those that agree, and lists the differences in `world.differences`, each with the
outcome that a run must give it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from sandbox.planted import activities, adjustments, appointments, visits

if TYPE_CHECKING:
    from sandbox.world import World


class Planter(NamedTuple):
    """A function that plants differences, and the reconciliations that find them."""

    reconciliations: tuple[str, ...]
    plant: Callable[[World, random.Random, frozenset[str]], None]


PLANTERS: Final = (
    Planter(activities.RECONCILIATIONS, activities.plant),
    Planter(adjustments.RECONCILIATIONS, adjustments.plant),
    Planter(appointments.RECONCILIATIONS, appointments.plant),
    Planter(visits.RECONCILIATIONS, visits.plant),
)


def plant_differences(world: World) -> None:
    """Plants the differences that the world's options ask for.

    Raises:
        ValueError: a reconciliation is unknown, or the world is too small for its differences.
    """
    asked = frozenset(world.options.plant)
    known = frozenset(name for planter in PLANTERS for name in planter.reconciliations)
    unknown = asked - known - {"all"}
    if unknown:
        raise ValueError(
            f"nothing can be planted for {', '.join(sorted(unknown))}: choose from {', '.join(sorted(known))}"
        )
    for planter in PLANTERS:
        names = frozenset(planter.reconciliations) if "all" in asked else asked & frozenset(planter.reconciliations)
        if names:
            planter.plant(world, world.random(f"planted for {planter.reconciliations[0]}"), names)
