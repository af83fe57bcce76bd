"""What is planted for a reconciliation: the causes of differences, and each difference with what a run must make of it.

A module has its causes in a table, and a planter that makes the records; `plant_causes` goes through the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from sandbox.world import World

#: `reported`; `ignored`, as it is not to be reported; `settles`, as it is gone when it is looked at again; `in flight`,
#: as something is still to come that removes it.
Outcome = Literal["reported", "ignored", "settles", "in flight"]
#: The values of the columns by which a reconciliation knows a row, None if it has none.
Key = tuple[str | int | None, ...]
APlanter = TypeVar("APlanter")


class Cause(NamedTuple, Generic[APlanter]):
    """How records come to differ.

    kind: the reconciliation's word for what differs then. share: of all differences; 0 for what is seen too seldom, and
    there only where every cause is asked for. make: makes the records of one, in turn in the forms that it has, and
    returns the key. outcome: what a run must make of it.
    """

    kind: str
    share: float
    make: Callable[[APlanter, int], Key]
    outcome: Outcome = "reported"


@dataclass(frozen=True, slots=True)
class Difference:
    """One planted difference.

    `key` has the values of the columns by which the reconciliation knows a row, or None if it has none, and `kind` is
    its word for what differs. `cause` says what was done to bring it about.
    """

    key: Key
    kind: str
    cause: str
    outcome: Outcome = "reported"

    def view(self) -> dict[str, object]:
        """The difference as the control API shows it."""
        return {"key": list(self.key), "kind": self.kind, "cause": self.cause, "outcome": self.outcome}


def how_many(world: World, population: int, share: float, causes: Mapping[str, Cause[APlanter]]) -> dict[str, int]:
    """How many differences of each cause to plant: a share of the population, split as the causes say.

    Where every cause is asked for there is at least one of each.
    """
    least = 1 if world.options.every_cause else 0
    return {name: max(least, round(population * share * cause.share)) for name, cause in causes.items()}


def plant_causes(
    world: World,
    reconciliation: str,
    planter: APlanter,
    causes: Mapping[str, Cause[APlanter]],
    counts: Mapping[str, int],
) -> None:
    """Makes and lists as many differences of each cause as `counts` says."""
    for name, cause in causes.items():
        for turn in range(counts.get(name, 0)):
            add_difference(world, reconciliation, cause.make(planter, turn), cause.kind, name, cause.outcome)


def add_difference(
    world: World, reconciliation: str, key: Key, kind: str, cause: str, outcome: Outcome = "reported"
) -> None:
    """Adds a difference that was made to those that a run must find, or rightly leaves out."""
    world.differences.setdefault(reconciliation, []).append(Difference(key, kind, cause, outcome))
