"""Why the adjustments of a booking differ. The mappings show which NOMIS and DPS adjustments belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.engine.causes import Cause, Explanation
from reports.engine.result import EvidenceRow
from reports.reconciliations.adjustments.counting import (
    DPS_COUNTERS,
    NOMIS_COUNTERS,
    adjustments_of,
    counters_of,
    counts_in_dps,
    dps_days,
    mapped_to,
)
from sync.alerting import command
from sync.domains.adjustments import dps as adjustments_api
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.domains.adjustments.rules import MAPPINGS
from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.engine.booking_list import ListedBooking
    from reports.engine.causes import Difference
    from reports.engine.result import Diagnosis
    from sync.domains.adjustments.dps import Adjustment, PersonAdjustment
    from sync.domains.adjustments.nomis import BookingAdjustment, Category, NomisAdjustment
    from sync.upstream.services import Services


_RESYNC = ("resync", "adjustment", "{dps_id}")
_FROM_NOMIS = "Ask the prisoner-from-nomis team to resynchronise the prisoner."
_CHECK_BOTH_SIDES = "Check both sides. If DPS is right, write the DPS adjustment to NOMIS."
_WRITE = "Check both sides, then write the DPS adjustment to NOMIS."
NOT_IN_DPS = Cause("the adjustment was made in NOMIS and not sent to DPS", "NOMIS", _FROM_NOMIS, who="the DPS team")
DELETED_IN_DPS = Cause(
    "the adjustment was deleted in DPS, and NOMIS still has it",
    "DPS",
    "Look for a failed message (dlq show sentencing). If there is none, delete the adjustment in NOMIS (resync "
    "adjustment).",
    _RESYNC,
)
NO_LONGER_IN_DPS = Cause("the adjustment no longer counts in DPS, but still counts in NOMIS", "DPS", _WRITE, _RESYNC)
ON_OTHER_BOOKING = Cause(
    "the adjustment is on different bookings in NOMIS and DPS, after a move or a merge",
    "unknown",
    "Check both bookings. Usually there is nothing to do.",
)
UNLISTED_IN_DPS = Cause(
    "DPS has the adjustment, but does not list it for the prisoner",
    "unknown",
    "Check whether DPS has the adjustment under another prisoner number, after a merge, and whether the prisoner has "
    "an active sentence. Usually there is nothing to do.",
)
NOT_IN_NOMIS = Cause(
    "the adjustment was never created in NOMIS",
    "DPS",
    "Look for a failed message (dlq show sentencing). If there is none, create the adjustment in NOMIS (resync "
    "adjustment).",
    _RESYNC,
)
INACTIVE_IN_NOMIS = Cause("the adjustment is inactive in NOMIS and active in DPS", "DPS", _WRITE, _RESYNC)
ZERO_IN_NOMIS = Cause("the adjustment has no days in NOMIS and some in DPS", "DPS", _WRITE, _RESYNC)
NO_EFFECTIVE_DAYS = Cause(
    "the adjustment has no days in NOMIS, and DPS does not say how many of its days take effect",
    "unknown",
    "Ask the DPS team to work out the effective days of the adjustment. If there are none, the adjustment "
    "will no longer count in DPS.",
    who="the DPS team",
)
UNLISTED_IN_NOMIS = Cause(
    "NOMIS has the adjustment, but does not list it for the booking",
    "unknown",
    "Ask NOMIS support whether the adjustment is hidden from users. If so, it belongs to an adjustment to a key date.",
)
DELETED_IN_NOMIS = Cause(
    "the adjustment was deleted in NOMIS, and DPS still has it",
    "unknown",
    "If NOMIS is right, ask the prisoner-from-nomis team to resynchronise the prisoner; if DPS is right, create the "
    "adjustment in NOMIS again (resync adjustment).",
    _RESYNC,
)
OTHER_TYPE = Cause("the type of the adjustment was changed on one side", "unknown", _CHECK_BOTH_SIDES, _RESYNC)
OTHER_DAYS = Cause("the number of days was changed on one side", "unknown", _CHECK_BOTH_SIDES, _RESYNC)


@dataclass(frozen=True, slots=True)
class Found:
    """A cause, the adjustments that are evidence for it, and the id of the DPS adjustment to resync (None if none)."""

    cause: Cause
    evidence: tuple[EvidenceRow, ...]
    dps_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Record:
    """An adjustment in NOMIS, and the id of the DPS adjustment that it is mapped to (None if it has no mapping)."""

    category: Category
    adjustment: BookingAdjustment | NomisAdjustment
    dps_id: str | None

    @property
    def counts(self) -> bool:
        """Whether the adjustment counts in NOMIS."""
        return self.adjustment.active and self.adjustment.adjustment_days != 0

    def row(self) -> EvidenceRow:
        """The adjustment as reports show it."""
        each = self.adjustment
        text = f"{self.category} {each.id}: {each.adjustment_type.code}, {_days(each.adjustment_days)}"
        note = "not mapped" if self.dps_id is None else f"mapped to {self.dps_id}"
        return EvidenceRow(side="NOMIS", text=text + ("" if each.active else ", inactive"), note=note)


def explain(services: Services, booking: ListedBooking, difference: Difference) -> Explanation | None:
    """Why the adjustments of a booking differ, or None if that is not known.

    Raises `SyncError` if evidence cannot be read.
    """
    records = [
        _Record(category, each, mapped_to(services, f"{category} {each.id}"))
        for category, each in adjustments_of(services, booking, active_only=False)
    ]
    person = adjustments_api.person_adjustments(services[UpstreamName.SENTENCE_ADJUSTMENTS], booking.offender_no)
    causes = _Causes(services, booking.id, {each.id: each for each in person}, counters_of(difference.differs))
    found = [causes.of_nomis(record) for record in records]
    if not booking.created:
        mapped = {record.dps_id for record in records}
        unpaired = [each for each in person if each.booking_id == booking.id and each.id not in mapped]
        found += [causes.of_dps(each) for each in unpaired if counts_in_dps(each)]
    known = [each for each in found if each is not None]
    if not known:
        return None
    evidence = tuple(row for each in known for row in each.evidence)
    return Explanation(_diagnosis(booking.offender_no, known, difference), evidence)


@dataclass(frozen=True, slots=True)
class _Causes:
    services: Services
    booking_id: int
    person: dict[str, PersonAdjustment]
    counters: frozenset[str]

    def of_nomis(self, record: _Record) -> Found | None:
        """Why a NOMIS adjustment disagrees with DPS; None if it agrees, or if nothing differs for its type."""
        each, in_dps = record.adjustment, self.person.get(record.dps_id or "")
        counter = NOMIS_COUNTERS.get(each.adjustment_type.code)
        dps_counter = None if in_dps is None else DPS_COUNTERS.get(in_dps.adjustment_type)
        if self.counters.isdisjoint({counter, dps_counter}):
            return None
        rows = (record.row(), *(() if in_dps is None else (_dps_row(in_dps),)))
        cause = self._cause(record, in_dps, same_type=counter == dps_counter)
        return None if cause is None else Found(cause, rows, record.dps_id)

    def _cause(self, record: _Record, in_dps: PersonAdjustment | None, *, same_type: bool) -> Cause | None:
        days = record.adjustment.adjustment_days
        if in_dps is None:
            if not record.counts:
                return None
            return NOT_IN_DPS if record.dps_id is None else self._elsewhere(record.dps_id)
        if in_dps.booking_id != self.booking_id:
            return ON_OTHER_BOOKING if record.counts else None
        if not record.counts:
            if not counts_in_dps(in_dps):
                return None
            if days:
                return INACTIVE_IN_NOMIS
            return ZERO_IN_NOMIS if dps_days(in_dps) else NO_EFFECTIVE_DAYS
        if not counts_in_dps(in_dps):
            return NO_LONGER_IN_DPS
        if not same_type:
            return OTHER_TYPE
        return None if dps_days(in_dps) in (None, days) else OTHER_DAYS

    def _elsewhere(self, dps_id: str) -> Cause:
        """Why the DPS adjustment that a mapping names is not in the prisoner's list."""
        adjustment = _find(self.services, dps_id)
        if adjustment is None:
            return DELETED_IN_DPS
        if adjustment.booking_id != self.booking_id:
            return ON_OTHER_BOOKING
        return UNLISTED_IN_DPS if adjustment.active else NO_LONGER_IN_DPS

    def of_dps(self, adjustment: PersonAdjustment) -> Found | None:
        """Why the booking has no NOMIS counterpart of a DPS adjustment; None if nothing differs for the DPS type."""
        if DPS_COUNTERS.get(adjustment.adjustment_type) not in self.counters:
            return None
        mapping = MAPPINGS.find(self.services.mapping, adjustment.id)
        if mapping is None:
            return Found(NOT_IN_NOMIS, (_dps_row(adjustment, "not mapped"),), adjustment.id)
        number, family = MAPPINGS.ids(mapping).nomis_ids
        record = nomis_adjustments.find_adjustment(self.services.nomis, nomis_adjustments.category(family), int(number))
        row = _dps_row(adjustment, f"mapped to {family} {number}")
        if record is None:
            return Found(DELETED_IN_NOMIS, (row,), adjustment.id)
        return Found(UNLISTED_IN_NOMIS if record.booking_id == self.booking_id else ON_OTHER_BOOKING, (row,))


def _find(services: Services, dps_id: str) -> Adjustment | None:
    try:
        return adjustments_api.adjustment(services[UpstreamName.SENTENCE_ADJUSTMENTS], dps_id)
    except UpstreamError as error:
        if error.absent:
            return None
        raise


def _diagnosis(offender_no: str, found: Sequence[Found], difference: Difference) -> Diagnosis:
    """One diagnosis for all the causes found. It is named after the first cause; its explanation lists the others."""
    causes = list(dict.fromkeys(each.cause for each in found))
    first = causes[0]
    resyncs = [
        each.cause.command_for({"dps_id": each.dps_id})
        for each in found
        if each.cause.command and each.dps_id is not None
    ]
    again = command("reconcile", "adjustments", "--prisoner", offender_no, "--no-notify")
    others = "; ".join(cause.name for cause in causes[1:])
    explanation = [f"There are other causes: {others}." if others else "", difference.given_up_text]
    return first.diagnosis(
        difference,
        who=first.who if len({cause.who for cause in causes}) == 1 else "this team",
        confidence="high" if len(causes) == 1 else "medium",
        right_side=first.right_side if len({cause.right_side for cause in causes}) == 1 else "unknown",
        explanation=" ".join(filter(None, explanation)),
        action=" ".join(dict.fromkeys(cause.action for cause in causes)),
        commands=(*resyncs, again),
    )


def _dps_row(adjustment: PersonAdjustment, note: str = "") -> EvidenceRow:
    days = dps_days(adjustment)
    text = f"{adjustment.id}: {adjustment.adjustment_type}, {'days not known' if days is None else _days(days)}"
    other = "" if adjustment.booking_id is None else f"booking {adjustment.booking_id}"
    return EvidenceRow(
        side="DPS", at=adjustment.changed_at, text=text, note="; ".join(part for part in (note, other) if part)
    )


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"
