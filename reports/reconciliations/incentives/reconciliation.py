"""The incentive reconciliation: it checks whether every active prisoner has the same level in NOMIS and in DPS.

NOMIS is read booking by booking, and DPS in bulk at the same time. Levels that differ are read again by calls for
single bookings, which return the records that the decision table needs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
import structlog

from reports.engine import result as results
from reports.engine.causes import Explanation
from reports.engine.fields import Field
from reports.engine.frame import typed
from reports.engine.parallel_reader import FailedRead
from reports.engine.reconciliation import Reconciliation
from reports.engine.telemetry import Events
from reports.engine.units import Population, Reading, Unit, UnlistedPart, UnreadRecord
from reports.reconciliations.incentives import result as own
from reports.reconciliations.incentives.bookings import ActiveBookingLookup, find_bookings
from reports.reconciliations.incentives.events import IncentiveEvents
from reports.reconciliations.incentives.evidence import PrisonerLevels, ReviewMessage, entities, read_levels
from reports.reconciliations.incentives.listing import Listing, list_prisoners, relist
from reports.reconciliations.incentives.mismatches import explain_pair, sides
from reports.reconciliations.incentives.reading import LevelReader, MissingLevels, why_without_levels
from sync.clock import LONDON
from sync.settings.upstreams import UpstreamName
from sync.tracing import TracedThreads
from sync.upstream.prisoners import PrisonerId, UnusableRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reports.engine.causes import Difference
    from reports.engine.reconciliation import Reads
    from reports.engine.result import ReconciliationResult

_NOT_FOUND = "not among the active prisoners, and without a DPS review for an active booking"


class Incentives(Reconciliation):
    """Compares the incentive levels of all active prisoners. A unit is a page of bookings."""

    name = own.NAME
    title = "Incentive levels"
    counted = "prisoners"
    counted_singular = "prisoner"
    key: ClassVar = {"booking_id": "Int64"}
    fields = (Field("level", "Level", "category"),)
    extra: ClassVar = {"review_id": "Int64"}
    kinds: ClassVar = {kind.code: kind.label for kind in own.KINDS}
    domain = "incentives"
    nouns: ClassVar = {"NOMIS": "NOMIS record", "DPS": "DPS review"}
    gone = "released"
    exclusion_unneeded = "the levels now agree: remove the booking from the list of exclusions"
    explains_doubt = True
    parts: ClassVar = {
        results.ReconciliationResult: own.IncentiveResult,
        results.Mismatch: own.IncentiveMismatch,
        results.InFlight: own.IncentiveInFlight,
        results.Excluded: own.IncentiveExcluded,
        results.Resolved: own.IncentiveResolved,
        results.Unconfirmed: own.IncentiveUnconfirmed,
        results.Unread: own.IncentiveUnread,
    }

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._page_size = self.settings.reports_incentives_reconciliation_page_size
        self._near = timedelta(hours=self.settings.reconciliation_near_hours)
        self._levels = LevelReader(self.services)
        #: Both current records of the bookings that were read again.
        self._pairs: dict[int, PrisonerLevels] = {}

    def population(self, reads: Reads) -> Population:
        """The active bookings, in pages: those of all prisoners, or only those of the chosen prisoners."""
        if self.scope.offender_nos:
            return self._chosen(self.scope.offender_nos, (), reads)
        listing = list_prisoners(
            self.services.nomis,
            self._page_size,
            partial(reads.page, UpstreamName.NOMIS),
            max_page_errors=self.settings.reconciliation_max_page_errors,
            progress=reads.listed,
            begin=lambda prisoners: reads.begin(_unit(0, prisoners)),
        )
        return self._population(listing, ())

    def listed_again(self, population: Population, reads: Reads) -> Population:
        """The known prisoners, and those who have arrived since or were missed.

        If prisoners were chosen, only those who were not found are looked up again. Otherwise, all pages are read
        again, because prisoners move between them.
        """
        known = [prisoner for unit in population.units for prisoner in _prisoners(unit)]
        if self.scope.offender_nos:
            return self._chosen(population.detail["notFound"], known, reads)
        unusable = tuple(UnusableRow(*row) for row in population.detail["unusable"])
        before = Listing(tuple(known), population.total or 0, relisted=True, unusable=unusable)
        listing = relist(self.services.nomis, before, self._page_size, partial(reads.page, UpstreamName.NOMIS))
        return self._population(listing, population.units)

    def read(self, unit: Unit, reads: Reads) -> Reading:
        """Reads the levels of one page of prisoners: from NOMIS one by one, and from DPS in bulk."""
        prisoners = {each.booking_id: each.offender_no for each in _prisoners(unit)}
        with TracedThreads(1, thread_name_prefix="dps-levels") as executor:
            dps_levels = executor.submit(self._dps_levels, list(prisoners), reads)
            nomis = dict(reads.each(UpstreamName.NOMIS, self._levels.nomis_level, prisoners))
            dps = dps_levels.result()
        rows, unread = [], []
        for booking_id, offender_no in prisoners.items():
            of_nomis, of_dps = nomis[booking_id], dps[booking_id]
            failed = next((each for each in (of_nomis, of_dps) if isinstance(each, FailedRead)), None)
            if failed is not None:
                unread.append(_unread(booking_id, offender_no, failed))
            elif not isinstance(of_nomis, FailedRead) and not isinstance(of_dps, FailedRead):
                rows.append((booking_id, offender_no, of_nomis[1], of_nomis[0], of_dps))
        columns = zip(*rows, strict=True) if rows else ((),) * 5
        named = dict(zip(("booking_id", "offender_no", "prison_id", "nomis_level", "dps_level"), columns, strict=True))
        frame = typed(self, {name: list(values) for name, values in named.items()})
        return Reading(_with_sides(frame), tuple(unread))

    def _dps_levels(self, bookings: Sequence[int], reads: Reads) -> dict[int, str | FailedRead | None]:
        """The DPS levels of bookings, read in bulk; any that the bulk call does not identify are then read singly."""
        levels: dict[int, str | FailedRead | None] = dict(self._levels.bulk_levels(bookings, reads))
        missing = [booking_id for booking_id in bookings if booking_id not in levels]
        return levels | dict(reads.each(UpstreamName.INCENTIVES, self._levels.dps_level, missing))

    def unread_part(self, unit: Unit, unread: Sequence[UnreadRecord]) -> Unit:
        """A page with only those prisoners of `unit` whose levels could not be read."""
        bookings = {each.key["booking_id"] for each in unread}
        return _unit(int(unit.id), [each for each in _prisoners(unit) if each.booking_id in bookings])

    def unread_unit(self, unit: Unit, why: FailedRead) -> Sequence[UnreadRecord]:
        """Every prisoner of a page whose levels could not be read."""
        return tuple(_unread(each.booking_id, each.offender_no, why) for each in _prisoners(unit))

    def reread(self, rows: pd.DataFrame, reads: Reads) -> Reading:
        """Reads both levels of each booking again, by calls for single bookings.

        Differing bookings that are no longer active are left out. A booking does not lose its level. So if a level is
        gone although the prisoner was not released, the booking counts as unread.
        """
        wanted = [
            (PrisonerId(int(booking_id), str(offender_no)), (_text(nomis), _text(dps)))
            for booking_id, offender_no, nomis, dps in zip(
                rows["booking_id"], rows["offender_no"], rows["nomis_level"], rows["dps_level"], strict=True
            )
        ]
        first = {prisoner.booking_id: levels for prisoner, levels in wanted}
        found: list[PrisonerLevels] = []
        unread: list[UnreadRecord] = []
        for prisoner, pair in reads.each(UpstreamName.NOMIS, self._pair, [prisoner for prisoner, _ in wanted]):
            if isinstance(pair, FailedRead):
                unread.append(_unread(prisoner.booking_id, prisoner.offender_no, pair))
            else:
                found.append(pair)
        differing = [pair for pair in found if not pair.equal or _lost(pair, first[pair.booking_id]) is not None]
        released = self._released(differing, reads)
        kept = [pair for pair in found if pair.booking_id not in released]
        lost = {pair.booking_id: why for pair in kept if (why := _lost(pair, first[pair.booking_id])) is not None}
        unread += [
            _unread(pair.booking_id, pair.offender_no, FailedRead(lost[pair.booking_id], network=False))
            for pair in kept
            if pair.booking_id in lost
        ]
        kept = [pair for pair in kept if pair.booking_id not in lost]
        self._pairs |= {pair.booking_id: pair for pair in kept}
        return Reading(_with_sides(typed(self, map(_row, kept))), tuple(unread))

    def entities(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the current DPS review and of its prisoner; a prisoner's reviews are handled one at a time."""
        return entities(row["review_id"], row["offender_no"])

    def explain(self, differences: Sequence[Difference], reads: Reads) -> Sequence[Explanation | FailedRead | None]:
        """Explains each difference by a row of the decision table, with both histories as evidence."""
        return [found for _, found in reads.each(UpstreamName.NOMIS, self._explain, differences)]

    def events(self) -> Events:
        """The telemetry events that dashboards and alerts rely on."""
        return IncentiveEvents()

    def record_values(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Both levels, and both current records if they were read again."""
        pair = self._pairs.get(row["booking_id"])
        levels = {"nomis_level": row["nomis_level"], "dps_level": row["dps_level"]}
        return levels if pair is None else levels | sides(pair)

    def result_values(self, frame: pd.DataFrame, gaps: Sequence[UnlistedPart]) -> Mapping[str, Any]:
        """The matrix of levels, and the pages of the list that could not be read."""
        pages = (own.UnreadPage(page=gap.detail["page"], reason=gap.reason) for gap in gaps)
        return {"matrix": matrix(frame), "unread_pages": tuple(pages)}

    def why_implausible(self, frame: pd.DataFrame, earlier: ReconciliationResult | None) -> str | None:
        """Why the levels are implausible (too many prisoners have no level on one side), or None if they are not."""
        before = MissingLevels.of(earlier.matrix) if isinstance(earlier, own.IncentiveResult) else None
        return why_without_levels(frame, before)

    def _population(self, listing: Listing, units: Sequence[Unit]) -> Population:
        known = {booking_id for unit in units for booking_id in unit.content["bookings"]}
        further = [each for each in listing.prisoners if each.booking_id not in known]
        size = self._page_size
        pages = [further[start : start + size] for start in range(0, len(further), size)]
        numbered = (_unit(number, page) for number, page in enumerate(pages, start=len(units)))
        return Population(
            units=(*units, *numbered),
            total=listing.total_elements,
            gaps=tuple(_gap(each.page, each.reason) for each in listing.failed_pages),
            unread=tuple(map(_unusable, listing.unusable)),
            moving=not listing.relisted and not listing.failed_pages,
            detail={"unusable": [_as_list(each) for each in listing.unusable]},
        )

    def _chosen(self, offender_nos: Sequence[str], known: Sequence[PrisonerId], reads: Reads) -> Population:
        """The prisoners to compare: those in `known`, and those of `offender_nos` who have an active booking."""
        found = find_bookings(self.services, offender_nos, self._page_size, reads)
        prisoners = [*known, *found.prisoners]
        size = self._page_size
        pages = [prisoners[start : start + size] for start in range(0, len(prisoners), size)]
        never = (UnreadRecord({}, offender_no, None, _NOT_FOUND) for offender_no in found.not_found)
        return Population(
            units=tuple(_unit(number, page) for number, page in enumerate(pages)),
            total=len(prisoners),
            gaps=tuple(_gap(each.page, each.reason) for each in found.failed_pages),
            unread=(*map(_unusable, found.unusable), *never),
            detail={"notFound": list(found.not_found)},
        )

    def _pair(self, prisoner: PrisonerId) -> PrisonerLevels:
        return read_levels(self.services, prisoner.booking_id, prisoner.offender_no)

    def _released(self, differing: Sequence[PrisonerLevels], reads: Reads) -> frozenset[int]:
        """The ids of those bookings in `differing` that are no longer active.

        The pages of the list are read again after all levels, so they are never older than the levels. Nothing is
        looked up in a run for chosen prisoners. A booking counts as active if its look-up fails.
        """
        if self.scope.offender_nos:
            return frozenset()
        listed = [prisoner for unit in self.listed.units for prisoner in _prisoners(unit)]
        known = Listing(tuple(listed), self.listed.total or 0)
        lookup = ActiveBookingLookup(self.services.nomis, self._page_size, known)
        released = set()
        for booking_id, active in lookup.find_active([each.booking_id for each in differing], reads).items():
            if isinstance(active, FailedRead):
                structlog.get_logger().warning("release-not-checked", booking_id=booking_id, reason=active.reason)
            elif not active:
                released.add(booking_id)
        return frozenset(released)

    def _explain(self, difference: Difference) -> Explanation:
        message = ReviewMessage(difference.pending, difference.given_up, difference.doubt)
        return explain_pair(self.services, self._pairs[difference.row["booking_id"]], message, self._near)


def matrix(frame: pd.DataFrame) -> tuple[own.MatrixCell, ...]:
    """How many prisoners have each pair of levels, sorted by NOMIS code, then by DPS code; missing levels are first."""
    counts = frame.groupby(["nomis_level", "dps_level"], observed=True, dropna=False).size().reset_index(name="count")
    cells = [
        own.MatrixCell(nomis_level=_text(nomis), dps_level=_text(dps), count=int(count))
        for nomis, dps, count in zip(counts["nomis_level"], counts["dps_level"], counts["count"], strict=True)
    ]
    return tuple(sorted(cells, key=lambda cell: (cell.nomis_level or "", cell.dps_level or "")))


def _prisoners(unit: Unit) -> list[PrisonerId]:
    bookings, offender_nos = unit.content["bookings"], unit.content["offenders"]
    return [PrisonerId(*each) for each in zip(bookings, offender_nos, strict=True)]


def _unit(number: int, prisoners: Sequence[PrisonerId]) -> Unit:
    content = {
        "bookings": [each.booking_id for each in prisoners],
        "offenders": [each.offender_no for each in prisoners],
    }
    return Unit(str(number), content, len(prisoners))


def _gap(page: int, reason: str) -> UnlistedPart:
    return UnlistedPart(f"page {page} of the prisoners", reason, {"page": page})


def _unusable(row: UnusableRow) -> UnreadRecord:
    return UnreadRecord(
        {} if row.booking_id is None else {"booking_id": row.booking_id},
        row.offender_no or "unknown",
        None,
        f"row {row.row} of page {row.page} of the active prisoners: {row.reason}",
        detail={"page": row.page, "row": row.row},
    )


def _as_list(row: UnusableRow) -> list[Any]:
    return [row.page, row.row, row.booking_id, row.offender_no, row.reason]


def _unread(booking_id: int, offender_no: str, why: FailedRead) -> UnreadRecord:
    return UnreadRecord({"booking_id": booking_id}, offender_no, None, why.reason, why.network)


def _row(pair: PrisonerLevels) -> dict[str, Any]:
    review = pair.newest_review
    return {
        "booking_id": pair.booking_id,
        "offender_no": pair.offender_no,
        "prison_id": pair.prison_id,
        "nomis_level": pair.nomis_level,
        "dps_level": pair.dps_level,
        "nomis_changed_at": None if pair.nomis is None else _in_london(pair.nomis.iep_date_time),
        "dps_changed_at": None if review is None else _in_london(review.iep_time),
        "review_id": None if review is None else review.id,
    }


def _with_sides(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds the columns `in_nomis` and `in_dps` to a frame: a side without a level has no record."""
    for side in ("nomis", "dps"):
        frame[f"in_{side}"] = frame[f"{side}_level"].notna().astype("boolean")
    return frame


def _in_london(moment: datetime) -> datetime:
    return moment.replace(tzinfo=LONDON)


def _text(level: Any) -> str | None:
    return None if pd.isna(level) else str(level)


def _lost(pair: PrisonerLevels, first: tuple[str | None, str | None]) -> str | None:
    """Why the recheck is implausible: it lacks a level that the first reading found. None if it is plausible."""
    sides = (("NOMIS", first[0], pair.nomis_level), ("DPS", first[1], pair.dps_level))
    for side, before, after in sides:
        if before is not None and after is None:
            return f"{side} had the level {before} when first read, but no level in the recheck, which is not plausible"
    return None
