"""Counts the adjustments on each side by booking and type, leaving out those of zero days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd
import structlog

from reports.engine.compare import differing, is_true
from reports.engine.fields import Field
from sync.clock import LONDON
from sync.domains.adjustments import dps as adjustments_api
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.domains.adjustments.rules import MAPPINGS
from sync.errors import RuleError
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from reports.engine.booking_list import ListedBooking
    from sync.domains.adjustments.dps import PersonAdjustment
    from sync.domains.adjustments.nomis import BookingAdjustment, Category, NomisAdjustment
    from sync.upstream.services import Services

    #: The family of an adjustment in NOMIS, and the adjustment.
    InNomis = tuple[Category, BookingAdjustment | NomisAdjustment]


@dataclass(frozen=True, slots=True)
class AdjustmentCounter:
    """Adjustments that are counted together.

    name: the name of the counter, as in results and events. label: the name of the adjustments in reports. nomis: their
    NOMIS codes. dps: their DPS type.
    """

    name: str
    label: str
    nomis: tuple[str, ...]
    dps: str


#: The counters in the order of the replaced service's event; that service did not compare the last two.
COUNTERS = (
    AdjustmentCounter("lawfullyAtLarge", "Lawfully at large", ("LAL",), "LAWFULLY_AT_LARGE"),
    AdjustmentCounter("unlawfullyAtLarge", "Unlawfully at large", ("UAL",), "UNLAWFULLY_AT_LARGE"),
    AdjustmentCounter(
        "restorationOfAdditionalDaysAwarded",
        "Restoration of additional days awarded",
        ("RADA",),
        "RESTORATION_OF_ADDITIONAL_DAYS_AWARDED",
    ),
    AdjustmentCounter("additionalDaysAwarded", "Additional days awarded", ("ADA",), "ADDITIONAL_DAYS_AWARDED"),
    AdjustmentCounter("specialRemission", "Special remission", ("SREM",), "SPECIAL_REMISSION"),
    AdjustmentCounter("remand", "Remand", ("RX", "RSR"), "REMAND"),
    AdjustmentCounter("unusedDeductions", "Unused deductions", ("UR",), "UNUSED_DEDUCTIONS"),
    AdjustmentCounter("taggedBail", "Tagged bail", ("S240A", "RST"), "TAGGED_BAIL"),
    AdjustmentCounter("custodyAbroad", "Custody abroad", ("TCA",), "CUSTODY_ABROAD"),
    AdjustmentCounter("appealApplicant", "Appeal applicant", ("TSA",), "APPEAL_APPLICANT"),
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
class CountedAdjustment:
    """An adjustment that counts: its id, the name of its counter, and its number of days (None if unknown)."""

    id: str
    counter: str
    days: int | None


def dps_days(adjustment: PersonAdjustment) -> int | None:
    """An adjustment's number of days in DPS: the effective days, or else the entered days; None if neither is known."""
    return adjustment.days if adjustment.effective_days is None else adjustment.effective_days


def counts_in_dps(adjustment: PersonAdjustment) -> bool:
    """Whether an adjustment counts in DPS. It does, unless its effective days are known to be 0."""
    return adjustment.effective_days != 0


def count(
    adjustments: Mapping[str, Mapping[int, Iterable[CountedAdjustment]]], bookings: Sequence[int]
) -> pd.DataFrame:
    """The number of adjustments of each type, and the sum of their days, for each booking and side.

    adjustments: those to count, by side (`nomis`, `dps`) and booking id. Returns a row for each of `bookings`, in the
    same order: `booking_id` (int64), `<side>_<counter>` (int64), and `<side>_<counter>Days` (Int64), which is NA if any
    of the adjustments has an unknown number of days.
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
    """The names of the counters that `fields` belong to. Each field holds either counts or days."""
    return frozenset(name.removesuffix(_DAYS) for name in fields)


def differing_bookings(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with different counts, or with different numbers of days.

    The days of a type are compared only if its counts agree and its days are known on both sides. frame: has the
    columns of `FIELDS` for both sides. The returned rows also have `kind` (`string`) and `differs` (tuples of field
    names).
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
    """For each field that differs, in the order of `FIELDS`, the DPS figure minus the NOMIS figure.

    For example: `remand 1, taggedBail -1`. values: the NOMIS figure and the DPS figure, by field.
    """
    ordered = [(field.name, values[field.name]) for field in FIELDS if field.name in values]
    return ", ".join(f"{name} {dps - nomis}" for name, (nomis, dps) in ordered if nomis != dps)


@dataclass(frozen=True, slots=True)
class NomisSide:
    """The adjustments of a booking that count in NOMIS, and the prison of the booking (None if unknown).

    mapped: the DPS ids that the adjustments are mapped to, in a run for a window; otherwise empty.
    """

    adjustments: tuple[CountedAdjustment, ...]
    prison_id: str | None
    mapped: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DpsSide:
    """The adjustments of a booking that count in DPS.

    changed_at: the aware time of the last change to any adjustment of the booking, counted or not; None if unknown.
    """

    adjustments: tuple[CountedAdjustment, ...]
    changed_at: datetime | None


def read_nomis(services: Services, booking: ListedBooking) -> NomisSide:
    """The adjustments of a booking that count in NOMIS, and the prison of the booking.

    Adjustments of zero days do not count: NOMIS, unlike DPS, makes them inactive.
    """
    found = adjustments_of(services, booking, active_only=True)
    counted = tuple(
        CountedAdjustment(f"{category} {each.id}", NOMIS_COUNTERS[each.adjustment_type.code], each.adjustment_days)
        for category, each in found
        if each.active and each.adjustment_days and _is_compared(each.adjustment_type.code, NOMIS_COUNTERS)
    )
    if booking.created:
        mapped = (mapped_to(services, each.id) for each in counted)
        return NomisSide(counted, None, frozenset(each for each in mapped if each is not None))
    prisons = (each.prison_id for _, each in found if isinstance(each, nomis_adjustments.BookingAdjustment))
    return NomisSide(counted, next((each for each in prisons if each is not None), None))


def read_dps(services: Services, booking: ListedBooking, nomis: NomisSide) -> DpsSide:
    """The adjustments of a booking that count in DPS; for a window, only those that NOMIS adjustments are mapped to."""
    person = adjustments_api.person_adjustments(services[UpstreamName.SENTENCE_ADJUSTMENTS], booking.offender_no)
    of_booking = [each for each in person if each.booking_id == booking.id]
    counted = tuple(
        CountedAdjustment(each.id, DPS_COUNTERS[each.adjustment_type], dps_days(each))
        for each in of_booking
        if counts_in_dps(each)
        and (not booking.created or each.id in nomis.mapped)
        and _is_compared(each.adjustment_type, DPS_COUNTERS)
    )
    changed = [each.changed_at for each in of_booking if each.changed_at is not None]
    return DpsSide(counted, max(changed).replace(tzinfo=LONDON).astimezone(UTC) if changed else None)


def adjustments_of(services: Services, booking: ListedBooking, *, active_only: bool) -> Sequence[InNomis]:
    """A booking's adjustments that NOMIS does not hide from users; for a window, only those created in the window.

    active_only: whether to leave out inactive adjustments; it has no effect for a window. Raises `SyncError`.
    """
    if not booking.created:
        found = nomis_adjustments.booking_adjustments(services.nomis, booking.id, active_only=active_only)
        if found is None:
            raise RuleError("NOMIS lists the booking, but does not find it when its adjustments are read")
        return list(found.by_category())
    created: list[InNomis] = []
    for each in booking.created:
        category, number = parse_id(each)
        adjustment = nomis_adjustments.find_adjustment(services.nomis, category, number)
        if adjustment is not None and not adjustment.hidden_from_users:
            created.append((category, adjustment))
    return created


def mapped_to(services: Services, nomis_id: str) -> str | None:
    """The DPS id that a NOMIS adjustment (`SENTENCE 33012`) is mapped to, or None if it has no mapping."""
    category, number = parse_id(nomis_id)
    mapping = MAPPINGS.find_by_nomis_ids(services.mapping, number, category)
    return None if mapping is None else MAPPINGS.ids(mapping).dps_id


def parse_id(nomis_id: str) -> tuple[Category, int]:
    """The family and the number of an adjustment in NOMIS, from its id (`SENTENCE 33012`)."""
    category, number = nomis_id.split()
    return nomis_adjustments.category(category), int(number)


def _is_compared(adjustment_type: str, counters: Container[str]) -> bool:
    if adjustment_type in counters:
        return True
    structlog.get_logger().warning("adjustment-type-not-compared", type=adjustment_type)
    return False
