"""What a reconciliation of the demo found, against what was planted for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.engine.result import ReconciliationResult, Record

#: Identifies a record: the values of the key columns, None for one that it does not have.
Key = tuple[str | int | None, ...]
#: How many keys a problem names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of a reconciliation, and every difference that the sandbox planted for it.

    planted: `key`, `kind` and `outcome` of each: `reported`, `in flight`, or one of those that are not to be reported.
    """

    result: ReconciliationResult
    planted: Sequence[Mapping[str, Any]]

    @property
    def expected(self) -> dict[Key, str]:
        """The kinds of the differences that are to be reported, by key."""
        return {tuple(each["key"]): each["kind"] for each in self.planted if each["outcome"] == "reported"}

    @property
    def found(self) -> dict[Key, str]:
        """The kinds of those that were reported, by key."""
        return {self._key(each): each.kind for each in self.result.mismatches}

    @property
    def in_flight(self) -> tuple[set[Key], set[Key]]:
        """The differences that were planted to be in flight, and those that were."""
        planted = {tuple(each["key"]) for each in self.planted if each["outcome"] == "in flight"}
        return planted, {self._key(each) for each in self.result.in_flight}

    def _key(self, record: Record) -> Key:
        return tuple(record.key.get(column) for column in self.result.key_columns)

    def text(self) -> str:
        """How many were planted and found."""
        expected, found = self.expected, self.found
        right = sum(found.get(key) == kind for key, kind in expected.items())
        planted, in_flight = self.in_flight
        passing = f", {len(planted & in_flight):,} of {len(planted):,} in flight" if planted or in_flight else ""
        others = len(self.planted) - len(expected) - len(planted)
        left_out = f", {others:,} rightly not reported" if others and not found.keys() - expected.keys() else ""
        what = f"{self.result.compared:,} {self.result.counted} compared"
        return f"{right:,} of {len(expected):,} planted found{passing}{left_out}; {what}"

    def problems(self) -> list[str]:
        """What is wrong, one line each; empty if exactly what was planted was found."""
        expected, found = self.expected, self.found
        planted, in_flight = self.in_flight
        both = expected.keys() & found.keys()
        wrong = {
            "planted and not found": expected.keys() - found.keys(),
            "found and not planted": found.keys() - expected.keys(),
            "found as of another kind": {key for key in both if expected[key] != found[key]},
            "planted in flight and not found so": planted - in_flight,
            "found in flight and not planted so": in_flight - planted,
        }
        name = self.result.reconciliation
        lines = [f"{name}: {what}: {_listed(keys)}" for what, keys in wrong.items() if keys]
        if self.result.status != "complete":
            lines.append(f"{name}: the reconciliation is {self.result.status}")
        return lines


def _listed(keys: set[Key]) -> str:
    shown = [" ".join(str(value) for value in key if value is not None) for key in sorted(keys, key=str)[:_NAMED]]
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(shown) + more
