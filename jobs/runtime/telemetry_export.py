"""Sends the telemetry events to Application Insights. Their table serves as the outbox.

Each event is stored in the table first, and stays due until Application Insights has accepted or refused it. If a
process dies, none of these events is lost. Events that the process had sent but not yet recorded as sent are sent
again, with the same `eventId`.
"""

import math
import time
from collections.abc import Callable

import structlog

from sync.errors import LeaseBusy
from sync.failure_log import FailureLog
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.telemetry import Export, count_due_events, due_events, record_export
from sync.upstream.application_insights import BATCH, LONGEST_SECONDS, Accepted, CustomEvent, Ingestion

_LEASE = "telemetry-export"
_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 600.0
#: The longest wait, even if Application Insights asks for a longer one.
_LONGEST_TOLD_WAIT_SECONDS = 3_600.0


class TelemetryExport:
    """Sends due events, in one process at a time.

    monotonic: returns the time on a monotonic clock, in seconds.
    """

    def __init__(
        self,
        database: Database,
        leases: Leases,
        ingestion: Ingestion,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._leases = leases
        self._ingestion = ingestion
        self._monotonic = monotonic
        self._wait_seconds = 0.0
        self._not_before = 0.0
        self._log = structlog.get_logger("jobs.runtime.telemetry_export")
        self._outage = FailureLog(
            "jobs.runtime.telemetry_export", "telemetry-waits", "telemetry-sent-again", "telemetry-waits"
        )

    def send_due(self, seconds: float = math.inf, stop_requested: Callable[[], bool] = lambda: False) -> int:
        """Sends due events, and returns how many were accepted.

        Begins no request once `stop_requested` returns true or `seconds` have passed, and lets no request take longer
        than `seconds`. Sends nothing during the wait after a failure, or while another process is sending. Raises
        `StoreUnavailable`.
        """
        started, sent = self._monotonic(), 0

        def is_over() -> bool:
            return stop_requested() or self._monotonic() - started > seconds

        if started < self._not_before or not self._due(1):
            return 0
        try:
            with self._leases.held(_LEASE):
                while not is_over() and (accepted := self._send_batch(seconds, is_over)) is not None:
                    sent += len(accepted.sent)
                    if accepted.problem is not None:
                        break
        except LeaseBusy:
            return 0
        return sent

    def _send_batch(self, seconds: float, is_over: Callable[[], bool]) -> Accepted | None:
        """Sends one batch and records its outcome. Returns None if nothing is due."""
        events = self._due(BATCH)
        if not events:
            return None
        accepted = self._ingestion.send(events, min(seconds, LONGEST_SECONDS), is_over)
        with self._database.begin() as connection:
            record_export(connection, accepted.sent, Export.SENT)
            record_export(connection, tuple(accepted.refused), Export.REFUSED)
        self._note(accepted)
        return accepted

    def _due(self, most: int) -> list[CustomEvent]:
        with self._database.read() as connection:
            rows = due_events(connection, most)
        return [CustomEvent(row.id, row.name, row.time, row.properties, row.operation_id) for row in rows]

    def _note(self, accepted: Accepted) -> None:
        if accepted.refused:
            self._log.error(
                "telemetry-refused", events=len(accepted.refused), reason=next(iter(accepted.refused.values()))
            )
        if accepted.problem is None:
            self._wait_seconds = 0.0
            self._outage.worked()
            return
        self._wait_seconds = min(max(_FIRST_WAIT_SECONDS, 2 * self._wait_seconds), _LONGEST_WAIT_SECONDS)
        if accepted.retry_after is not None:
            self._wait_seconds = min(accepted.retry_after, _LONGEST_TOLD_WAIT_SECONDS)
        self._not_before = self._monotonic() + self._wait_seconds
        with self._database.read() as connection:
            due = count_due_events(connection)
        self._outage.failed(accepted.problem, due=due)
