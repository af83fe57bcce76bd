"""How adjustments are counted: by booking, side and type, those of zero days left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from reports.engine.compare import differing, is_true
from reports.engine.fields import Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sync.domains.adjustments.dps import PersonAdjustment


@dataclass(frozen=True, slots=True)
class Counter:
    """What is counted together: the codes of NOMIS and the type of DPS, and what reports call them."""

    name: str
    label: str
    nomis: tuple[str, ...]
    dps: str


#: As the replaced service counts, in the order in which its event names them; it did not compare the last two.
COUNTERS = (
    Counter("lawfullyAtLarge", "Lawfully at large", ("LAL",), "LAWFULLY_AT_LARGE"),
    Counter("unlawfullyAtLarge", "Unlawfully at large", ("UAL",), "UNLAWFULLY_AT_LARGE"),
    Counter(
        "restorationOfAdditionalDaysAwarded",
        "Restoration of additional days awarded",
        ("RADA",),
        "RESTORATION_OF_ADDITIONAL_DAYS_AWARDED",
    ),
    Counter("additionalDaysAwarded", "Additional days awarded", ("ADA",), "ADDITIONAL_DAYS_AWARDED"),
    Counter("specialRemission", "Special remission", ("SREM",), "SPECIAL_REMISSION"),
    Counter("remand", "Remand", ("RX", "RSR"), "REMAND"),
    Counter("unusedDeductions", "Unused deductions", ("UR",), "UNUSED_DEDUCTIONS"),
    Counter("taggedBail", "Tagged bail", ("S240A", "RST"), "TAGGED_BAIL"),
    Counter("custodyAbroad", "Custody abroad", ("TCA",), "CUSTODY_ABROAD"),
    Counter("appealApplicant", "Appeal applicant", ("TSA",), "APPEAL_APPLICANT"),
)
NAMES = tuple(each.name for each in COUNTERS)
NOMIS_COUNTERS: Mapping[str, str] = {code: each.name for each in COUNTERS for code in each.nomis}
DPS_COUNTERS: Mapping[str, str] = {each.dps: each.name for each in COUNTERS}
_COUNTS = frozenset(NAMES)
_DAYS = "Days"
FIELDS = (
    *(Field(each.name, each.label, "Int16") for each in COUNTERS),
    *(Field(each.name + _DAYS, f"{each.label}, days", "Int32") for each in COUNTERS),
)

DIFFERENT_COUNTS, DIFFERENT_DAYS = "different-counts", "different-days"


@dataclass(frozen=True, slots=True)
class Counted:
    """An adjustment that counts: its type by the name of its counter, and its days, None where they are not known."""

    id: str
    counter: str
    days: int | None


def dps_days(adjustment: PersonAdjustment) -> int | None:
    """The days of an adjustment in DPS: those that count in the end, else those that were given."""
    return adjustment.days if adjustment.effective_days is None else adjustment.effective_days


def count(adjustments: Mapping[str, Mapping[int, Iterable[Counted]]], bookings: Sequence[int]) -> pd.DataFrame:
    """How many adjustments of each type each booking has on each side, and their days.

    adjustments: by side (`nomis`, `dps`) and booking. Returns a row for each of `bookings`, in their order:
    `booking_id` (int64), `<side>_<counter>` (int64), and `<side>_<counter>Days` (Int64), NA where the days of one are
    not known.
    """
    rows = [
        (booking_id, f"{side}_{each.counter}", each.days)
        for side, by_booking in adjustments.items()
        for booking_id, found in by_booking.items()
        for each in found
    ]
    index = pd.Index(list(bookings), dtype="int64", name="booking_id")
    long = pd.DataFrame(rows, columns=["booking_id", "column", "days"]).astype(
        {"booking_id": "int64", "column": "str", "days": "Int64"}
    )
    columns = [f"{side}_{name}" for side in ("nomis", "dps") for name in NAMES]
    counts = pd.crosstab(long["booking_id"], long["column"]).reindex(index=index, columns=columns, fill_value=0)
    days = (
        long.groupby(["booking_id", "column"])["days"]
        .sum(skipna=False)
        .unstack(fill_value=0)
        .reindex(index=index, columns=columns, fill_value=0)
        .rename(columns=lambda name: name + _DAYS)
    )
    return pd.concat([counts, days], axis="columns").reset_index()


def counters_of(fields: Iterable[str]) -> frozenset[str]:
    """The counters that fields are about, by count or by days."""
    return frozenset(name.removesuffix(_DAYS) for name in fields)


def differing_bookings(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose counts differ, or whose days do where the counts agree and both sides know the days.

    frame: the columns of `FIELDS`. Returns the rows with `kind` (`string`) and `differs` (tuples of field names) added.
    """
    same = {}
    for name in NAMES:
        nomis, dps = frame[f"nomis_{name}{_DAYS}"], frame[f"dps_{name}{_DAYS}"]
        as_many = is_true(frame[f"nomis_{name}"] == frame[f"dps_{name}"])
        same[f"{name}{_DAYS}"] = ~(as_many & nomis.notna() & dps.notna())
    rows = differing(frame, FIELDS, (DIFFERENT_COUNTS,) * 3, same)
    of_days = is_true(rows["differs"].map(_COUNTS.isdisjoint))
    return rows.assign(kind=rows["kind"].mask(of_days, DIFFERENT_DAYS))


def differences_text(values: Mapping[str, tuple[int, int]]) -> str:
    """What DPS has more than NOMIS, less with a minus sign, in the order of the fields: `remand 1, taggedBail -1`.

    values: the figures of NOMIS and DPS by field.
    """
    ordered = [(field.name, values[field.name]) for field in FIELDS if field.name in values]
    return ", ".join(f"{name} {dps - nomis}" for name, (nomis, dps) in ordered if nomis != dps)
