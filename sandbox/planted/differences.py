"""What is planted for a reconciliation: each difference with what a run must make of it, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sandbox.world import World

#: `reported`; `ignored`, as it is not to be reported; `settles`, as it is gone when it is looked at again; `in flight`,
#: as something is still to come that removes it.
Outcome = Literal["reported", "ignored", "settles", "in flight"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One planted difference.

    `key` has the values of the columns by which the reconciliation knows a row, None where it has none, and `kind` is
    its word for what differs. `cause` tells what was done to bring it about.
    """

    key: tuple[str | int | None, ...]
    kind: str
    cause: str
    outcome: Outcome = "reported"

    def view(self) -> dict[str, object]:
        """The difference as the control API shows it."""
        return {"key": list(self.key), "kind": self.kind, "cause": self.cause, "outcome": self.outcome}


def how_many(world: World, population: int, share: float, mix: Mapping[str, float]) -> dict[str, int]:
    """How many differences of each cause to plant: a share of the population, split as the mix says.

    Where every cause is asked for there is at least one of each.
    """
    least = 1 if world.options.every_cause else 0
    return {cause: max(least, round(population * share * part)) for cause, part in mix.items()}
