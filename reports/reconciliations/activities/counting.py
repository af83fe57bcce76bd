"""What the reconciliations of allocations and of attendances share: both sides count records by booking and prison."""

from __future__ import annotations

import json
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from reports.engine.causes import Cause, Explanation
from reports.engine.fields import Field
from reports.engine.frame import concatenated, typed
from reports.engine.join import join_sides
from reports.engine.parallel_reader import FailedRead
from reports.engine.reconciliation import Reconciliation
from reports.engine.result import EvidenceRow
from reports.engine.telemetry import Event, Events
from reports.engine.units import Population, Reading, Unit, UnlistedPart, UnreadRecord
from reports.reconciliations.activities.prisons import prisons_with_activities
from sync.alerting import command
from sync.errors import RuleError
from sync.settings.upstreams import UpstreamName
from sync.upstream import prisoners

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reports.engine.causes import Difference
    from reports.engine.reconciliation import Reads
    from reports.engine.result import Diagnosis, Mismatch, ReconciliationResult


NOMIS_ONLY, DPS_ONLY, DIFFERENT = "NOMIS_only", "DPS_only", "different_count"


def kinds_of(done: str) -> dict[str, str]:
    """The words for each kind of difference, such as "allocated in NOMIS only" if `done` is "allocated"."""
    return {
        NOMIS_ONLY: f"{done} in NOMIS only",
        DPS_ONLY: f"{done} in DPS only",
        DIFFERENT: f"{done} a different number of times",
    }


#: DPS counts records for a booking that NOMIS does not know.
_UNKNOWN_BOOKING = Cause(
    "NOMIS does not have the booking",
    "unknown",
    "Inform the DPS team that NOMIS does not have the booking.",
    sentence="DPS counts a booking that NOMIS does not have. This happens after a data refresh.",
    who="the DPS team",
)


def not_synchronised(name: str, record: str) -> Cause:
    """The cause `name`: NOMIS does not have the current state of a DPS record.

    record: what texts call the record, such as `allocation`.
    """
    action = f"Look for a failed message (dlq show activity). If there is none, write the {record} to NOMIS again."
    return Cause(name, "DPS", action)


class CountReconciliation(Reconciliation):
    """Compares the counts of each booking, prison by prison, as the replaced service did."""

    counted = "bookings"
    counted_singular = "booking"
    key = {"prison_id": "string", "booking_id": "Int64"}
    fields: ClassVar[tuple[Field, ...]] = (
        Field("count", "Count", "Int64"),
        Field("location", "Where the booking is now", "string", compared=False),
    )
    #: `dps_records`: the DPS records of a booking, counted or not, as JSON; `dps_unread`: why they could not be read.
    extra = {"dps_records": "string", "dps_unread": "string"}
    domain = "activities"
    #: Whether a booking that is no longer at the prison is left out.
    elsewhere_ignored: ClassVar[bool] = True
    #: The name of a DPS record in failures and commands.
    record: ClassVar[str]
    #: The prefix of the names of the events.
    events_begin: ClassVar[str]

    @abstractmethod
    def diagnose(self, difference: Difference, records: Sequence[Mapping[str, Any]]) -> Diagnosis:
        """Why a booking that NOMIS knows has different counts. records: the booking's DPS records, newest first."""

    @abstractmethod
    def evidence(self, record: Mapping[str, Any]) -> str:
        """A DPS record in words."""

    @property
    def further_key(self) -> Mapping[str, str]:
        """The columns that identify a row in addition to the prison and the booking, with their values for the run."""
        return {}

    @abstractmethod
    def read_nomis(self, prison_id: str) -> dict[int, int]:
        """The counts that NOMIS has for a prison, by booking."""

    @abstractmethod
    def read_dps(self, prison_id: str) -> dict[int, int]:
        """The counts that DPS has for a prison, by booking."""

    @abstractmethod
    def read_records(self, prison_id: str, rows: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
        """The DPS records behind the counts in `rows`, by booking; each record is plain JSON with an `id`."""

    def population(self, reads: Reads) -> Population:
        """The prisons that use activities; a chosen prison that does not use them is a gap."""
        if self.scope.offender_nos:
            raise RuleError(f"{self.title.lower()} are compared by prison, so no prisoner can be chosen")
        prisons, gaps = prisons_with_activities(self.services, self.settings, reads)
        wanted = self.scope.prisons
        if not wanted:
            return Population(tuple(map(Unit, prisons)), None, gaps)
        known = {gap.detail["prison"]: gap for gap in gaps}
        gaps = tuple(
            known.get(prison_id)
            or UnlistedPart(f"prison {prison_id}", "its activities are not compared", {"prison": prison_id})
            for prison_id in wanted
            if prison_id not in prisons
        )
        return Population(tuple(Unit(prison_id) for prison_id in prisons if prison_id in wanted), None, gaps)

    def read(self, unit: Unit, reads: Reads) -> Reading:
        """Reads the counts of a prison's bookings from both sides."""
        nomis = reads.one(UpstreamName.NOMIS, lambda: self.read_nomis(unit.id))
        dps = reads.one(UpstreamName.ACTIVITIES, lambda: self.read_dps(unit.id))
        return Reading(self._frame(unit.id, nomis, dps))

    def reread(self, rows: pd.DataFrame, reads: Reads) -> Reading:
        """Reads both sides again for each prison in `rows`, because single bookings cannot be read."""
        prisons = sorted(rows["prison_id"].unique())
        nomis = reads.each(UpstreamName.NOMIS, self.read_nomis, prisons)
        dps = reads.each(UpstreamName.ACTIVITIES, self.read_dps, prisons)
        frames, unread = [], []
        for (prison_id, in_nomis), (_, in_dps) in zip(nomis, dps, strict=True):
            bookings = rows.loc[rows["prison_id"] == prison_id, "booking_id"]
            if isinstance(in_nomis, FailedRead):
                unread += [self._unread(prison_id, booking, "NOMIS", in_nomis) for booking in bookings]
            elif isinstance(in_dps, FailedRead):
                unread += [self._unread(prison_id, booking, "DPS", in_dps) for booking in bookings]
            else:
                frame = self._frame(prison_id, in_nomis, in_dps)
                frames.append(frame[frame["booking_id"].isin(bookings)])
        return Reading(concatenated(self, frames), tuple(unread))

    def describe(self, rows: pd.DataFrame, reads: Reads) -> pd.DataFrame:
        """Adds the prisoner number, the current location and the DPS records.

        A booking that NOMIS does not know has no location. If bookings at another prison are left out, `ignored` gives
        the reason for each of them.
        """
        rows = rows.copy()
        ids = sorted({int(each) for each in rows["booking_id"]})
        details: dict[int, prisoners.BookingDetails] = {}
        for first in range(0, len(ids), prisoners.MOST_BOOKINGS):
            some = ids[first : first + prisoners.MOST_BOOKINGS]
            details |= reads.one(UpstreamName.NOMIS, partial(prisoners.bookings, self.services.nomis, some))
        numbers = {booking_id: found.offender_no for booking_id, found in details.items()}
        places = {booking_id: found.location for booking_id, found in details.items()}
        rows["offender_no"] = rows["booking_id"].map(numbers).astype("string")
        rows["nomis_location"] = rows["booking_id"].map(places).astype("string").fillna(rows["prison_id"])
        rows["ignored"] = pd.Series(pd.NA, index=rows.index, dtype="string")
        if self.elsewhere_ignored:
            elsewhere = rows["nomis_location"] != rows["prison_id"]
            rows.loc[elsewhere, "ignored"] = "the booking is at " + rows.loc[elsewhere, "nomis_location"] + " now"
        rows["nomis_location"] = rows["nomis_location"].where(rows["offender_no"].notna())
        return self._with_records(rows, reads)

    def entities(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The entities of the DPS records behind the counts, such as `allocation:6120`."""
        return tuple(f"{self.record}:{each['id']}" for each in records_of(row))

    def events(self) -> Events:
        """The events of a run, as the replaced service sent them."""
        return CountEvents(self.events_begin, self.further_key)

    def explain(self, differences: Sequence[Difference], reads: Reads) -> Sequence[Explanation]:
        """Explains each difference; the evidence is the DPS records behind its counts."""
        return [self._explain(each) for each in differences]

    def to_synchronise(self, difference: Difference, cause: Cause, records: Sequence[Mapping[str, Any]]) -> Diagnosis:
        """The diagnosis that DPS is right, and that the DPS `records`, if any are known, must be synchronised again."""
        row = difference.row
        which = f" Only NOMIS shows which {self.record} differs; it is safe to write all these {self.record}s again."
        return cause.diagnosis(
            difference,
            confidence="high" if len(records) == 1 else "medium",
            explanation=f"NOMIS counts {row['nomis_count'] or 0} and DPS counts {row['dps_count'] or 0}.",
            action=cause.action + (which if len(records) > 1 else ""),
            commands=self.commands(row, records),
        )

    def commands(self, row: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """The commands that synchronise the DPS `records` again, and then compare the prison again."""
        again = [command("resync", self.record, each["id"]) for each in records]
        options = [word for name, value in self.further_key.items() for word in (f"--{name}", value)]
        return (*again, command("reconcile", self.name, "--prison", row["prison_id"], *options, "--no-notify"))

    def _explain(self, difference: Difference) -> Explanation:
        row = difference.row
        records = sorted(records_of(row), key=lambda each: each["id"], reverse=True)
        evidence = tuple(EvidenceRow(side="DPS", text=self.evidence(each)) for each in records)
        if row["offender_no"] is not None:
            return Explanation(self.diagnose(difference, records), evidence, row["dps_unread"])
        return Explanation(_UNKNOWN_BOOKING.diagnosis(difference), evidence)

    def _with_records(self, rows: pd.DataFrame, reads: Reads) -> pd.DataFrame:
        known = rows[rows["offender_no"].notna() & rows["ignored"].isna()]
        by_prison = [(str(prison_id), group) for prison_id, group in known.groupby("prison_id", sort=True)]
        for (_, group), found in reads.each(UpstreamName.ACTIVITIES, lambda item: self.read_records(*item), by_prison):
            if isinstance(found, FailedRead):
                rows.loc[group.index, "dps_unread"] = found.reason
                continue
            texts = {booking_id: json.dumps(records) for booking_id, records in found.items()}
            rows.loc[group.index, "dps_records"] = group["booking_id"].map(texts).fillna("[]").astype("string")
        return rows

    def _frame(self, prison_id: str, nomis: Mapping[int, int], dps: Mapping[int, int]) -> pd.DataFrame:
        joined = join_sides(_side("nomis_count", nomis), _side("dps_count", dps), ["booking_id"])
        joined = joined.assign(prison_id=prison_id, **self.further_key)
        return typed(self, joined.sort_values("booking_id", ignore_index=True))

    def _unread(self, prison_id: str, booking_id: int, side: Any, failed: FailedRead) -> UnreadRecord:
        key = {"prison_id": prison_id, "booking_id": int(booking_id), **self.further_key}
        return UnreadRecord(key, None, side, failed.reason, failed.network)


def _side(column: str, counts: Mapping[int, int]) -> pd.DataFrame:
    columns = {"booking_id": list(counts), column: list(counts.values())}
    return pd.DataFrame({name: pd.array(values, dtype="Int64") for name, values in columns.items()})


def records_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The DPS records behind a row, as far as they were read."""
    found: list[dict[str, Any]] = json.loads(row["dps_records"]) if row.get("dps_records") else []
    return found


#: What events say instead of a prisoner number for a booking that NOMIS does not have.
NO_DETAILS = "Details not found in NOMIS"


class CountEvents(Events):
    """The events of a run, with the names and properties that the replaced service used.

    about: the properties that every event has. The replaced service had no event for the whole run. This program sends
    one (`report`), which says whether anything was left unread.
    """

    def __init__(self, prefix: str, about: Mapping[str, str]) -> None:
        self.prefix = self.report = prefix
        self.more = f"{prefix}-more"
        self._about = about

    def requested(self, population: Population) -> Event:
        """The event for the start of a run; its property `prisons` lists the prisons to read, in square brackets."""
        prisons = ", ".join(sorted(unit.id for unit in population.units))
        return self.event("requested", {"prisons": f"[{prisons}]"})

    def gap(self, gap: UnlistedPart) -> Event:
        """The event for a prison that cannot be compared."""
        return self.event("error", {"prison": gap.detail["prison"]})

    def mismatch(self, mismatch: Mismatch) -> Event:
        """The event for a booking with different counts; it gives the booking's current location."""
        return self.failed(mismatch, mismatch.kind, mismatch.booking_id)

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """An event for each prison that was not fully read or that has no difference, and one for the whole run."""
        failed = {each.unit or each.prison_id or "" for each in result.unread}
        differ = {each.prison_id for each in (*result.mismatches, *result.in_flight, *result.unconfirmed)}
        if result.status == "failed" and not units:
            yield self.event("error")
        for prison_id in sorted(failed):
            yield self.event("error", {"prison": prison_id})
        if result.status != "failed":
            for unit in units:
                if unit.id not in failed and unit.id not in differ:
                    yield self.event("success", {"prison": unit.id})
        yield Event(
            self.report,
            {
                **self._about,
                "mismatch-count": len(result.mismatches),
                "success": result.status == "complete",
                "incomplete": result.status == "incomplete",
                "prisons": len(units),
                "prisons-failed": len(failed),
                "bookings-checked": result.compared,
            },
        )

    def crashed(self) -> Event:
        """The event for a run without a result: an error that names no prison."""
        return self.event("error")

    def failed(self, mismatch: Mismatch, kind: str, booking_id: object) -> Event:
        """The event that reports a mismatch as a difference of the kind `kind` for the booking `booking_id`."""
        known = next((each.nomis for each in mismatch.other_fields if each.field == "location"), None)
        return self.event(
            "failed",
            {
                "prison": mismatch.prison_id,
                "type": kind,
                "bookingId": booking_id,
                "offenderNo": mismatch.offender_no or NO_DETAILS,
                "location": known or mismatch.prison_id,
            },
        )

    def event(self, what: str, properties: Mapping[str, object] | None = None) -> Event:
        """The event `<prefix>-<what>`, with the properties that every event has."""
        return super().event(what, {**(properties or {}), **self._about})
