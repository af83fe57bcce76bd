"""The events of the incentive reconciliation, with the names and properties that dashboards and alerts rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.engine.telemetry import Event, Events
from reports.reconciliations.incentives.result import IncentiveExcluded, IncentiveMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.engine.result import Excluded, Mismatch, ReconciliationResult, Unread
    from reports.engine.units import Population, Unit, UnlistedPart

_PREFIX = "incentives-reports-reconciliation"
REQUESTED = f"{_PREFIX}-requested"
MISMATCH = f"{_PREFIX}-mismatch"
MISMATCH_ERROR = f"{_PREFIX}-mismatch-error"
NETWORK_ERROR = f"{_PREFIX}-network-error"
PAGE_ERROR = f"{_PREFIX}-mismatch-page-error"
EXCLUDED = f"{_PREFIX}-excluded-booking"
EXCLUDED_RESOLVED = f"{_PREFIX}-mismatch-excluded-booking-resolved"
REPORT = f"{_PREFIX}-report"
#: Names only the alert for a run without a result; the telemetry event of such a run is `REPORT`.
NOT_RUN = f"{_PREFIX}-not-run"
REPAIR = "incentives-repair"
#: The texts of alerts by event; operators and dashboards rely on them. `{environment}` is the name of the environment.
ALERTS = {
    MISMATCH: "NOMIS IEP level does not match DPS Incentive level in {environment}",
    NOT_RUN: "The incentive reconciliation could not run in {environment}",
    REPORT: "NOMIS IEP level does not match DPS Incentive level in {environment}",
}


def level_text(level: str | None) -> str:
    """A level as it is written in events; the text is `null` if there is no level."""
    return "null" if level is None else level


class IncentiveEvents(Events):
    """The events of the incentive reconciliation. Every mismatch has an event, however many there are."""

    prefix = _PREFIX
    report = REPORT
    more = f"{MISMATCH}-more"
    limited = False

    def requested(self, population: Population) -> Event:
        """The event for the start of a run; `active-prisoners` is the number of active prisoners in NOMIS."""
        return Event(REQUESTED, {"active-prisoners": population.total})

    def mismatch(self, mismatch: Mismatch) -> Event:
        """The event for a prisoner whose levels differ, with both levels."""
        assert isinstance(mismatch, IncentiveMismatch)
        return Event(
            MISMATCH,
            {
                "offenderNo": mismatch.offender_no,
                "bookingId": mismatch.booking_id,
                "nomisIncentiveLevel": level_text(mismatch.nomis_level),
                "dpsIncentiveLevel": level_text(mismatch.dps_level),
            },
        )

    def unread(self, unread: Unread) -> Event:
        """The event for a prisoner whose levels could not be read."""
        name = NETWORK_ERROR if unread.network else MISMATCH_ERROR
        return Event(name, {"offenderNo": unread.offender_no, "bookingId": unread.booking_id})

    def gap(self, gap: UnlistedPart) -> Event:
        """The event for a page of prisoners that could not be read."""
        return Event(PAGE_ERROR, {"page": gap.detail["page"]})

    def excluded(self, excluded: Excluded) -> Event:
        """The event for an excluded booking, whether or not it could be read."""
        assert isinstance(excluded, IncentiveExcluded)
        booking = {"offenderNo": excluded.offender_no, "bookingId": excluded.booking_id}
        if excluded.unread is not None:
            return Event(MISMATCH_ERROR, booking)
        name = EXCLUDED if excluded.still_differs else EXCLUDED_RESOLVED
        return Event(name, {**booking, "reason": excluded.reason})

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """The summary event, with the levels of each mismatch.

        `success` is true only for a complete run, that is, one that missed no prisoner and no page.
        """
        levels = {
            each.offender_no: f"{level_text(each.nomis_level)}:{level_text(each.dps_level)}"
            for each in result.mismatches
            if isinstance(each, IncentiveMismatch)
        }
        summary = {
            "mismatch-count": len(result.mismatches),
            "success": result.status == "complete",
            "prisoners-checked": result.compared,
            "prisoners-failed": len(result.unread),
            "pages-failed": len(result.gaps),
        }
        return (Event(REPORT, {**summary, **levels}),)
