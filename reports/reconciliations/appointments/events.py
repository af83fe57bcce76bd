"""The telemetry events of the appointment reconciliation, as the replaced service named them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from reports.engine.events import Event, Events
from reports.reconciliations.appointments.compare import (
    DPS_ONLY,
    DUPLICATE,
    NOMIS_ONLY,
    WITHOUT_DPS,
    WITHOUT_NOMIS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reports.engine.result import Mismatch, ReconciliationResult, Unread
    from reports.engine.units import Population, Unit, UnlistedPart

_PREFIX: Final = "appointments-reports-reconciliation"
#: A summary lists no more, since a longer event was refused.
_LISTED: Final = 10
#: Records without a mapping are not among the mismatches that a summary counts.
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
    """Names and properties of the replaced service; a duplicate has a separate event, since nothing is deleted."""

    report = f"{_PREFIX}-success"
    not_run = f"{_PREFIX}-not-run"
    more = f"{_PREFIX}-more-mismatches"

    def requested(self, population: Population) -> Event:
        """A run over everyone begins to read."""
        return Event(f"{_PREFIX}-requested", {})

    def mismatch(self, mismatch: Mismatch) -> Event:
        """The event of its kind. A DPS appointment whose mapping leads nowhere is `dps-only`, as it always was."""
        nomis_id, dps_id = _ids(mismatch)
        prison = {"prisonId": mismatch.prison_id}
        if mismatch.kind in (NOMIS_ONLY, DUPLICATE):
            original = mismatch.by_field.get("duplicate_of")
            copy = {} if original is None or original.nomis is None else {"duplicate-of": original.nomis}
            return Event(
                f"{_PREFIX}-mismatch-missing-mapping",
                {"nomisId": nomis_id, **prison, "offenderNo": mismatch.offender_no, **copy},
            )
        if mismatch.kind in (DPS_ONLY, WITHOUT_NOMIS):
            details = f"id={dps_id}, prisonerNumber={mismatch.offender_no}, bookingId={mismatch.booking_id}"
            return Event(f"{_PREFIX}-dps-only", {**prison, "details": details})
        if mismatch.kind == WITHOUT_DPS:
            return _error(nomis_id, dps_id, f"DPS has no appointment {dps_id}")
        nomis, dps = _texts(mismatch)
        found = {"nomisId": nomis_id, "dpsId": dps_id, **prison, "verdict": _verdict(mismatch)}
        return Event(f"{_PREFIX}-mismatch", {**found, "nomis": nomis, "dps": dps})

    def unread(self, unread: Unread) -> Event:
        """A record by what is known of it; a whole prison as its first page."""
        nomis_id, dps_id = unread.key.get("nomis_id"), unread.key.get("dps_id")
        if dps_id is not None:
            return _error(nomis_id, dps_id, unread.reason)
        prison = {"prisonId": unread.prison_id or unread.unit, "error": unread.reason}
        if nomis_id is not None:
            return Event(f"{_PREFIX}-retrieval-error", {"nomis-appointment-id": nomis_id, **prison})
        return Event(f"{_PREFIX}-mismatch-page-error", {"page": 0, **prison})

    def gap(self, gap: UnlistedPart) -> Event:
        """A page of NOMIS, or what a prison has in DPS."""
        prison = {"prisonId": gap.detail.get("prisonId"), "error": gap.reason}
        if "page" in gap.detail:
            return Event(f"{_PREFIX}-mismatch-page-error", {"page": gap.detail["page"], **prison})
        return Event(f"{_PREFIX}-mismatch-dps-error", prison)

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterator[Event]:
        """Success with the number of mismatches and some of them; failure unless everything was compared."""
        if result.status != "complete":
            yield Event(f"{_PREFIX}-failed", {})
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
        """A run without a result."""
        return Event(f"{_PREFIX}-failed", {})


def _error(nomis_id: object, dps_id: object, error: str) -> Event:
    return Event(f"{_PREFIX}-mismatch-error", {"nomisId": nomis_id, "dpsId": dps_id, "error": error})


def _ids(mismatch: Mismatch) -> tuple[int | str | None, int | str | None]:
    return mismatch.key.get("nomis_id"), mismatch.key.get("dps_id")


def _verdict(mismatch: Mismatch) -> str:
    """Every field that differs, in the order in which the replaced service looked for the first one."""
    return "; ".join(_VERDICTS[each.field].format(nomis=each.nomis, dps=each.dps) for each in mismatch.differences)


def _texts(mismatch: Mismatch) -> tuple[str, str]:
    """Both sides as texts, `null` for one without the record."""
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
