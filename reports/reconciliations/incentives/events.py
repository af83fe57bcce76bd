"""The custom events of the incentive reconciliation, by the names and properties that dashboards and alerts rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reports.reconciliations.incentives.result import IncentiveResult

    #: Tracks one event by its name and properties.
    Track = Callable[[str, Mapping[str, object]], None]

_PREFIX = "incentives-reports-reconciliation"
REQUESTED = f"{_PREFIX}-requested"
MISMATCH = f"{_PREFIX}-mismatch"
MISMATCH_ERROR = f"{_PREFIX}-mismatch-error"
NETWORK_ERROR = f"{_PREFIX}-network-error"
PAGE_ERROR = f"{_PREFIX}-mismatch-page-error"
EXCLUDED = f"{_PREFIX}-excluded-booking"
EXCLUDED_RESOLVED = f"{_PREFIX}-mismatch-excluded-booking-resolved"
REPORT = f"{_PREFIX}-report"
#: Only the name of the alert of a run without a result; its telemetry event is `REPORT`.
NOT_RUN = f"{_PREFIX}-not-run"
REPAIR = "incentives-repair"
#: Event → the text that operators and dashboards know; `{environment}` is the name of the environment.
ALERTS = {
    MISMATCH: "NOMIS IEP level does not match DPS Incentive level in {environment}",
    NOT_RUN: "The incentive reconciliation could not run in {environment}",
    REPORT: "NOMIS IEP level does not match DPS Incentive level in {environment}",
}


def level_text(level: str | None) -> str:
    """A level as events write it: the text `null` for no level."""
    return "null" if level is None else level


def track_requested(track: Track, active_prisoners: int) -> None:
    """A run began."""
    track(REQUESTED, {"active-prisoners": active_prisoners})


def track_unexpected(track: Track) -> None:
    """A run failed unexpectedly."""
    track(REPORT, {"success": False})


def track_result(track: Track, result: IncentiveResult) -> None:
    """What a run found: one event for each mismatch, failure and excluded booking, and one summary.

    Only a complete run says `success`: a run that left prisoners or pages out, or gave up, never does.
    """
    for page in result.unread_pages:
        track(PAGE_ERROR, {"page": page.page})
    for unread in result.unread:
        name = NETWORK_ERROR if unread.network else MISMATCH_ERROR
        track(name, {"offenderNo": unread.offender_no, "bookingId": unread.booking_id})
    for excluded in result.excluded:
        if excluded.unread is not None:
            track(MISMATCH_ERROR, {"offenderNo": excluded.offender_no, "bookingId": excluded.booking_id})
            continue
        track(
            EXCLUDED if excluded.still_differs else EXCLUDED_RESOLVED,
            {
                "offenderNo": excluded.offender_no,
                "bookingId": excluded.booking_id,
                "reason": excluded.reason,
            },
        )
    for mismatch in result.mismatches:
        track(
            MISMATCH,
            {
                "offenderNo": mismatch.offender_no,
                "bookingId": mismatch.booking_id,
                "nomisIncentiveLevel": level_text(mismatch.nomis_level),
                "dpsIncentiveLevel": level_text(mismatch.dps_level),
            },
        )
    levels = {
        each.offender_no: f"{level_text(each.nomis_level)}:{level_text(each.dps_level)}" for each in result.mismatches
    }
    summary = {
        "mismatch-count": len(result.mismatches),
        "success": result.status == "complete",
        "prisoners-checked": result.compared,
        "prisoners-failed": len(result.unread),
        "pages-failed": len(result.unread_pages),
    }
    track(REPORT, {**summary, **levels})
