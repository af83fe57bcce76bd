"""The `scheduler` command: waits for the database, then runs the drains and the scheduled jobs until it is stopped."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import structlog

from jobs.errors import WorkError
from jobs.health.page import serve_health
from jobs.operations.deliveries import export_telemetry
from jobs.operations.schedule import SCHEDULE, ScheduledJob
from jobs.runtime.application import Application
from jobs.runtime.job_runs import SCHEDULER_JOB, ActiveRun
from jobs.runtime.logging import failure_log, log_failure
from jobs.runtime.scheduler import DueJob, Scheduler, Workload
from jobs.runtime.signals import stopping
from sync.settings.queues import QUEUES
from sync.store.database import StoreUnavailable

_DATABASE_SECONDS = 2.0


def run_scheduler(application: Application) -> None:
    """Runs the scheduler until the process receives SIGTERM or SIGINT. Returns once the work in progress has ended.

    Raises `SettingsError` if the schedule of a job that is switched on is not a valid cron expression.
    """
    stop_requested = threading.Event()
    jobs = due_jobs(application, stop_requested)
    schedulers: list[Scheduler] = []

    def stop() -> None:
        stop_requested.set()
        for scheduler in schedulers:
            scheduler.stop()

    def is_ready() -> bool:
        return bool(schedulers) and not stop_requested.is_set()

    recorded_jobs = (SCHEDULER_JOB, *(job.name for job in SCHEDULE))
    with stopping(stop), serve_health(application, recorded_jobs, is_ready):
        while _wait_for_database(application, stop_requested):
            try:
                with application.job_runs.run(SCHEDULER_JOB, {"queues": list(QUEUES)}) as active_run:
                    record = partial(_record_heartbeat, application, active_run.id)
                    schedulers.append(make_scheduler(application, jobs, record, stop_requested))
                    if stop_requested.is_set():
                        stop()
                    active_run.counts.update(schedulers[0].run())
            except StoreUnavailable as error:
                # Either the work is finished and only its run is not recorded, or the database is unavailable again.
                structlog.get_logger("jobs.operations.run_scheduler").warning("run-not-recorded", reason=str(error))
            if schedulers:
                return


def make_scheduler(
    application: Application,
    jobs: Sequence[DueJob],
    record_heartbeat: Callable[[Mapping[str, Any]], None],
    stop_requested: threading.Event,
) -> Scheduler:
    """The scheduler that runs `jobs` and the drains of `application`, whose database must have the current schema.

    It calls `record_heartbeat` with each of its heartbeats. Exports of telemetry end early once `stop_requested` is
    set.
    """
    workload = Workload(
        queues=QUEUES,
        open_drain=application.open_drain,
        drain_interval_seconds=application.settings.drain_interval_seconds,
        jobs=jobs,
        send_due=lambda: asdict(application.outbox.send_due()),
        export_telemetry=partial(export_telemetry, application, stop_requested=stop_requested.is_set),
        record_heartbeat=record_heartbeat,
    )
    return Scheduler(workload, application.job_runs)


def _record_heartbeat(application: Application, run_id: str, counts: Mapping[str, Any]) -> None:
    """Records, as the heartbeat of the scheduler, `counts` and the queues whose drains hang."""
    longest = application.settings.health_stall_seconds
    hanging = [queue for queue, seconds in application.seconds_since_progress().items() if seconds > longest]
    application.job_runs.record_heartbeat(run_id, {**counts, "hanging": hanging})


def due_jobs(application: Application, stop_requested: threading.Event) -> list[DueJob]:
    """The scheduled jobs that the settings switch on. The jobs end early once `stop_requested` is set."""
    settings = application.settings
    return [
        DueJob(
            job.name,
            job.schedule(settings),
            partial(_run_job, job, application, stop_requested),
            job.catch_up,
        )
        for job in SCHEDULE
        if job.is_on(settings)
    ]


def _run_job(
    job: ScheduledJob, application: Application, stop_requested: threading.Event, active_run: ActiveRun
) -> None:
    job.run(application, active_run, stop_requested)


def _wait_for_database(application: Application, stop_requested: threading.Event) -> bool:
    """Waits until the database has the current schema. Returns False if `stop_requested` is set before then.

    Upgrades the schema if `DATABASE_AUTO_UPGRADE` is on. Otherwise, another job upgrades the schema, and that job may
    still be running.
    """
    failures = failure_log("database")
    while not stop_requested.is_set():
        try:
            application.bring_up_to_date(application.database)
        except (StoreUnavailable, WorkError) as error:
            log_failure(failures, error)
            stop_requested.wait(_DATABASE_SECONDS)
        else:
            failures.worked()
            return True
    return False
