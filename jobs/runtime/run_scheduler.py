"""The `scheduler` command: the scheduler over the whole program, from waiting for its database to its end."""

import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

import structlog

from jobs.cli.exit_codes import WorkError
from jobs.health.observing import observed
from jobs.operations import housekeeping
from jobs.operations import reconcile as reconciling
from jobs.operations.deliver import failure_alerted
from jobs.operations.housekeeping import HousekeepingResult, housekeep
from jobs.operations.reconcile import reconcile
from jobs.runtime.application import Application
from jobs.runtime.cron import parse_schedule
from jobs.runtime.failure_log import FailureLog
from jobs.runtime.job_runs import ActiveRun
from jobs.runtime.scheduler import ScheduledJob, Scheduler
from jobs.runtime.signals import stopping
from reports.engine.run import ReconciliationParameters
from reports.engine.runs import find_run, load_result
from sync.settings.declaration import QUEUES
from sync.store.database import StoreUnavailable

JOB = "scheduler"
#: A weekly report that is some hours late is still worth having.
RECONCILIATION_CATCH_UP = timedelta(hours=6)
#: The next re-drive makes up for a missed one.
HOUSEKEEPING_CATCH_UP = timedelta(minutes=5)
_DATABASE_SECONDS = 2.0


def serve(application: Application) -> None:
    """Runs the scheduler until SIGTERM or SIGINT; the work in hand is finished first.

    Raises `SettingsError` for a schedule that is no cron line.
    """
    asked = threading.Event()
    jobs = scheduled_jobs(application, asked)
    schedulers: list[Scheduler] = []

    def stop() -> None:
        asked.set()
        for scheduler in schedulers:
            scheduler.stop()

    def at_work() -> bool:
        return bool(schedulers) and not asked.is_set()

    with stopping(stop), observed(application, (JOB, reconciling.JOB, housekeeping.JOB), at_work):
        while _database_is_ready(application, asked):
            try:
                with application.job_runs.run(JOB, {"queues": list(QUEUES)}) as active_run:
                    schedulers.append(make_scheduler(application, jobs))
                    if asked.is_set():
                        stop()
                    active_run.counts.update(schedulers[0].run())
            except StoreUnavailable as error:
                # With the work finished, only its entry in the ledger is not; else the database went again.
                structlog.get_logger("jobs.runtime.run_scheduler").warning("run-not-recorded", reason=str(error))
            if schedulers:
                return


def make_scheduler(application: Application, jobs: Sequence[ScheduledJob]) -> Scheduler:
    """The scheduler of the program, whose database is ready."""
    return Scheduler(
        open_drain=application.open_drain,
        queues=QUEUES,
        drain_interval_seconds=application.settings.drain_interval_seconds,
        jobs=jobs,
        job_runs=application.job_runs,
        send_due=lambda: asdict(application.outbox.send_due()),
    )


def scheduled_jobs(application: Application, asked: threading.Event) -> list[ScheduledJob]:
    """The jobs that the settings switch on; they end at their next good point when `asked` is set."""
    settings = application.settings
    jobs: list[ScheduledJob] = []
    if settings.scheduler_reconciliation:
        schedule = parse_schedule("RECONCILIATION_SCHEDULE", settings.reconciliation_schedule, settings.zone)
        jobs.append(
            ScheduledJob(
                reconciling.JOB,
                schedule,
                lambda active_run: _reconcile(application, active_run, asked),
                RECONCILIATION_CATCH_UP,
            )
        )
    if settings.scheduler_housekeeping:
        schedule = parse_schedule("HOUSEKEEPING_SCHEDULE", settings.housekeeping_schedule, settings.zone)
        jobs.append(
            ScheduledJob(
                housekeeping.JOB,
                schedule,
                lambda active_run: _housekeep(application, active_run, asked),
                HOUSEKEEPING_CATCH_UP,
            )
        )
    return jobs


def _housekeep(application: Application, active_run: ActiveRun, asked: threading.Event) -> None:
    """The re-drive of the dead letter queues; it ends before the next queue once `asked` is set."""
    housekeep(application, active_run, HousekeepingResult(), asked.is_set)


def _reconcile(application: Application, active_run: ActiveRun, asked: threading.Event) -> None:
    """The weekly run; one that an earlier process began is gone on with."""
    with application.database.read() as connection:
        begun = find_run(connection, active_run.id)
        result = load_result(connection, active_run.id) if begun is not None and not begun.is_open else None
    if result is not None:
        # The earlier process had its result, and died before the ledger had it.
        active_run.counts |= result.counts()
        return
    log = structlog.get_logger("jobs.runtime.run_scheduler")
    parameters = ReconciliationParameters(resume=active_run.id if begun is not None else None)
    with failure_alerted(application, parameters):
        reconcile(
            application, active_run, parameters, asked, lambda *progress: log.debug("progress", progress=progress)
        )


def _database_is_ready(application: Application, asked: threading.Event) -> bool:
    """Waits until the database is there with the current schema; False when it was asked to stop before.

    Where `DATABASE_AUTO_UPGRADE` is off, the schema is another job's work, which may still be under way.
    """
    failure_log = FailureLog("database")
    while not asked.is_set():
        try:
            application.bring_up_to_date(application.database)
        except (StoreUnavailable, WorkError) as error:
            failure_log.failed(error)
            asked.wait(_DATABASE_SECONDS)
        else:
            failure_log.worked()
            return True
    return False
