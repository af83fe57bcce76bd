"""The differences planted for a reconciliation: their causes, and the expected outcome of each difference.

Each module that plants differences, except `incentives`, has a table of causes and a planter that makes the records.
`plant_causes` works through such a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from sandbox.world import World

#: The expected outcome of a difference in a run: `reported`; `ignored`, if it must not be reported; `settles`, if it is
#: gone at the second reading; `in flight`, if a pending message or write will remove it.
Outcome = Literal["reported", "ignored", "settles", "in flight"]
#: The values of the columns that identify a row of a reconciliation; None stands for a missing value.
Key = tuple[str | int | None, ...]
APlanter = TypeVar("APlanter")


class Cause(NamedTuple, Generic[APlanter]):
    """How records come to differ.

    kind: the reconciliation's name for the kind of difference. share: the share of the differences that have this
    cause, or 0 for a cause so rare that it is planted only if every cause is requested. make: makes the records of one
    difference, in the form that its second argument selects, and returns the key. outcome: the expected outcome of the
    difference.
    """

    kind: str
    share: float
    make: Callable[[APlanter, int], Key]
    outcome: Outcome = "reported"


@dataclass(frozen=True, slots=True)
class Difference:
    """One planted difference.

    `key` has the values of the columns that identify a row of the reconciliation (None for a missing value), and `kind`
    is the reconciliation's name for the kind of difference. `cause` says how the difference was made.
    """

    key: Key
    kind: str
    cause: str
    outcome: Outcome = "reported"

    def view(self) -> dict[str, object]:
        """Returns the difference as the control API shows it."""
        return {"key": list(self.key), "kind": self.kind, "cause": self.cause, "outcome": self.outcome}


def how_many(world: World, population: int, share: float, causes: Mapping[str, Cause[APlanter]]) -> dict[str, int]:
    """Returns how many differences with each cause to plant, by the name of the cause.

    `share` of `population` is divided among the causes in proportion to their shares. If every cause is requested,
    there is at least one difference of each.
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
    """Makes as many differences with each cause as `counts` says, and lists them."""
    for name, cause in causes.items():
        for turn in range(counts.get(name, 0)):
            add_difference(world, reconciliation, cause.make(planter, turn), cause.kind, name, cause.outcome)


def add_difference(
    world: World, reconciliation: str, key: Key, kind: str, cause: str, outcome: Outcome = "reported"
) -> None:
    """Adds a difference, whose records already exist, to the reconciliation's list, with its expected outcome."""
    world.differences.setdefault(reconciliation, []).append(Difference(key, kind, cause, outcome))
