"""How many differences have something in common, and the link that finds exactly those."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reports.engine.result import Mismatch


@dataclass(frozen=True, slots=True)
class Count:
    """What the differences have in common, how many they are, how many of them are new, and what finds them."""

    name: str
    mismatches: int
    new: int
    query: str


def counts(found: Iterable[tuple[str, str, Mismatch]]) -> list[Count]:
    """The counts of differences by name, the most frequent first. found: name, query and difference."""
    listed = list(found)
    queries = {name: query for name, query, _ in listed}
    total = Counter(name for name, _, _ in listed)
    new = Counter(name for name, _, each in listed if each.standing == "new")
    ordered = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return [Count(name, number, new[name], queries[name]) for name, number in ordered]
