"""The scheduler: runs the drains, the scheduled jobs and the deliveries in one process, each at the right time.

A job has only one run for each scheduled time, whichever process starts it. A run that was missed because no scheduler
was running can still be started within the job's `catch_up` time. Within that time, a run that was interrupted because
a scheduler died or was stopped can be resumed.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from jobs.errors import StopRequested
from jobs.runtime.cron import CronSchedule
from jobs.runtime.job_runs import ActiveRun, AlreadyStarted, JobRuns, RunStatus, Trigger, scheduled_run_id
from jobs.runtime.logging import bound, failure_log, log_failure
from sync import clock
from sync.pipeline.drain import BatchSummary
from sync.store.database import StoreUnavailable

#: How often the scheduler logs that it is alive, and how often it records its heartbeat, in seconds.
LOG_SECONDS = 60
HEARTBEAT_SECONDS = 15.0
OUTBOX_SECONDS = 3.0
#: How often to check whether a job is due, and how soon to check again after it failed or while it runs in another
#: process, in seconds.
DUE_SECONDS = 1.0
_RECHECK_SECONDS = 20
#: If a batch or a job takes longer than its interval, the next one starts late. Two of the same kind never run at once.
_JOB_DEFAULTS = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}


class QueueDrain(Protocol):
    """The part of a queue's drain that the scheduler uses."""

    def run_batch(self) -> BatchSummary:
        """Receives and handles one micro-batch."""
        ...

    def stop(self) -> None:
        """Stops receiving. Messages in flight are handled, or returned to the queue."""
        ...


@dataclass(frozen=True, slots=True)
class DueJob:
    """A job as the scheduler runs it.

    schedule: the times at which the job is due. run: does the work, puts counts into the `ActiveRun`, and raises an
    exception if the work fails. If the process is asked to end, `run` may raise `StopRequested` to leave the rest of
    the work to another process. catch_up: how long after its scheduled time a run is still worth starting.
    """

    name: str
    schedule: CronSchedule
    run: Callable[[ActiveRun], None]
    catch_up: timedelta


@dataclass(frozen=True, slots=True)
class Workload:
    """What a scheduler runs: the drain of each queue, jobs on their schedules, and the deliveries of the outbox.

    drain_interval_seconds: the interval between the batches of a queue. due_seconds: the interval between checks of
    whether a job is due. send_due: sends the deliveries that are due, and returns their number by result.
    export_telemetry: sends due events to Application Insights. outbox_seconds: the interval between calls to each of
    these two functions. record_heartbeat: receives the result of `Scheduler.heartbeat` every `heartbeat_seconds`.
    """

    queues: tuple[str, ...]
    open_drain: Callable[[str], QueueDrain]
    drain_interval_seconds: float
    jobs: Sequence[DueJob]
    send_due: Callable[[], Mapping[str, int]]
    due_seconds: float = DUE_SECONDS
    outbox_seconds: float = OUTBOX_SECONDS
    export_telemetry: Callable[[], object] = lambda: None
    record_heartbeat: Callable[[Mapping[str, Any]], None] = lambda _: None
    heartbeat_seconds: float = HEARTBEAT_SECONDS


class Scheduler:
    """Runs a workload until `stop` is called."""

    def __init__(self, workload: Workload, job_runs: JobRuns, now: Callable[[], datetime] = clock.now) -> None:
        self._workload = workload
        self._job_runs = job_runs
        self._now = now
        self._log = structlog.get_logger("jobs.runtime.scheduler")
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._drains: dict[str, QueueDrain] = {}
        self._totals: Counter[str] = Counter()
        self._last_batch: dict[str, Any] = {}
        self._done: dict[str, datetime] = {}
        self._recheck_at: dict[str, float] = {}
        self._failures = {queue: failure_log(f"drain of {queue}") for queue in workload.queues}
        self._failures |= {name: failure_log(name) for name in (job.name for job in workload.jobs)}
        self._failures |= {name: failure_log(name) for name in ("outbox", "telemetry")}

    def run(self) -> dict[str, int]:
        """Works until `stop` is called and running work has finished. Returns the `totals`."""
        timer = BackgroundScheduler(timezone=UTC, executors=self._executors(), job_defaults=_JOB_DEFAULTS)
        self._add_work(timer)
        timer.start()
        started = time.monotonic()
        self._log.info(
            "scheduler-started",
            queues=list(self._workload.queues),
            interval_seconds=self._workload.drain_interval_seconds,
            schedules={job.name: str(job.schedule) for job in self._workload.jobs},
        )
        try:
            while not self._stopping.wait(LOG_SECONDS):
                seconds = round(time.monotonic() - started)
                self._log.info("scheduler-alive", seconds=seconds, failing=self.failing(), **self.totals())
        finally:
            timer.remove_all_jobs()
            timer.shutdown(wait=True)
        self._log.info("scheduler-stopped", seconds=round(time.monotonic() - started), **self.totals())
        return self.totals()

    def stop(self) -> None:
        """Starts nothing more and lets running work finish; then `run` returns. May be called from any thread."""
        self._log.info("scheduler-stopping")
        self._stopping.set()
        with self._lock:
            drains = list(self._drains.values())
        for drain in drains:
            drain.stop()

    def totals(self) -> dict[str, int]:
        """The number of batches, of received messages, and of messages with each outcome, since the start.

        Batches without messages do not count. Numbers that are 0 are left out.
        """
        with self._lock:
            return dict(self._totals)

    def failing(self) -> dict[str, str]:
        """The reason for each current failure, by the name of the work that is failing."""
        return {name: log.reason for name, log in self._failures.items() if log.reason is not None}

    def heartbeat(self) -> dict[str, Any]:
        """The record of a live scheduler: the time, the `totals`, the last batch with messages, and the failures."""
        with self._lock:
            return {
                **self._totals,
                "heartbeatAt": clock.now().isoformat(timespec="seconds"),
                **({"lastBatch": dict(self._last_batch)} if self._last_batch else {}),
                "failing": self.failing(),
            }

    def _executors(self) -> dict[str, ThreadPoolExecutor]:
        return {
            "default": ThreadPoolExecutor(max(1, len(self._workload.jobs))),
            "drains": ThreadPoolExecutor(max(1, len(self._workload.queues))),
            "outbox": ThreadPoolExecutor(1),
            "telemetry": ThreadPoolExecutor(1),
            "heartbeat": ThreadPoolExecutor(1),
        }

    def _add_work(self, timer: BackgroundScheduler) -> None:
        def repeat(name: str, executor: str, seconds: float, work: Callable[..., None], *arguments: object) -> None:
            trigger = IntervalTrigger(seconds=seconds)
            timer.add_job(work, trigger, arguments, id=name, executor=executor, next_run_time=clock.now())

        for queue in self._workload.queues:
            repeat(f"drain {queue}", "drains", self._workload.drain_interval_seconds, self._drain, queue)
        for job in self._workload.jobs:
            repeat(job.name, "default", self._workload.due_seconds, self._run_due, job)
        repeat("outbox", "outbox", self._workload.outbox_seconds, self._send)
        repeat("telemetry", "telemetry", self._workload.outbox_seconds, self._export)
        repeat("heartbeat", "heartbeat", self._workload.heartbeat_seconds, self._record_heartbeat)

    def _drain(self, queue: str) -> None:
        if self._stopping.is_set():
            return
        with bound(queue=queue):
            try:
                summary = self._open_drain(queue).run_batch()
            except Exception as error:  # the next batch is tried anyway
                log_failure(self._failures[queue], error)
            else:
                self._failures[queue].worked()
                self._count(summary)

    def _open_drain(self, queue: str) -> QueueDrain:
        with self._lock:
            drain = self._drains.get(queue)
        if drain is None:
            drain = self._workload.open_drain(queue)
            with self._lock:
                self._drains[queue] = drain
            if self._stopping.is_set():
                drain.stop()
        return drain

    def _count(self, summary: BatchSummary) -> None:
        if not summary.received:
            return
        counts = {name: value for name, value in summary.as_dict().items() if isinstance(value, int) and value}
        with self._lock:
            self._totals.update(counts)
            self._last_batch = {
                "queue": summary.queue,
                "received": summary.received,
                "endedAt": clock.now().isoformat(timespec="seconds"),
            }
        self._log.info("batch", **counts, seconds=round(summary.seconds, 3))

    def _run_due(self, job: DueJob) -> None:
        """Runs `job` for its latest scheduled time, if that is at most `catch_up` ago.

        Does nothing if the run for that time has ended or is in progress, in this process or another.
        """
        due = job.schedule.latest(self._now(), job.catch_up)
        if self._stopping.is_set() or due is None or self._done.get(job.name) == due:
            return
        if time.monotonic() < self._recheck_at.get(job.name, 0):
            return
        run_id = scheduled_run_id(job.name, due)
        with bound(run_id=run_id):
            try:
                status = self._job_runs.status_of(run_id)
                if status in (None, RunStatus.INTERRUPTED):
                    self._run(job, run_id)
            except StopRequested as error:
                self._log.info("job-stopped", job=job.name, reason=str(error))
                return
            except AlreadyStarted:
                status = RunStatus.RUNNING
            except Exception as error:  # recorded with the run if possible, and otherwise tried again
                log_failure(self._failures[job.name], error)
                self._recheck_at[job.name] = time.monotonic() + _RECHECK_SECONDS
                return
        if status is RunStatus.RUNNING:
            # The run is in progress in another process, which may still die before the run is done.
            self._recheck_at[job.name] = time.monotonic() + _RECHECK_SECONDS
        else:
            self._done[job.name] = due
        self._failures[job.name].worked()

    def _run(self, job: DueJob, run_id: str) -> None:
        with self._job_runs.run(job.name, {}, trigger=Trigger.SCHEDULE, run_id=run_id) as active_run:
            self._log.info("job-started", job=job.name, resumed=active_run.resumed)
            job.run(active_run)
        self._log.info("job-ended", job=job.name, status=active_run.status, **_plain_values(active_run.counts))

    def _record_heartbeat(self) -> None:
        try:
            self._workload.record_heartbeat(self.heartbeat())
        except StoreUnavailable:
            # The drains log that the database is unavailable; the next heartbeat is tried anyway.
            return

    def _export(self) -> None:
        if self._stopping.is_set():
            return
        try:
            self._workload.export_telemetry()
        except Exception as error:  # the events that are due stay due
            log_failure(self._failures["telemetry"], error)
        else:
            self._failures["telemetry"].worked()

    def _send(self) -> None:
        if self._stopping.is_set():
            return
        try:
            counts = self._workload.send_due()
        except Exception as error:  # an outage of Slack, email or the database must not end the deliveries
            log_failure(self._failures["outbox"], error)
        else:
            self._failures["outbox"].worked()
            if any(counts.values()):
                self._log.info("deliveries", **counts)


def _plain_values(counts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if isinstance(value, (int, float, str))}
