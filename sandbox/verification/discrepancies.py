"""What a verification finds: problems with single records, and NOMIS records that no mapping points to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Final

MISSING: Final = "missing"
SURPLUS: Final = "surplus"
DUPLICATE: Final = "duplicate"
UNMAPPED: Final = "unmapped"
WRONGLY_MAPPED: Final = "wrongly mapped"
WRONG_STATE: Final = "wrong state"
NOT_DELETED: Final = "not deleted"
MAPPING_LEFT: Final = "mapping left"
NOT_REFUSED: Final = "not refused"

#: How many bytes the columns for comments hold in NOMIS.
COMMENT_BYTES: Final = 240


@dataclass(slots=True)
class Discrepancies:
    """The problems found so far, the NOMIS records that no mapping points to, and the number of entities checked."""

    problems: list[dict[str, object]] = field(default_factory=list)
    surplus: list[dict[str, object]] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)

    def count(self, domain: str) -> None:
        """Counts one more entity of a domain."""
        self.looked_at[domain] = self.looked_at.get(domain, 0) + 1

    def add(self, domain: str, dps_id: int | str | None, problem: str, **details: object) -> None:
        """Adds one problem, with further details."""
        self.problems.append({"domain": domain, "dps_id": dps_id, "problem": problem, **plain(details)})

    def unmapped_record(self, domain: str, dps_id: int | str | None, **details: object) -> None:
        """Lists a NOMIS record that no mapping points to; if `dps_id` is None, the record is also a problem."""
        self.surplus.append({"domain": domain, "dps_id": dps_id, **plain(details)})
        if dps_id is None:
            self.add(domain, None, SURPLUS, **details)

    def compare(
        self, domain: str, dps_id: int | str, expected: Mapping[str, object], found: Mapping[str, object]
    ) -> None:
        """Adds a problem if a NOMIS record differs from what is expected; `Either` allows several values."""
        differences = {
            name: {"expected": plain_value(wanted), "nomis": plain_value(found.get(name))}
            for name, wanted in expected.items()
            if not _same(wanted, found.get(name))
        }
        if differences:
            self.add(domain, dps_id, WRONG_STATE, differences=differences)


@dataclass(frozen=True, slots=True)
class Either:
    """Several values for a field, each of which is right."""

    values: tuple[object, ...]


def _same(wanted: object, found: object) -> bool:
    if isinstance(wanted, Either):
        return found in wanted.values
    return wanted == found


def held(text: str | None, most: int) -> str | None:
    """What NOMIS holds of a string in a column of `most` bytes: as many of the first characters as fit."""
    return None if text is None else text.encode()[:most].decode(errors="ignore")


def plain(values: Mapping[str, object]) -> dict[str, object]:
    """The values in a form that JSON allows."""
    return {name: plain_value(value) for name, value in values.items()}


def plain_value(value: object) -> object:
    """A value in a form that JSON allows."""
    if isinstance(value, Either):
        return [plain_value(each) for each in value.values]
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted((plain_value(each) for each in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain_value(each) for each in value]
    if isinstance(value, Mapping):
        return {str(plain_value(name)): plain_value(each) for name, each in value.items()}
    return value
