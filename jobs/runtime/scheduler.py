"""The long-running process: drains, the weekly reconciliation, the housekeeping and the deliveries, each at its time.

Every scheduled moment has one run in the ledger, whichever process starts it. What was missed while no scheduler ran,
or was interrupted by the death of one, is caught up within the job's `catch_up` time.
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

from jobs.cli.exit_codes import StopRequested
from jobs.runtime.cron import CronSchedule
from jobs.runtime.failure_log import FailureLog
from jobs.runtime.job_runs import ActiveRun, AlreadyStartedError, JobRuns, Status, Trigger, scheduled_run_id
from jobs.runtime.logging import bound
from sync import clock
from sync.pipeline.drain import BatchSummary

HEARTBEAT_SECONDS = 60
OUTBOX_SECONDS = 3.0
#: How often it is looked whether a job is due, and how soon again after a job was found to be at work elsewhere or
#: failed.
_DUE_SECONDS = 1
_LOOK_AGAIN_SECONDS = 20


class Draining(Protocol):
    """The drain of one queue."""

    def run_batch(self) -> BatchSummary:
        """Receives and handles one micro-batch."""
        ...

    def stop(self) -> None:
        """Ends the batch in hand soon: nothing more is received, and what is in work is finished."""
        ...


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A job with a schedule.

    run: does the work of one moment, puts counts into the run in hand, and raises when it fails; `StopRequested` when
        the process is to end before the work has, which another process then takes over.
    catch_up: how long after its moment a run that was missed or interrupted is still worth starting.
    """

    name: str
    schedule: CronSchedule
    run: Callable[[ActiveRun], None]
    catch_up: timedelta


class Scheduler:
    """Runs until it is told to stop."""

    def __init__(
        self,
        *,
        open_drain: Callable[[str], Draining],
        queues: Sequence[str],
        drain_interval_seconds: float,
        jobs: Sequence[ScheduledJob],
        job_runs: JobRuns,
        send_due: Callable[[], Mapping[str, int]],
        outbox_seconds: float = OUTBOX_SECONDS,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._open_drain = open_drain
        self._queues = tuple(queues)
        self._interval = drain_interval_seconds
        self._jobs = tuple(jobs)
        self._ledger = job_runs
        self._send_due = send_due
        self._outbox_seconds = outbox_seconds
        self._now = now
        self._log = structlog.get_logger("jobs.runtime.scheduler")
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._drains: dict[str, Draining] = {}
        self._totals: Counter[str] = Counter()
        self._done: dict[str, datetime] = {}
        self._look_again: dict[str, float] = {}
        self._failure_logs = {name: FailureLog(f"drain of {name}") for name in self._queues}
        self._failure_logs |= {job.name: FailureLog(job.name) for job in self._jobs}
        self._failure_logs["outbox"] = FailureLog("outbox")

    def run(self) -> dict[str, int]:
        """Works until `stop` is called and the work in hand is finished; what the drains did, counted by outcome."""
        timer = BackgroundScheduler(timezone=UTC, executors=self._executors(), job_defaults=_JOB_DEFAULTS)
        self._add_work(timer)
        timer.start()
        started = time.monotonic()
        self._log.info(
            "scheduler-started",
            queues=list(self._queues),
            interval_seconds=self._interval,
            schedules={job.name: str(job.schedule) for job in self._jobs},
        )
        try:
            while not self._stopping.wait(HEARTBEAT_SECONDS):
                seconds = round(time.monotonic() - started)
                self._log.info("scheduler-alive", seconds=seconds, failing=self.failing(), **self.totals())
        finally:
            self._finish(timer)
        self._log.info("scheduler-stopped", seconds=round(time.monotonic() - started), **self.totals())
        return self.totals()

    def stop(self) -> None:
        """Starts nothing more and lets what is in work end; `run` returns then. May be called from any thread."""
        self._log.info("scheduler-stopping")
        self._stopping.set()
        with self._lock:
            drains = list(self._drains.values())
        for drain in drains:
            drain.stop()

    def totals(self) -> dict[str, int]:
        """Messages since the start, by what became of them; outcomes that never happened are left out."""
        with self._lock:
            return dict(self._totals)

    def failing(self) -> dict[str, str]:
        """The work that fails at present, and why."""
        return {
            name: failure_log.reason
            for name, failure_log in self._failure_logs.items()
            if failure_log.reason is not None
        }

    def _executors(self) -> dict[str, ThreadPoolExecutor]:
        return {
            "default": ThreadPoolExecutor(max(1, len(self._jobs))),
            "drains": ThreadPoolExecutor(max(1, len(self._queues))),
            "outbox": ThreadPoolExecutor(1),
        }

    def _add_work(self, timer: BackgroundScheduler) -> None:
        begin = clock.now()
        for name in self._queues:
            timer.add_job(
                self._drain,
                IntervalTrigger(seconds=self._interval),
                args=(name,),
                id=f"drain {name}",
                executor="drains",
                next_run_time=begin,
            )
        for job in self._jobs:
            timer.add_job(
                self._run_due,
                IntervalTrigger(seconds=_DUE_SECONDS),
                args=(job,),
                id=job.name,
                next_run_time=begin,
            )
        timer.add_job(
            self._send,
            IntervalTrigger(seconds=self._outbox_seconds),
            id="outbox",
            executor="outbox",
            next_run_time=begin,
        )

    def _finish(self, timer: BackgroundScheduler) -> None:
        timer.remove_all_jobs()
        timer.shutdown(wait=True)

    def _drain(self, queue: str) -> None:
        if self._stopping.is_set():
            return
        with bound(queue=queue):
            try:
                summary = self._drain_of(queue).run_batch()
            except Exception as error:
                # Whatever it is, the next batch is tried: one bad moment must not end a queue's work.
                self._failure_logs[queue].failed(error)
            else:
                self._failure_logs[queue].worked()
                self._count(summary)

    def _drain_of(self, queue: str) -> Draining:
        with self._lock:
            drain = self._drains.get(queue)
        if drain is None:
            drain = self._open_drain(queue)
            with self._lock:
                self._drains[queue] = drain
            if self._stopping.is_set():
                drain.stop()
        return drain

    def _count(self, summary: BatchSummary) -> None:
        if not summary.received:
            return
        counts = _counts_of(summary)
        with self._lock:
            self._totals.update(counts)
        self._log.info("batch", **counts, seconds=round(summary.seconds, 3))

    def _run_due(self, job: ScheduledJob) -> None:
        """Runs `job` for its latest moment, unless that was done before or is being done, here or elsewhere."""
        moment = job.schedule.latest(self._now(), job.catch_up)
        if self._stopping.is_set() or moment is None or self._done.get(job.name) == moment:
            return
        if time.monotonic() < self._look_again.get(job.name, 0):
            return
        run_id = scheduled_run_id(job.name, moment)
        with bound(run_id=run_id):
            try:
                standing = self._ledger.standing(run_id)
                if standing in (None, Status.INTERRUPTED):
                    self._run(job, run_id)
            except StopRequested as error:
                self._log.info("job-stopped", job=job.name, reason=str(error))
                return
            except AlreadyStartedError:
                standing = Status.RUNNING
            except Exception as error:  # in the ledger where that is possible; the next moment is tried all the same
                self._failure_logs[job.name].failed(error)
                self._look_again[job.name] = time.monotonic() + _LOOK_AGAIN_SECONDS
                return
        if standing is Status.RUNNING:
            # In another process, which may yet die before it is done.
            self._look_again[job.name] = time.monotonic() + _LOOK_AGAIN_SECONDS
        else:
            self._done[job.name] = moment
        self._failure_logs[job.name].worked()

    def _run(self, job: ScheduledJob, run_id: str) -> None:
        with self._ledger.run(job.name, {}, trigger=Trigger.SCHEDULE, run_id=run_id) as active_run:
            self._log.info("job-started", job=job.name, resumed=active_run.resumed)
            job.run(active_run)
        self._log.info("job-ended", job=job.name, status=active_run.status, **_plain(active_run.counts))

    def _send(self) -> None:
        if self._stopping.is_set():
            return
        try:
            counts = self._send_due()
        except Exception as error:  # an outage of Slack, mail or database must not end the deliveries
            self._failure_logs["outbox"].failed(error)
        else:
            self._failure_logs["outbox"].worked()
            if any(counts.values()):
                self._log.info("deliveries", **counts)


#: A batch or a job may take longer than the pause before the next; it is then late, never skipped and never doubled.
_JOB_DEFAULTS = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}


def _counts_of(summary: BatchSummary) -> dict[str, int]:
    return {name: value for name, value in summary.as_dict().items() if isinstance(value, int) and value}


def _plain(counts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if isinstance(value, (int, float, str))}
