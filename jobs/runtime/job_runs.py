"""The ledger of job runs: what ran, when, why, with which parameters, and how it ended.

An active run holds a lease, which its process renews. A run whose row still has the status `running` is shown as
`interrupted` if nothing holds its lease, or if the process that holds the lease no longer exists.
"""

import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, insert, or_, select, update

from jobs.errors import UsageError
from sync import clock
from sync.errors import one_line
from sync.store.database import Database
from sync.store.leases import Leases, holder_is_gone
from sync.store.tables import job_runs, leases
from sync.tracing import trace_of, traced

#: The names of jobs that are not reconciliations.
DRAIN_JOB = "drain"
HOUSEKEEPING_JOB = "dlq-housekeeping"
SCHEDULER_JOB = "scheduler"
CONTRACTS_JOB = "contracts-check"
_ERROR_LENGTH = 500
#: The count that says what a run covered, and the value of that count for a run for everyone.
SCOPE = "scope"
EVERYONE = "everyone"


class Trigger(StrEnum):
    """What started a run: a command, the scheduler, or a command that repeats an earlier run."""

    MANUAL = "manual"
    SCHEDULE = "schedule"
    RERUN = "rerun"


class RunStatus(StrEnum):
    """How far a run has got, or how it ended."""

    RUNNING = "running"
    SUCCESS = "success"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class JobRun:
    """One row of the ledger. `counts` and `parameters` are plain JSON; times are aware."""

    id: str
    job: str
    trigger: str
    parameters: Mapping[str, Any]
    status: str
    counts: Mapping[str, Any]
    started_at: datetime
    finished_at: datetime | None
    duration_seconds: float | None
    error: str | None
    host: str
    rerun_of: str | None

    @property
    def shown_status(self) -> str:
        """The status that people see: a run that succeeded is `complete`, as in the reports."""
        return "complete" if self.status == RunStatus.SUCCESS else self.status

    @property
    def shown_counts(self) -> Mapping[str, Any]:
        """The counts that people see.

        A reconciliation id that equals the run id is left out, and so is the scope `everyone`.
        """
        usual = {"reconciliation": self.id, SCOPE: EVERYONE}
        return {name: value for name, value in self.counts.items() if name not in usual or usual[name] != value}

    def as_dict(self) -> dict[str, Any]:
        """The run as a JSON object, with times in ISO format."""
        return {
            "id": self.id,
            "job": self.job,
            "trigger": self.trigger,
            "status": self.status,
            "startedAt": self.started_at.isoformat(),
            "finishedAt": self.finished_at.isoformat() if self.finished_at else None,
            "durationSeconds": self.duration_seconds,
            "parameters": dict(self.parameters),
            "counts": dict(self.counts),
            "error": self.error,
            "host": self.host,
            "rerunOf": self.rerun_of,
        }


@dataclass(slots=True)
class ActiveRun:
    """A run in progress. The values of `counts`, `status` and `error` are written when the run ends.

    resumed: whether an earlier process began the run and did not finish it.
    """

    id: str
    resumed: bool = False
    counts: dict[str, Any] = field(default_factory=dict)
    status: RunStatus = RunStatus.SUCCESS
    error: str | None = None


class AlreadyStarted(Exception):
    """The run with the given id is in progress or has ended, in this process or another."""


class JobRuns:
    """The ledger of job runs: writes and reads its rows."""

    def __init__(self, database: Database, held: Leases, now: Callable[[], datetime] = clock.now) -> None:
        self._database = database
        self._leases = held
        self._now = now

    @contextmanager
    def run(
        self,
        job: str,
        parameters: Mapping[str, Any],
        *,
        trigger: Trigger = Trigger.MANUAL,
        rerun_of: str | None = None,
        run_id: str | None = None,
    ) -> Iterator[ActiveRun]:
        """Records the block as a run of `job`. The run is a success unless the block sets another status.

        A block that raises an `Exception` is recorded as failed. One that raises anything else, such as
        `StopRequested`, is recorded as interrupted.

        trigger: why the run was started. rerun_of: the id of the run that this run repeats. run_id: the id of a run
        that may be started only once, such as a scheduled run; None makes a new id. Raises `AlreadyStarted` if the run
        with that id is in progress or has ended. A run that was interrupted is taken over instead.
        """
        started, began = self._now(), time.monotonic()
        active_run = ActiveRun(run_id or new_run_id(started))
        lease = _lease_key(active_run.id)
        if not self._leases.acquire(lease):
            raise AlreadyStarted(active_run.id)
        try:
            active_run.resumed = not self._begin(active_run.id, job, parameters, trigger, rerun_of, started)
            try:
                with traced(trace_of(active_run.id)):
                    yield active_run
            except BaseException as error:
                interrupted = not isinstance(error, Exception)
                active_run.status = RunStatus.INTERRUPTED if interrupted else RunStatus.FAILED
                active_run.error = active_run.error or one_line(error)
                raise
            finally:
                self._finish(active_run, time.monotonic() - began)
        finally:
            self._leases.release(lease)

    def record_heartbeat(self, run_id: str, counts: Mapping[str, Any]) -> None:
        """Records `counts` as what the run `run_id` has counted so far, if that run is in progress.

        Raises `StoreUnavailable`.
        """
        running = (job_runs.c.id == run_id) & (job_runs.c.status == RunStatus.RUNNING)
        with self._database.begin() as connection:
            connection.execute(update(job_runs).where(running).values(counts=dict(counts)))

    def in_progress(self, job: str) -> list[JobRun]:
        """The runs of `job` that are in progress, oldest first. Runs whose process has died are left out."""
        query = self._query().where(job_runs.c.job == job, job_runs.c.status == RunStatus.RUNNING)
        with self._database.read() as connection:
            found = [_job_run(row) for row in connection.execute(query.order_by(job_runs.c.started_at))]
        return [run for run in found if run.status == RunStatus.RUNNING]

    def first_started(self) -> datetime | None:
        """When the first recorded run was started, or None if there is none."""
        with self._database.read() as connection:
            moment: datetime | None = connection.execute(select(func.min(job_runs.c.started_at))).scalar_one()
        return moment

    def status_of(self, run_id: str) -> RunStatus | None:
        """The status of the run `run_id`, or None if there is no such run."""
        with self._database.read() as connection:
            row = connection.execute(self._query().where(job_runs.c.id == run_id)).first()
        return None if row is None else RunStatus(_job_run(row).status)

    def recent(self, limit: int = 20, job: str | None = None) -> list[JobRun]:
        """The latest `limit` runs of `job`, or of all jobs if `job` is None, newest first."""
        query = self._query().order_by(job_runs.c.started_at.desc(), job_runs.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [
                _job_run(row)
                for row in connection.execute(query if job is None else query.where(job_runs.c.job == job))
            ]

    def started_by_command_since(self, job: str, since: datetime) -> list[JobRun]:
        """The runs of `job` that a command started at `since` (aware) or later, newest first."""
        query = self._query().where(
            job_runs.c.job == job, job_runs.c.trigger == Trigger.MANUAL, job_runs.c.started_at >= since
        )
        with self._database.read() as connection:
            return [_job_run(row) for row in connection.execute(query.order_by(job_runs.c.started_at.desc()))]

    def last_over_everyone(self, job: str) -> JobRun | None:
        """The last run of `job` for everyone, or None if there is none.

        A run for only some prisoners, prisons, days, shards or services does not count.
        """
        return self._newest(job_runs.c.job == job, _over_everyone())

    def last_success(self, job: str) -> JobRun | None:
        """The last successful run of `job` for everyone, or None if there is none."""
        return self._newest(job_runs.c.job == job, job_runs.c.status == RunStatus.SUCCESS, _over_everyone())

    def last_of_each(self) -> frozenset[str]:
        """The ids of each job's last run for everyone and last successful run for everyone."""
        with self._database.read() as connection:
            jobs = connection.execute(select(job_runs.c.job).distinct()).scalars().all()
        lasts = (last(job) for job in jobs for last in (self.last_over_everyone, self.last_success))
        return frozenset(run.id for run in lasts if run is not None)

    def _newest(self, *conditions: ColumnElement[bool]) -> JobRun | None:
        query = self._query().where(*conditions).order_by(job_runs.c.started_at.desc(), job_runs.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else _job_run(row)

    def find(self, run_id: str) -> JobRun:
        """The run whose id is `run_id`, or else the only run whose id begins with `run_id`.

        Raises `UsageError` if there is no such run, or if several ids begin with `run_id` and none equals it.
        """
        # The id itself sorts before the longer ids that begin with it.
        matching = job_runs.c.id.startswith(run_id, autoescape=True)
        query = self._query().where(matching).order_by(job_runs.c.id).limit(2)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            exact = [row for row in rows if row.id == run_id] or rows
        if len(exact) != 1:
            known = "the ids of several runs begin with" if exact else "there is no run"
            raise UsageError(f"{known} {run_id}; `prisoner-to-nomis runs list` shows the runs")
        return _job_run(exact[0])

    def _query(self) -> Select[Any]:
        alive = and_(leases.c.key == _LEASE_PREFIX + job_runs.c.id, leases.c.expires_at > self._now())
        return select(job_runs, leases.c.owner).outerjoin(leases, alive)

    def _begin(
        self,
        run_id: str,
        job: str,
        parameters: Mapping[str, Any],
        trigger: Trigger,
        rerun_of: str | None,
        started: datetime,
    ) -> bool:
        """Records that the run `run_id`, whose lease is already held, has begun.

        Returns True for a new run, and False for an interrupted run that is taken over. Raises `AlreadyStarted` if the
        run has ended.
        """
        row = {
            "id": run_id,
            "job": job,
            "trigger": trigger,
            "parameters": dict(parameters),
            "status": RunStatus.RUNNING,
            "counts": {},
            "started_at": started,
            "host": socket.gethostname(),
            "rerun_of": rerun_of,
        }
        with self._database.begin() as connection:
            known = connection.execute(select(job_runs.c.status).where(job_runs.c.id == run_id)).scalar()
            if known is None:
                connection.execute(insert(job_runs).values(row))
                return True
            if known not in (RunStatus.RUNNING, RunStatus.INTERRUPTED):
                raise AlreadyStarted(run_id)
            taken = {"status": RunStatus.RUNNING, "host": row["host"], "finished_at": None, "error": None}
            connection.execute(update(job_runs).where(job_runs.c.id == run_id).values(taken))
            return False

    def _finish(self, active_run: ActiveRun, seconds: float) -> None:
        values = {
            "status": active_run.status,
            "counts": active_run.counts,
            "finished_at": self._now(),
            "duration_seconds": round(seconds, 3),
            "error": active_run.error[:_ERROR_LENGTH] if active_run.error else None,
        }
        with self._database.begin() as connection:
            connection.execute(update(job_runs).where(job_runs.c.id == active_run.id).values(values))


def _over_everyone() -> ColumnElement[bool]:
    """The condition that a run was for everyone: by its recorded scope or, if none is recorded, by its parameters."""
    recorded = job_runs.c.counts[SCOPE].as_string()
    chosen = (job_runs.c.parameters[name].as_string() for name in ("prisoners", "prisons"))
    nobody_chosen = (or_(each.is_(None), each == "[]") for each in chosen)
    return or_(recorded == EVERYONE, and_(recorded.is_(None), *nobody_chosen))


_LEASE_PREFIX = "run:"
#: The length, in characters, of the longest run id that the tables hold unshortened.
LONGEST_ID = 40


def _lease_key(run_id: str) -> str:
    return _LEASE_PREFIX + run_id


def new_run_id(moment: datetime) -> str:
    """An id for a run that starts at `moment`. Ids sort by time, and are readable."""
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def scheduled_run_id(job: str, due: datetime) -> str:
    """The id of the run of `job` that is due at the time `due`.

    Every process makes the same id, so that only one process can start the run. The tables hold ids of up to 40
    characters, and a longer id would be shortened to a form that people cannot read. So if the id would be longer than
    that, it begins with the name of the reconciliation instead of the name of the job.
    """
    time = f"{due.astimezone(UTC):%Y%m%dT%H%MZ}"
    run_id = f"{job}-{time}"
    return run_id if len(run_id) <= LONGEST_ID else f"{job.removeprefix('reconcile-')}-{time}"


def _job_run(row: Any) -> JobRun:
    dead = row.status == RunStatus.RUNNING and (row.owner is None or holder_is_gone(row.owner))
    return JobRun(
        id=row.id,
        job=row.job,
        trigger=row.trigger,
        parameters=row.parameters,
        status=RunStatus.INTERRUPTED if dead else row.status,
        counts=row.counts,
        started_at=row.started_at,
        finished_at=row.finished_at,
        duration_seconds=row.duration_seconds,
        error=row.error,
        host=row.host,
        rerun_of=row.rerun_of,
    )
