"""What NOMIS and DPS have of a booking: the adjustments that count on each side."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from reports.reconciliations.adjustments.counting import DPS_COUNTERS, NOMIS_COUNTERS, Counted, dps_days
from sync.clock import LONDON
from sync.domains.adjustments import dps as adjustments_api
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.domains.adjustments.rules import MAPPINGS
from sync.failures import RuleError
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from sync.domains.adjustments.nomis import BookingAdjustment, Category, NomisAdjustment
    from sync.upstream.services import Services

    #: An adjustment in NOMIS, and its family.
    InNomis = tuple[Category, BookingAdjustment | NomisAdjustment]


@dataclass(frozen=True, slots=True)
class Booking:
    """A booking to compare.

    created: where only adjustments are compared that NOMIS created in a window, those (`SENTENCE 33012`); else empty.
    """

    id: int
    offender_no: str
    created: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NomisSide:
    """What NOMIS has of a booking; `mapped`: the DPS ids of the adjustments of a window."""

    adjustments: tuple[Counted, ...]
    prison_id: str | None
    mapped: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DpsSide:
    """What DPS has of a booking, and when that was last changed (aware)."""

    adjustments: tuple[Counted, ...]
    changed_at: datetime | None


def read_nomis(services: Services, booking: Booking) -> NomisSide:
    """The adjustments that count in NOMIS: one of no days becomes inactive there, while DPS keeps it active."""
    found = adjustments_of(services, booking, active_only=True)
    counted = tuple(
        Counted(f"{category} {each.id}", NOMIS_COUNTERS[each.adjustment_type.code], each.adjustment_days)
        for category, each in found
        if each.active and each.adjustment_days and _is_compared(each.adjustment_type.code, NOMIS_COUNTERS)
    )
    if booking.created:
        mapped = (mapped_to(services, each.id) for each in counted)
        return NomisSide(counted, None, frozenset(each for each in mapped if each is not None))
    prisons = (each.prison_id for _, each in found if isinstance(each, nomis_adjustments.BookingAdjustment))
    return NomisSide(counted, next((each for each in prisons if each is not None), None))


def read_dps(services: Services, booking: Booking, nomis: NomisSide) -> DpsSide:
    """The adjustments that count in DPS: of the booking, not of zero days; of a window only those that are mapped."""
    person = adjustments_api.person_adjustments(services[UpstreamName.SENTENCE_ADJUSTMENTS], booking.offender_no)
    of_booking = [each for each in person if each.booking_id == booking.id]
    counted = tuple(
        Counted(each.id, DPS_COUNTERS[each.adjustment_type], dps_days(each))
        for each in of_booking
        if each.effective_days != 0
        and (not booking.created or each.id in nomis.mapped)
        and _is_compared(each.adjustment_type, DPS_COUNTERS)
    )
    changed = [each.changed_at for each in of_booking if each.changed_at is not None]
    return DpsSide(counted, max(changed).replace(tzinfo=LONDON).astimezone(UTC) if changed else None)


def adjustments_of(services: Services, booking: Booking, *, active_only: bool) -> Sequence[InNomis]:
    """The adjustments of a booking that NOMIS does not hide, of a window only those. Raises `SyncError`."""
    if not booking.created:
        found = nomis_adjustments.booking_adjustments(services.nomis, booking.id, active_only=active_only)
        if found is None:
            raise RuleError("NOMIS lists the booking, and does not know it when asked for its adjustments")
        return list(found.by_category())
    created: list[InNomis] = []
    for each in booking.created:
        category, number = parse_id(each)
        adjustment = nomis_adjustments.find_adjustment(services.nomis, category, number)
        if adjustment is not None and not adjustment.hidden_from_users:
            created.append((category, adjustment))
    return created


def mapped_to(services: Services, nomis_id: str) -> str | None:
    """The DPS id of the adjustment that a NOMIS one (`SENTENCE 33012`) is mapped to."""
    category, number = parse_id(nomis_id)
    mapping = MAPPINGS.find_by_nomis_ids(services.mapping, number, category)
    return None if mapping is None else MAPPINGS.ids(mapping).dps_id


def parse_id(nomis_id: str) -> tuple[Category, int]:
    """The family and the number of an adjustment in NOMIS."""
    category, number = nomis_id.split()
    return nomis_adjustments.category(category), int(number)


def _is_compared(adjustment_type: str, counters: Container[str]) -> bool:
    if adjustment_type in counters:
        return True
    structlog.get_logger().warning("adjustment-type-not-compared", type=adjustment_type)
    return False
