"""Removes what was kept for long enough: telemetry, the record of runs, reports. Without a setting all is kept.

What is still needed stays: events that Application Insights has not accepted, failed attempts at messages that may be
dead letters, the last run and the last success of each job, the last complete run of each reconciliation, creations,
findings and the record of what people did.
"""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import ColumnElement, Table, delete, func, select

from jobs.runtime.application import Application
from reports.engine.runs import Coverage
from reports.presentation.index import run_folder
from sync import clock
from sync.store.database import Database
from sync.store.outbox import DeliveryState
from sync.store.tables import (
    failures,
    job_runs,
    outbox,
    reconciliation_mismatches,
    reconciliation_pages,
    reconciliation_runs,
    telemetry_events,
)
from sync.store.telemetry import Export

#: Rows removed in one transaction, so that nobody waits for it.
_AT_ONCE = 5_000
#: SQS keeps a message for fourteen days at most; one without a known failure would be sent back.
_FAILURES_NEEDED = timedelta(days=15)
_RUNS = reconciliation_runs.c


def remove_expired(application: Application, stop_requested: Callable[[], bool] = lambda: False) -> dict[str, int]:
    """Removes what is older than its setting says, and returns how many rows or reports of each kind.

    Stops after the present transaction once `stop_requested` returns true. Raises `StoreUnavailable`.
    """
    settings, database = application.settings, application.database
    removed: dict[str, int] = {}

    def remove(name: str, table: Table, expired: ColumnElement[bool]) -> None:
        number = _remove(database, table, expired, stop_requested)
        if number:
            removed[name] = number

    if (before := _before(settings.telemetry_keep_days)) is not None:
        events = telemetry_events.c
        accepted = func.coalesce(events.export, Export.SENT) != Export.DUE
        remove("telemetry", telemetry_events, (events.time < before) & accepted)
        remove("failures", failures, failures.c.time < min(before, clock.now() - _FAILURES_NEEDED))
    if (before := _before(settings.runs_keep_days)) is not None:
        expired = (job_runs.c.finished_at < before) & job_runs.c.id.not_in(application.job_runs.last_of_each())
        remove("runs", job_runs, expired)
        is_sent = outbox.c.state == DeliveryState.SENT
        remove("deliveries", outbox, (outbox.c.created_at < before) & is_sent)
    if (before := _before(settings.reports_keep_days)) is not None and not stop_requested():
        number = _remove_reports(application, before)
        if number:
            removed["reports"] = number
    return removed


def _before(days: int | None) -> datetime | None:
    return None if days is None else clock.now() - timedelta(days=days)


def _remove(database: Database, table: Table, expired: ColumnElement[bool], stop_requested: Callable[[], bool]) -> int:
    (key,) = table.primary_key.columns
    removed = 0
    while not stop_requested():
        with database.begin() as connection:
            keys = connection.execute(select(key).where(expired).limit(_AT_ONCE)).scalars().all()
            connection.execute(delete(table).where(key.in_(keys)))
        removed += len(keys)
        if len(keys) < _AT_ONCE:
            break
    return removed


def _remove_reports(application: Application, before: datetime) -> int:
    """Removes runs that ended before, with their files where those are in a folder; a bucket has its own rules."""
    newest = (
        select(func.max(_RUNS.finished_at))
        .where(_RUNS.status == "complete", _RUNS.scope == Coverage.EVERYONE)
        .group_by(_RUNS.reconciliation)
    )
    with application.database.begin() as connection:
        # Locked, so that nobody resumes one of them meanwhile.
        expired = (
            select(_RUNS.id, _RUNS.reconciliation)
            .where(_RUNS.finished_at < before, _RUNS.finished_at.not_in(newest))
            .with_for_update()
        )
        runs = connection.execute(expired).all()
        # The files first: what is left of them after a failure is removed next time, since the run is still known.
        removed = [
            run.id
            for run in runs
            if _remove_files(application.settings.reports_location, run_folder(run.reconciliation, run.id))
        ]
        for run_id in removed:
            connection.execute(delete(reconciliation_pages).where(reconciliation_pages.c.run_id == run_id))
            connection.execute(delete(reconciliation_mismatches).where(reconciliation_mismatches.c.run_id == run_id))
            connection.execute(delete(reconciliation_runs).where(_RUNS.id == run_id))
    return len(removed)


def _remove_files(location: str, name: str) -> bool:
    """Removes the folder of a run; False if that failed."""
    if location.startswith("s3://"):
        return True
    try:
        shutil.rmtree(Path(location) / name)
    except FileNotFoundError:
        return True
    except OSError as error:
        log = structlog.get_logger("jobs.operations.retention")
        log.warning("report-not-removed", folder=name, reason=error.strerror or str(error))
        return False
    return True
