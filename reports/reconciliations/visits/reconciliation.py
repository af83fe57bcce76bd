"""The reconciliation of visits, prison by prison. It is new: none of the replaced services reconciled visits."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from reports.engine.frame import typed
from reports.engine.plausibility import FEWEST_LISTED, SMALLEST_SHARE
from reports.engine.reconciliation import Reconciliation, ServiceTooOld
from reports.engine.result import FieldValues, Mismatch, ReconciliationResult
from reports.engine.telemetry import Event, Events
from reports.engine.units import Population, Reading, Unit
from reports.reconciliations.visits import causes, compare
from reports.reconciliations.visits.reading import PAGE_SIZE, VisitReader
from reports.reconciliations.visits.result import VisitMismatch, VisitResult
from sync import clock
from sync.domains.visits import dps as visit_scheduler
from sync.domains.visits.nomis import knows_prisoner
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from reports.engine.causes import Difference, Explanation
    from reports.engine.parallel_reader import FailedRead
    from reports.engine.reconciliation import Reads
    from reports.engine.result import Unread
    from reports.engine.units import UnlistedPart
    from sync.settings.declaration import Settings


#: The longest time back for which NOMIS visits are examined, and the time if there is no earlier run.
_LONGEST_WINDOW: Final = timedelta(days=60)
_DAY: Final = timedelta(days=1)
#: If the last run that did not fail began longer ago than this, a small number of visits is plausible.
_BELIEVED_AFTER: Final = timedelta(days=3)


class Visits(Reconciliation):
    """Compares the visits from yesterday onwards that are booked or cancelled in DPS with the visits in NOMIS."""

    name = "visits"
    title = "Visits"
    counted = "visits"
    counted_singular = "visit"
    key: ClassVar = compare.KEY
    fields = compare.FIELDS
    extra: ClassVar = compare.EXTRA
    kinds: ClassVar = compare.KINDS
    domain = "visits"
    dps_id_column = "reference"
    nouns: ClassVar = {"NOMIS": "NOMIS visit", "DPS": "DPS visit"}
    parts: ClassVar = {Mismatch: VisitMismatch, ReconciliationResult: VisitResult}

    @classmethod
    def window(cls, settings: Settings, today: date) -> tuple[date, date]:
        """Yesterday, and the last day that the settings cover.

        How yesterday's visits ended may only now have been recorded in NOMIS.
        """
        return today - timedelta(days=1), today + timedelta(days=settings.visit_reconciliation_days_ahead)

    def population(self, reads: Reads) -> Population:
        """The chosen prisoners or prisons.

        If none are chosen, the population is the prisons in the settings, or else those where visits can be booked.
        """
        first, last = self.days
        days = {"from": first.isoformat(), "to": last.isoformat()}
        if self.scope.offender_nos:
            return Population(tuple(Unit(each) for each in self.scope.offender_nos), None, detail=days)
        prisons = self.scope.prisons or self.settings.visit_prisons
        if not prisons:
            client = self.services[UpstreamName.VISITS]
            prisons = reads.one(UpstreamName.VISITS, lambda: visit_scheduler.supported_prisons(client))
        content = {"created_from": self._created_from().isoformat(timespec="seconds"), "cut": self.scope.days_chosen}
        known = self._reported_visits()
        units = tuple(Unit(each, {**content, "known": known.get(each, [])}) for each in prisons)
        return Population(units, None, detail=days)

    def read(self, unit: Unit, reads: Reads) -> Reading:
        """Reads the DPS visits of a prison or a prisoner, with their mappings and NOMIS visits.

        For a prison, it also reads the other recent NOMIS visits, and those of `_reported_visits`.
        """
        reader = VisitReader(self.services, reads)
        if self.scope.offender_nos:
            rows = reader.read_prisoner(unit.id, self.days)
        else:
            created_from = datetime.fromisoformat(unit.content["created_from"])
            known, cut = unit.content["known"], unit.content["cut"]
            rows = reader.read_prison(unit.id, self.days, created_from, known, cut=cut)
        return Reading(typed(self, rows), reader.unread, tuple(reader.gaps))

    def reread(self, rows: pd.DataFrame, reads: Reads) -> Reading:
        """Reads the visits of `rows` again, by their references and NOMIS ids."""
        reader = VisitReader(self.services, reads)
        found = reader.read_again(rows["reference"].dropna(), rows["visit_id"].dropna())
        return Reading(typed(self, found), reader.unread)

    def differing(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows that differ, as `compare.differing` returns them."""
        return compare.differing(frame, _today())

    def result_values(self, frame: pd.DataFrame, gaps: Sequence[UnlistedPart]) -> Mapping[str, Any]:
        """The numbers of visits on each side, of visits made on the NOMIS screen, and of pages in the DPS lists."""
        of_prisons = frame[frame["in_dps"] & ~frame["surplus"]].groupby("prison_id").size()
        return {
            "dps_visits": int(of_prisons.sum()),
            "nomis_visits": int(frame["in_nomis"].sum()),
            "on_screen": int(frame["reference"].isna().sum()),
            "pages": sum(math.ceil(count / PAGE_SIZE) for count in of_prisons),
        }

    def why_implausible(self, frame: pd.DataFrame, earlier: ReconciliationResult | None) -> str | None:
        """Why the number of DPS visits is implausible, compared with the number in the last run that did not fail.

        It is implausible if it is 0 although the earlier number was not, or if it is less than half of an earlier
        number of at least `FEWEST_LISTED`. None if the number is plausible, if prisons or days were chosen, if there is
        no such run, or if that run began more than `_BELIEVED_AFTER` ago.
        """
        if self.scope.prisons or self.scope.days_chosen or not isinstance(earlier, VisitResult):
            return None
        found, before = int((frame["in_dps"] & ~frame["surplus"]).sum()), earlier.dps_visits
        few = found < SMALLEST_SHARE * before and before >= FEWEST_LISTED
        gone = bool(before) and not found
        if not (few or gone) or clock.now() - earlier.started_at > _BELIEVED_AFTER:
            return None
        return f"DPS lists {found:,} visits, but it listed {before:,} in the last run that did not fail"

    def explain(self, differences: Sequence[Difference], reads: Reads) -> Sequence[Explanation | FailedRead | None]:
        """Explains differences.

        If the prisoner numbers of a visit differ, looks up whether NOMIS still knows the one in DPS.
        """
        numbers = {each.row["dps_prisoner"] for each in differences if "prisoner" in each.differs}
        try:
            found = reads.each(UpstreamName.NOMIS, lambda each: knows_prisoner(self.services.nomis, each), numbers)
        except ServiceTooOld:
            found = []
        merged = {number for number, known in found if known is False}
        return [
            causes.explain(each, _today(), merged="prisoner" in each.differs and each.row["dps_prisoner"] in merged)
            for each in differences
        ]

    def events(self) -> VisitEvents:
        """The telemetry events of a run."""
        return VisitEvents()

    def _created_from(self) -> datetime:
        """The earliest creation time, in London time, of the NOMIS visits to examine.

        It is a day before the last complete run began, but at least two days and at most `_LONGEST_WINDOW` ago. If
        there is no such run, it is `_LONGEST_WINDOW` ago.
        """
        now = clock.london_now()
        before = _LONGEST_WINDOW if self.earlier is None else max(now - self.earlier.started_at, _DAY) + _DAY
        return (now - min(before, _LONGEST_WINDOW)).replace(tzinfo=None)

    def _reported_visits(self) -> dict[str, list[int]]:
        """The NOMIS visits to examine again, by prison: those that differed in the last complete run.

        Visits that have differed for longer than `_LONGEST_WINDOW` are left out.
        """
        found: dict[str, list[int]] = {}
        oldest = clock.now() - _LONGEST_WINDOW
        for each in () if self.earlier is None else self.earlier.mismatches:
            if not isinstance(each, VisitMismatch) or each.since < oldest:
                continue
            if each.visit_id is not None and each.prison_id is not None:
                found.setdefault(each.prison_id, []).append(each.visit_id)
        return found


def _today() -> date:
    return clock.london_now().date()


#: The most differences that the summary lists.
_LISTED: Final = 10


class VisitEvents(Events):
    """The telemetry events of a run."""

    prefix = "visits-reports-reconciliation"
    report = f"{prefix}-report"
    more = f"{prefix}-more"

    def requested(self, population: Population) -> Event:
        """The event for the start of a run, with the prisons and the days that the run covers."""
        prisons = ", ".join(unit.id for unit in population.units)
        days = {name: population.detail[name] for name in ("from", "to")}
        return self.event("requested", {"prisons": f"[{prisons}]", **days})

    def mismatch(self, mismatch: Mismatch) -> Event:
        """The event for a visit that differs."""
        assert isinstance(mismatch, VisitMismatch)
        start = mismatch.by_field.get("start", FieldValues(field="start"))
        properties = {
            "visitId": mismatch.reference,
            "nomisVisitId": mismatch.visit_id,
            "offenderNo": mismatch.offender_no,
            "prisonId": mismatch.prison_id,
            "startDateTime": start.dps or start.nomis,
            "reason": mismatch.kind,
            "nomis": ", ".join(f"{each.field}={each.nomis}" for each in mismatch.differences),
            "dps": ", ".join(f"{each.field}={each.dps}" for each in mismatch.differences),
        }
        return self.event("mismatch", properties)

    def unread(self, unread: Unread) -> Event:
        """The event for a visit that could not be read, or for a prison if none of its visits could be read."""
        if unread.key:
            return self.event("mismatch-error", {"visitId": unread.key["visit"], "error": unread.reason})
        return self._page_error({"prisonId": unread.unit, "side": unread.side}, unread.reason)

    def gap(self, gap: UnlistedPart) -> Event:
        """The event for a list of visits, or a page of it, that could not be read."""
        return self._page_error(gap.detail, gap.reason)

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """The event for the end of a run.

        It has the counts of the run and, by visit, the kinds of the first `_LISTED` differences.
        """
        assert isinstance(result, VisitResult)
        counts = {
            "visit-count": result.dps_visits,
            "nomis-visit-count": result.nomis_visits,
            "pages-count": result.pages,
            "mismatch-count": len(result.mismatches),
            "in-flight-count": len(result.in_flight),
            "unread-count": len(result.unread),
            "success": result.status == "complete",
        }
        listed = {str(each.key["visit"]): each.kind for each in result.mismatches[:_LISTED]}
        yield Event(self.report, {**listed, **counts})

    def _page_error(self, detail: Mapping[str, Any], error: str) -> Event:
        return self.event("mismatch-page-error", {**detail, "error": error})
