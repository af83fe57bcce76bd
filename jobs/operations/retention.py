"""Removes telemetry, job runs and reports that have been kept long enough.

Each of the three is kept for ever unless the setting for it is set. Failed attempts are removed together with
telemetry, and sent alerts and reports together with job runs. The records of messages that waited on a queue are always
removed once SQS no longer has the messages.

Data that is still needed stays: events that Application Insights has not accepted, failed attempts to handle messages
that may still be on a dead letter queue, the last run and the last success of each job, the last complete run of each
reconciliation, creations, findings and the record of what people did.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
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
    waiting_messages,
)
from sync.store.telemetry import Export

#: How many rows are removed in one transaction: few, so that no other process waits long.
_AT_ONCE = 5_000
#: SQS keeps a message for fourteen days at most; a message whose failure is no longer known would be sent back.
_FAILURES_NEEDED = timedelta(days=15)
#: A message that has been overdue for this long is no longer in SQS, so nothing further can happen to it.
_WAITS_NEEDED = timedelta(days=15)
_RUNS = reconciliation_runs.c


@dataclass(frozen=True, slots=True)
class Removed:
    """How many rows or reports of each kind were removed, and how many reports could not be removed."""

    counts: dict[str, int] = field(default_factory=dict)
    reports_kept: int = 0


def remove_expired(application: Application, stop_requested: Callable[[], bool] = lambda: False) -> Removed:
    """Removes the data that has been kept long enough. What cannot be removed is left for the next call.

    Stops after the current transaction or report once `stop_requested` returns true. Raises `StoreUnavailable`.
    """
    settings, database = application.settings, application.database
    removed: dict[str, int] = {}

    def remove(name: str, table: Table, expired: ColumnElement[bool]) -> None:
        number = _remove(database, table, expired, stop_requested)
        if number:
            removed[name] = number

    remove("waiting", waiting_messages, waiting_messages.c.next_attempt_at < clock.now() - _WAITS_NEEDED)
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
    kept = 0
    if (before := _before(settings.reports_keep_days)) is not None:
        number, kept = _remove_reports(application, before, stop_requested)
        if number:
            removed["reports"] = number
    return Removed(removed, kept)


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


def _remove_reports(application: Application, before: datetime, stop_requested: Callable[[], bool]) -> tuple[int, int]:
    """Removes reconciliation runs that ended before `before`, and their files.

    Files in a bucket are left to the rules of the bucket. Each reconciliation's last complete run for everyone is kept.
    Returns how many runs were removed, and how many were kept because their files could not be removed.
    """
    newest = (
        select(func.max(_RUNS.finished_at))
        .where(_RUNS.status == "complete", _RUNS.scope == Coverage.EVERYONE)
        .group_by(_RUNS.reconciliation)
    )
    expired = (_RUNS.finished_at < before) & _RUNS.finished_at.not_in(newest)
    with application.database.read() as connection:
        runs = connection.execute(select(_RUNS.id, _RUNS.reconciliation).where(expired)).all()
    removed = kept = 0
    for run in runs:
        if stop_requested():
            break
        still_expired = select(_RUNS.id).where(_RUNS.id == run.id, expired)
        with application.database.read() as connection:
            # The list may be out of date: a run that has since been resumed has a new report.
            if connection.execute(still_expired).one_or_none() is None:
                continue
        # The files go first, outside the transaction: a slow removal holds no lock, and after a failure, or the death
        # of this process, the run is still known, so the next removal deletes the files that are left.
        if not _remove_files(application.settings.reports_location, run_folder(run.reconciliation, run.id)):
            kept += 1
            continue
        with application.database.begin() as connection:
            # A run that is resumed while its files are removed stays; `report render` makes the files again.
            if connection.execute(still_expired.with_for_update()).one_or_none() is None:
                continue
            connection.execute(delete(reconciliation_pages).where(reconciliation_pages.c.run_id == run.id))
            connection.execute(delete(reconciliation_mismatches).where(reconciliation_mismatches.c.run_id == run.id))
            connection.execute(delete(reconciliation_runs).where(_RUNS.id == run.id))
        removed += 1
    return removed, kept


def _remove_files(location: str, name: str) -> bool:
    """Removes the folder of a run, unless the reports are in a bucket. Returns False if the removal failed."""
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
