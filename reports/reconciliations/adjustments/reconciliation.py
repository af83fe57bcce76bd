"""Compares the sentencing adjustments of each booking in NOMIS and in DPS: their number and their days, by type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.engine.booking_list import BookingList, ListedBooking, bookings_of, page_of
from reports.engine.frame import records, typed
from reports.engine.reconciliation import Reconciliation
from reports.engine.telemetry import Event, Events
from reports.engine.unit_reader import UnitReader
from reports.engine.units import Population, Reading, Unit, UnreadRecord
from reports.reconciliations.adjustments import causes, counting
from reports.reconciliations.adjustments.bookings import CreatedSince
from reports.reconciliations.adjustments.counting import (
    DIFFERENT_COUNTS,
    DIFFERENT_DAYS,
    FIELDS,
    NAMES,
    DpsSide,
    NomisSide,
    count,
    differences_text,
    differing_bookings,
)
from sync.domains.adjustments.rules import CREATION
from sync.errors import SyncError
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reports.engine.causes import Difference, Explanation
    from reports.engine.parallel_reader import FailedRead
    from reports.engine.reconciliation import Reads
    from reports.engine.result import Mismatch, ReconciliationResult, Unread
    from reports.engine.units import UnlistedPart


class _Reader(UnitReader):
    dps = UpstreamName.SENTENCE_ADJUSTMENTS


class Adjustments(Reconciliation):
    """Compares the latest bookings of all prisoners or, depending on a setting, only of those who are in prison.

    If a first day is given, a run compares the adjustments that were created in NOMIS since that day, each of which
    must have a counterpart in DPS. Such a run is for versions of NOMIS without lists by booking. It does not find
    adjustments that only DPS has.
    """

    name = "adjustments"
    title = "Sentencing adjustments"
    counted = "bookings"
    counted_singular = "booking"
    key = {"booking_id": "Int64"}
    fields = FIELDS
    #: Ids, separated by commas, of the adjustments of a window, of the adjustments that count in NOMIS (`SENTENCE
    #: 33012`), and of the adjustments that count in DPS.
    extra = {"created": "string", "nomis_ids": "string", "dps_ids": "string"}
    kinds = {
        DIFFERENT_COUNTS: "different in the number of adjustments",
        DIFFERENT_DAYS: "different in the number of days of the adjustments",
    }
    domain = "adjustments"
    nouns = {"NOMIS": "NOMIS adjustment", "DPS": "DPS adjustment"}

    def population(self, reads: Reads) -> Population:
        """Pages of bookings, with gaps where NOMIS cannot list them."""
        return self._list.population(reads)

    def listed_again(self, population: Population, reads: Reads) -> Population:
        """Tries again to list the bookings in the gaps."""
        return self._list.listed_again(population, reads)

    @property
    def _list(self) -> BookingList:
        kind, settings = (BookingList if self.scope.from_date is None else CreatedSince), self.settings
        return kind(
            self.services.nomis,
            self.scope,
            active_only=not settings.reports_sentencing_reconciliation_all_prisoners,
            page_size=settings.reports_sentencing_reconciliation_page_size,
            max_gaps=settings.reconciliation_max_page_errors,
        )

    def read(self, unit: Unit, reads: Reads) -> Reading:
        """Counts the adjustments of every booking on a page."""
        return self._reading(bookings_of(unit), _Reader(self.services, reads))

    def reread(self, rows: pd.DataFrame, reads: Reads) -> Reading:
        """Counts the adjustments again, under each prisoner's current number, which a merge may have changed."""
        reader, wanted = _Reader(self.services, reads), _keys(map(_booking, records(rows)))
        listed = reader.existing("NOMIS", lambda _, each: self._list.present(each), wanted, _offender_no)
        return self._reading(listed.values(), reader)

    def unread_part(self, unit: Unit, unread: Sequence[UnreadRecord]) -> Unit:
        """The page `unit` with only the bookings that could not be read."""
        ids = {each.key["booking_id"] for each in unread}
        return page_of([each for each in bookings_of(unit) if each.id in ids], unit.id)

    def _reading(self, bookings: Iterable[ListedBooking], reader: _Reader) -> Reading:
        keys, services = _keys(bookings), self.services
        nomis = reader.each("NOMIS", lambda _, each: counting.read_nomis(services, each), keys, _offender_no)
        readable = {each: keys[each] for each in nomis}
        dps = reader.each("DPS", lambda _, each: counting.read_dps(services, each, nomis[each]), readable, _offender_no)
        rows = self._rows([(each, nomis[each], of_dps) for each, of_dps in dps.items()])
        rows["prison_id"] = rows["prison_id"].fillna(self._prisons(rows, reader.reads))
        return Reading(rows, reader.unread)

    def _prisons(self, rows: pd.DataFrame, reads: Reads) -> pd.Series[Any]:
        """The prison of each booking whose NOMIS adjustments, if any, do not name a prison; NA for the other bookings.

        If the prisons cannot be read, a run for chosen prisons raises `SyncError`; any other run compares the bookings
        without them. A run for the adjustments created since a given day does not look up the prisons, because versions
        of NOMIS without lists by booking do not provide them.
        """
        unknown = [int(each) for each in rows.loc[rows["prison_id"].isna(), "booking_id"]]
        try:
            located = self._list.locations(unknown, reads) if self.scope.from_date is None else {}
        except SyncError:
            if self.scope.prisons:
                raise
            located = {}
        return rows["booking_id"].map(located).astype("string")

    def _rows(self, both: Sequence[tuple[ListedBooking, NomisSide, DpsSide]]) -> pd.DataFrame:
        adjustments = {
            "nomis": {booking.id: of_nomis.adjustments for booking, of_nomis, _ in both},
            "dps": {booking.id: of_dps.adjustments for booking, _, of_dps in both},
        }
        frame = count(adjustments, [booking.id for booking, _, _ in both])
        further: dict[str, list[Any]] = {
            "offender_no": [booking.offender_no for booking, _, _ in both],
            "prison_id": [of_nomis.prison_id for _, of_nomis, _ in both],
            "dps_changed_at": [of_dps.changed_at for _, _, of_dps in both],
            "created": [_joined(booking.created) for booking, _, _ in both],
            "nomis_ids": [_joined(each.id for each in of_nomis.adjustments) for _, of_nomis, _ in both],
            "dps_ids": [_joined(each.id for each in of_dps.adjustments) for _, _, of_dps in both],
        }
        return typed(self, frame.assign(in_nomis=True, in_dps=True, **further))

    def differing(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows that differ, as `counting.differing_bookings` returns them."""
        return differing_bookings(frame)

    def describe(self, rows: pd.DataFrame, reads: Reads) -> pd.DataFrame:
        """Adds to `dps_ids` the ids of the DPS adjustments that the NOMIS adjustments are mapped to."""
        rows = rows.copy()
        ids = [_split(each) for each in rows["nomis_ids"]]
        flat = list(dict.fromkeys(each for of_row in ids for each in of_row))
        mapped = dict(reads.each(UpstreamName.MAPPING, lambda each: counting.mapped_to(self.services, each), flat))
        known = {each: dps_id for each, dps_id in mapped.items() if isinstance(dps_id, str)}
        dps_ids = [
            _joined(dict.fromkeys([*_split(of_dps), *(known[each] for each in of_nomis if each in known)]))
            for of_nomis, of_dps in zip(ids, rows["dps_ids"], strict=True)
        ]
        rows["dps_ids"] = pd.array(dps_ids, dtype="string")
        return rows

    def entities(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The adjustments of both sides, by their DPS ids."""
        return tuple(f"{CREATION.name}:{each}" for each in _split(row["dps_ids"]))

    def explain(self, differences: Sequence[Difference], reads: Reads) -> Sequence[Explanation | FailedRead | None]:
        """Explains each difference with the help of the mappings of the booking's adjustments."""
        return [found for _, found in reads.each(UpstreamName.NOMIS, self._explain, differences)]

    def _explain(self, difference: Difference) -> Explanation | None:
        return causes.explain(self.services, _booking(difference.row), difference)

    def events(self) -> AdjustmentEvents:
        """The events of a run, as the replaced service sent them."""
        return AdjustmentEvents()


def _booking(row: Mapping[str, Any]) -> ListedBooking:
    return ListedBooking(row["booking_id"], row["offender_no"], tuple(_split(row["created"])))


def _keys(bookings: Iterable[ListedBooking]) -> dict[ListedBooking, dict[str, int]]:
    return {each: {"booking_id": each.id} for each in bookings}


def _offender_no(booking: ListedBooking) -> str:
    return booking.offender_no


def _joined(ids: Iterable[str]) -> str | None:
    return ",".join(ids) or None


def _split(ids: object) -> list[str]:
    return ids.split(",") if isinstance(ids, str) and ids else []


#: The most bookings that the summary names, because a larger event is refused.
_MOST_NAMED = 100


class AdjustmentEvents(Events):
    """The events of a run, as the replaced service sent them.

    That service did not compare numbers of days, so differences in days have a separate event and a separate count.
    Alerts on the other differences work as before.
    """

    prefix = "sentencing-reports-reconciliation"
    report = f"{prefix}-report"
    more = f"{prefix}-more-mismatches"

    def requested(self, population: Population) -> Event:
        """The event for the start of a run for everyone."""
        return self.event("requested")

    def mismatch(self, mismatch: Mismatch) -> Event:
        """The event for a booking that differs; `differences` has the DPS figures minus the NOMIS figures."""
        nomis, dps = _totals(mismatch)
        values = {each.field: (_number(each.nomis), _number(each.dps)) for each in mismatch.differences}
        if mismatch.kind == DIFFERENT_COUNTS:
            values = {name: value for name, value in values.items() if name in NAMES}
        return self.event(
            "mismatch" if mismatch.kind == DIFFERENT_COUNTS else "days-mismatch",
            {
                "offenderNo": mismatch.offender_no,
                "bookingId": mismatch.booking_id,
                "nomisAdjustmentsCount": nomis,
                "dpsAdjustmentsCount": dps,
                "differences": differences_text(values),
            },
        )

    def unread(self, unread: Unread) -> Event:
        """The event for a booking that could not be read on at least one side."""
        return self.event("mismatch-error", {"offenderNo": unread.offender_no, "bookingId": unread.booking_id})

    def gap(self, gap: UnlistedPart) -> Event:
        """The event for bookings that could not be listed; `booking` is the key of their page."""
        return self.event("mismatch-page-error", {"booking": gap.detail["booking"]})

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """The event for the end of a run.

        For each booking with different counts, but at most `_MOST_NAMED` bookings, it has the number of adjustments on
        each side.
        """
        if result.status == "failed":
            return [Event(self.report, {"success": False})]
        counted = [each for each in result.mismatches if each.kind == DIFFERENT_COUNTS]
        properties: dict[str, object] = {"mismatch-count": len(counted), "success": result.status == "complete"}
        properties["days-mismatch-count"] = len(result.mismatches) - len(counted)
        if result.status == "incomplete":
            properties |= {
                "incomplete": True,
                "bookings-checked": result.compared,
                "bookings-failed": len(result.unread),
                "pages-failed": len(result.gaps),
            }
        if len(counted) > _MOST_NAMED:
            properties["not-listed"] = len(counted) - _MOST_NAMED
        for each in counted[:_MOST_NAMED]:
            nomis, dps = _totals(each)
            properties[str(each.offender_no)] = f"{nomis}:{dps}"
        return [Event(self.report, properties)]


def _totals(mismatch: Mismatch) -> tuple[int, int]:
    """How many of a booking's adjustments count in NOMIS, and how many count in DPS."""
    fields = [each for name, each in mismatch.by_field.items() if name in NAMES]
    return sum(_number(each.nomis) for each in fields), sum(_number(each.dps) for each in fields)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
