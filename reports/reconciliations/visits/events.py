"""The telemetry events of the reconciliation of visits, named like those that the replaced service has for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reports.engine.events import Event, Events
from reports.engine.result import FieldValues
from reports.reconciliations.visits.result import VisitMismatch, VisitResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reports.engine.result import Mismatch, ReconciliationResult, Unread
    from reports.engine.units import Population, Unit, UnlistedPart

_PREFIX: Final = "visits-reports-reconciliation"
#: The differences that the summary lists.
_LISTED: Final = 10


class VisitEvents(Events):
    """The events of a run."""

    report = f"{_PREFIX}-report"
    not_run = f"{_PREFIX}-not-run"
    more = f"{_PREFIX}-more"

    def requested(self, population: Population) -> Event:
        """Which prisons are compared, and for which days."""
        prisons = ", ".join(unit.id for unit in population.units)
        days = {name: population.detail[name] for name in ("from", "to")}
        return Event(f"{_PREFIX}-requested", {"prisons": f"[{prisons}]", **days})

    def mismatch(self, mismatch: Mismatch) -> Event:
        """A visit that differs."""
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
        return Event(f"{_PREFIX}-mismatch", {name: value for name, value in properties.items() if value is not None})

    def unread(self, unread: Unread) -> Event:
        """A visit, or all visits of a prison, could not be read."""
        if unread.key:
            return Event(f"{_PREFIX}-mismatch-error", {"visitId": unread.key["visit"], "error": unread.reason})
        return _page_error({"prisonId": unread.unit, "side": unread.side}, unread.reason)

    def gap(self, gap: UnlistedPart) -> Event:
        """A page of visits could not be read."""
        return _page_error(gap.detail, gap.reason)

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """The counts of the run, and the first differences by their visits."""
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

    def crashed(self) -> Event:
        """The run broke off."""
        return Event(self.report, {"success": False})


def _page_error(detail: Mapping[str, Any], error: str) -> Event:
    properties = {"prisonId": None, "page": None, "side": None, **detail, "error": error}
    return Event(
        f"{_PREFIX}-mismatch-page-error", {name: value for name, value in properties.items() if value is not None}
    )
