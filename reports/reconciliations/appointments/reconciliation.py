"""Checks that NOMIS has every DPS appointment, with the same details, and no other appointments."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
import pandas as pd

from reports.engine.frame import typed
from reports.engine.reconciliation import Reconciliation
from reports.engine.telemetry import Event, Events
from reports.engine.units import Population, Reading, Unit, UnlistedPart, UnreadRecord
from reports.reconciliations.appointments.causes import explain
from reports.reconciliations.appointments.compare import (
    DPS_ONLY,
    DUPLICATE,
    EXTRA,
    FIELDS,
    KINDS,
    NOMIS_ONLY,
    WITHOUT_DPS,
    WITHOUT_NOMIS,
    differences,
    year_ahead,
)
from reports.reconciliations.appointments.reading import AppointmentReader
from sync.clock import london_now
from sync.domains.appointments.nomis import event_id_page
from sync.settings.upstreams import UpstreamName
from sync.upstream.prisons import RolloutPlan, rollout_plan, rollout_plans

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reports.engine.causes import Difference, Explanation
    from reports.engine.parallel_reader import FailedRead
    from reports.engine.reconciliation import Reads
    from reports.engine.result import Mismatch, ReconciliationResult, Unread
    from reports.reconciliations.appointments.reading import Days
    from sync.domains.appointments.nomis import NomisAppointment
    from sync.settings.declaration import Settings


_YEAR_AHEAD = "it starts a year or more ahead in NOMIS"


class Appointments(Reconciliation):
    """Compares appointments through their mappings, prison by prison, over a window of days."""

    name = "appointments"
    title = "Appointments"
    counted = "appointments"
    counted_singular = "appointment"
    key: ClassVar[Mapping[str, str]] = {"nomis_id": "Int64", "dps_id": "Int64"}
    fields = FIELDS
    extra = EXTRA
    kinds = KINDS
    domain = "appointments"
    dps_id_column = "dps_id"
    nouns: ClassVar = {"NOMIS": "NOMIS appointment", "DPS": "DPS appointment"}

    @classmethod
    def window(cls, settings: Settings, today: date) -> Days:
        """Yesterday, and the last day that the look-ahead setting covers."""
        ahead = settings.reports_appointments_reconciliation_lookahead_days
        return today - timedelta(days=1), today + timedelta(days=ahead)

    def population(self, reads: Reads) -> Population:
        """The prisons that manage appointments in DPS, each with the number of its NOMIS appointments in the window.

        A chosen prison that does not manage its appointments in DPS is a gap.
        """
        chosen = self.scope.prisons or self.settings.appointment_prisons
        plans = self._plans(chosen, reads) if chosen else self._all_plans(reads)
        gaps = [
            UnlistedPart(f"prison {prison}", "DPS has no appointments for this prison", {"prisonId": prison})
            for prison, plan in plans.items()
            if plan is None or (isinstance(plan, RolloutPlan) and not plan.appointments_rolled_out)
        ]
        prisons = sorted(plans.keys() - {gap.detail["prisonId"] for gap in gaps})

        def count(prison: str) -> int:
            return event_id_page(self.services.nomis, prison, self.days, 0, 1).total

        counts = dict(reads.each(UpstreamName.NOMIS, count, prisons))
        sizes = {prison: found for prison, found in counts.items() if isinstance(found, int)}
        units = [Unit(prison, size=sizes.get(prison, 1)) for prison in prisons]
        total = sum(sizes.values()) if len(sizes) == len(prisons) else None
        return Population(tuple(units), total, tuple(gaps) if chosen else ())

    def read(self, unit: Unit, reads: Reads) -> Reading:
        """Reads a prison's appointments in NOMIS and DPS, or only those of the chosen prisoners."""
        first, last = self.days
        others = {each.id for each in self.listed.units} - {unit.id}
        reader = AppointmentReader(self.services, reads)
        size = self.settings.reports_appointments_reconciliation_page_size
        attendees = reader.search(unit.id, (first, last))
        if attendees is None:
            return Reading(typed(self, []), gaps=tuple(reader.gaps))
        event_ids = reader.event_ids(unit.id, (first, last), size)

        def is_read_elsewhere(record: NomisAppointment | None) -> bool:
            # A record read elsewhere is in the list of another prison of this run.
            if record is None or record.prison_id not in others or record.start_date_time is None:
                return False
            return first <= record.start_date_time.date() <= last

        rows = pd.DataFrame()
        if event_ids or attendees:
            rows = reader.rows(event_ids, attendees, is_read_elsewhere).assign(prison_id=unit.id)
            if self.scope.offender_nos:
                rows = rows[rows["offender_no"].isin(self.scope.offender_nos)]
        unread = (replace(each, detail={"prison_id": unit.id}) for each in reader.unread)
        return Reading(typed(self, rows), tuple(unread), tuple(reader.gaps))

    def reread(self, rows: pd.DataFrame, reads: Reads) -> Reading:
        """Reads the appointments of `rows` again, together with the appointments that they duplicate or resemble.

        A row is unread if any of its appointments could not be read. Each row keeps the prison under which it was
        listed.
        """
        only_dps, only_nomis = rows["nomis_id"].isna(), rows["dps_id"].isna()
        linked = {
            "nomis_id": (rows["nomis_id"], rows["nomis_duplicate_of"], rows["like"].where(only_dps)),
            "dps_id": (rows["dps_id"], rows["like"].where(only_nomis)),
        }
        reader = AppointmentReader(self.services, reads)
        searched = _numbers(rows["dps_id"].where(rows["dps_cancelled"].notna()))
        instances = reader.instances(_numbers(*linked["dps_id"]), searched)
        found = reader.rows(_numbers(*linked["nomis_id"]), instances)
        unread: dict[int, UnreadRecord] = {}
        for failed in reader.unread:
            hits = [
                column.eq(number).to_numpy(dtype=bool, na_value=False)
                for name, number in failed.key.items()
                for column in linked[name]
            ]
            places = map(int, np.flatnonzero(np.logical_or.reduce(hits)))
            unread |= {place: replace(failed, key=self._key_at(rows, place)) for place in places}
        known = rows.reset_index(drop=True).drop(index=list(unread))[[*self.key, "prison_id"]]
        return Reading(typed(self, found.merge(known, on=list(self.key))), tuple(unread.values()))

    def differing(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows that differ."""
        return differences(frame)

    def describe(self, rows: pd.DataFrame, reads: Reads) -> pd.DataFrame:
        """Adds `ignored`: the reason why a difference is not reported, or NA if it is reported.

        If an appointment that both sides have starts a year or more ahead in NOMIS, for example in 2062, the NOMIS date
        counts as a typing error.
        """
        ahead = year_ahead(rows, london_now().date())
        return rows.assign(ignored=pd.Series(_YEAR_AHEAD, index=rows.index, dtype="string").where(ahead))

    def explain(self, differences: Sequence[Difference], reads: Reads) -> list[Explanation]:
        """Explains the differences without further calls: their rows hold both records and the mapping."""
        return [explain(each) for each in differences]

    def events(self) -> AppointmentEvents:
        """The events of the replaced service."""
        return AppointmentEvents()

    def _key_at(self, rows: pd.DataFrame, place: int) -> dict[str, int]:
        values = {name: rows[name].iloc[place] for name in self.key}
        return {name: int(value) for name, value in values.items() if not pd.isna(value)}

    def _plans(self, prisons: Sequence[str], reads: Reads) -> dict[str, RolloutPlan | FailedRead | None]:
        activities = self.services[UpstreamName.ACTIVITIES]
        return dict(reads.each(UpstreamName.ACTIVITIES, lambda prison: rollout_plan(activities, prison), prisons))

    def _all_plans(self, reads: Reads) -> dict[str, RolloutPlan | FailedRead | None]:
        activities = self.services[UpstreamName.ACTIVITIES]
        plans = reads.one(UpstreamName.ACTIVITIES, lambda: rollout_plans(activities))
        return {each.prison_code: each for each in plans}


def _numbers(*columns: pd.Series[Any]) -> list[int]:
    """The distinct numbers in `columns`, in ascending order and without NA."""
    return sorted({int(each) for column in columns for each in column.dropna()})


#: The most mismatches that a summary lists, because longer events were refused.
_LISTED: Final = 10
#: NOMIS records without a mapping are not among the mismatches that a summary counts.
_UNMAPPED: Final = frozenset({NOMIS_ONLY, DUPLICATE})
_VERDICTS: Final = {
    "offender_no": "offender mismatch",
    "booking_id": "bookingId mismatch",
    "category": "subtype/code mismatch",
    "date": "date mismatch",
    "start_time": "start time mismatch: {nomis} vs {dps}",
    "end_time": "end time mismatch: {nomis} vs {dps}",
    "location": "location mismatch",
    "prison": "prison mismatch",
    "cancelled": "cancellation mismatch",
}


class AppointmentEvents(Events):
    """The events of the replaced service. Duplicates are not deleted; the event for a duplicate names its original."""

    prefix = "appointments-reports-reconciliation"
    report = f"{prefix}-success"
    more = f"{prefix}-more-mismatches"

    def requested(self, population: Population) -> Event:
        """The event for the start of a run for everyone."""
        return self.event("requested")

    def mismatch(self, mismatch: Mismatch) -> Event:
        """The event for a mismatch; which event it is depends on the kind of mismatch.

        A mapping to a NOMIS record that does not exist gets the event `dps-only`, as in the replaced service.
        """
        nomis_id, dps_id = _ids(mismatch)
        prison = {"prisonId": mismatch.prison_id}
        if mismatch.kind in (NOMIS_ONLY, DUPLICATE):
            original = mismatch.by_field.get("duplicate_of")
            copy = {} if original is None or original.nomis is None else {"duplicate-of": original.nomis}
            return self.event(
                "mismatch-missing-mapping",
                {"nomisId": nomis_id, **prison, "offenderNo": mismatch.offender_no, **copy},
            )
        if mismatch.kind in (DPS_ONLY, WITHOUT_NOMIS):
            details = f"id={dps_id}, prisonerNumber={mismatch.offender_no}, bookingId={mismatch.booking_id}"
            return self.event("dps-only", {**prison, "details": details})
        if mismatch.kind == WITHOUT_DPS:
            return self._error(nomis_id, dps_id, f"DPS has no appointment {dps_id}")
        nomis, dps = _texts(mismatch)
        found = {"nomisId": nomis_id, "dpsId": dps_id, **prison, "verdict": _verdict(mismatch)}
        return self.event("mismatch", {**found, "nomis": nomis, "dps": dps})

    def unread(self, unread: Unread) -> Event:
        """The event for an unread record, with those of its ids that are known.

        An unread prison gets the event for an unread first page.
        """
        nomis_id, dps_id = unread.key.get("nomis_id"), unread.key.get("dps_id")
        if dps_id is not None:
            return self._error(nomis_id, dps_id, unread.reason)
        prison = {"prisonId": unread.prison_id or unread.unit, "error": unread.reason}
        if nomis_id is not None:
            return self.event("retrieval-error", {"nomis-appointment-id": nomis_id, **prison})
        return self.event("mismatch-page-error", {"page": 0, **prison})

    def gap(self, gap: UnlistedPart) -> Event:
        """The event for a page of NOMIS appointments, or a prison's DPS appointments, that could not be listed."""
        prison = {"prisonId": gap.detail.get("prisonId"), "error": gap.reason}
        if "page" in gap.detail:
            return self.event("mismatch-page-error", {"page": gap.detail["page"], **prison})
        return self.event("mismatch-dps-error", prison)

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterator[Event]:
        """For a complete run, the event with the mismatch count and the first mismatches; otherwise a failure event."""
        if result.status != "complete":
            yield self.event("failed")
            return
        mismatches = [each for each in result.mismatches if each.kind not in _UNMAPPED]
        listed = {}
        for each in mismatches[:_LISTED]:
            nomis, dps = _texts(each)
            listed[",".join("null" if number is None else str(number) for number in _ids(each))] = (
                f"nomis={nomis}, dps={dps}"
            )
        yield Event(self.report, {"mismatch-count": len(mismatches), **listed})

    def crashed(self) -> Event:
        """The event for a run without a result."""
        return self.event("failed")

    def _error(self, nomis_id: object, dps_id: object, error: str) -> Event:
        return self.event("mismatch-error", {"nomisId": nomis_id, "dpsId": dps_id, "error": error})


def _ids(mismatch: Mismatch) -> tuple[int | str | None, int | str | None]:
    return mismatch.key.get("nomis_id"), mismatch.key.get("dps_id")


def _verdict(mismatch: Mismatch) -> str:
    """The verdicts on all differing fields, in the order in which the replaced service searched for a difference."""
    return "; ".join(_VERDICTS[each.field].format(nomis=each.nomis, dps=each.dps) for each in mismatch.differences)


def _texts(mismatch: Mismatch) -> tuple[str, str]:
    """The values of both sides as texts, NOMIS first; the text is `null` for a side without the record."""
    values = mismatch.by_field

    def text(side: Literal["nomis", "dps"]) -> str:
        def value(name: str) -> object:
            return getattr(values[name], side) if name in values else None

        start = f"{value('date')}T{value('start_time')}"
        parts = {
            "offenderNo": value("offender_no"),
            "bookingId": value("booking_id"),
            "code": value("category"),
            "startDateTime": start,
            "endTime": value("end_time"),
            "internalLocationId": value("location"),
        }
        return ", ".join(f"{name}={'null' if part is None else part}" for name, part in parts.items())

    nomis = "null" if mismatch.missing_in == "NOMIS" else text("nomis")
    return nomis, "null" if mismatch.missing_in == "DPS" else text("dps")
