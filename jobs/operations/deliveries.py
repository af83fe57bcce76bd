"""Sends the pending alerts and reports in the outbox, and sends telemetry events to Application Insights."""

import math
from collections.abc import Callable

import structlog

from jobs.errors import exit_code_for
from jobs.runtime.application import Application

#: How many seconds a command waits at its end for its alerts to be sent.
ALERT_SECONDS = 5.0


def send_pending(application: Application, seconds: float) -> None:
    """Sends pending deliveries, then sends due telemetry events to Application Insights.

    `seconds` is the time allowed for each of the two steps. Anything not sent in that time is left for the next sender.
    """
    log = structlog.get_logger("jobs.operations.deliveries")
    try:
        counts = application.outbox.flush(seconds)
    except Exception as error:  # the deliveries are kept, and the work that they report is done
        log.warning("deliveries-kept", reason=exit_code_for(error)[1])
    else:
        if counts.later:
            reason = "the scheduler, or the next drain or reconcile, sends them"
            log.warning("deliveries-kept", count=counts.later, reason=reason)
    try:
        export_telemetry(application, seconds)
    except Exception as error:  # the events that are due stay due
        log.warning("telemetry-waits", reason=exit_code_for(error)[1])


def export_telemetry(
    application: Application, seconds: float = math.inf, stop_requested: Callable[[], bool] = lambda: False
) -> None:
    """Sends due telemetry events to Application Insights, if a connection string is set.

    Begins no request once `seconds` have passed or `stop_requested` returns true. Raises `StoreUnavailable`.
    """
    if application.telemetry_export is not None:
        application.telemetry.flush()
        application.telemetry_export.send_due(seconds, stop_requested)
