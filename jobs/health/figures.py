"""The state of the system: the figures that `status`, the metrics, the health page and `check` show, read in one place.

Reading changes nothing: no message is received, and no HMPPS service is called.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.errors import WorkError
from jobs.health.deadline import ReadResult, late_text, read_all, reading_of
from jobs.runtime.application import Application
from jobs.runtime.cron import parse_schedule
from jobs.runtime.job_runs import DRAIN_JOB, HOUSEKEEPING_JOB, SCHEDULER_JOB, JobRun, RunStatus
from reports.reconciliations.registry import RECONCILIATIONS, Entry
from sync import clock
from sync.queues.queue import QueueCounts
from sync.settings.queues import QUEUES
from sync.settings.upstreams import UpstreamName
from sync.store import creations, findings, outbox
from sync.store.database import StoreUnavailable
from sync.store.telemetry import count_due_events
from sync.store.waiting_messages import Wait, count_waits
from sync.upstream.breaker import read_breakers
from sync.upstream.breaker_rules import BreakerState

if TYPE_CHECKING:
    from reports.engine.interrupted_runs import InterruptedRun

#: Deliveries are tried for up to fourteen days. A delivery that was given up on is shown for three weeks after it was
#: enqueued.
_GIVEN_UP_SHOWN = timedelta(days=21)
#: A scheduled job begins its run within an hour of the scheduled time, and the next run is expected within two months.
_STARTS_WITHIN = timedelta(hours=1)
_CRONJOB_SEEN = timedelta(days=62)
#: Kubernetes puts the scheduled time, in minutes since 1970, into the names of the Jobs and pods of a CronJob.
_SCHEDULED_MINUTE = re.compile(r"-(\d{8})")
#: A pod with such a name begins within this time of the scheduled time; later pods are retries of the same Job.
_POD_STARTS_WITHIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """A queue and its dead letter queue: their names in SQS and the numbers of their messages.

    dlq_attached: whether failing messages reach the dead letter queue.
    """

    queue: str
    name: str
    dlq_name: str
    main: QueueCounts
    dlq: QueueCounts
    dlq_attached: bool


@dataclass(frozen=True, slots=True)
class BreakerFigures:
    """The breaker for one service, and when it opened (None if it is closed, or if the time is not known)."""

    service: UpstreamName
    state: BreakerState
    opened_at: datetime | None


@dataclass(frozen=True, slots=True)
class SchedulerFigures:
    """One running scheduler.

    heartbeat_at: the time of its last heartbeat; None before the first. last_batch: the queue, the number of messages
    and the end of the last batch that had messages; None if there was none. failing: the work that is currently
    failing, and why. hanging: the queues whose drain makes no progress.
    """

    host: str
    started_at: datetime
    heartbeat_at: datetime | None
    last_batch: tuple[str, int, datetime] | None
    failing: Mapping[str, str]
    hanging: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrainFigures:
    """What drains the queues: the schedulers that are alive, and the `drain` commands.

    last_drain_at: when the last successful `drain` ended. failed_drain: the last `drain`, if it failed.
    """

    schedulers: tuple[SchedulerFigures, ...]
    last_drain_at: datetime | None
    failed_drain: JobRun | None = None


@dataclass(frozen=True, slots=True)
class ReconciliationFigures:
    """A reconciliation, and two of its runs for everyone: the last finished one and the last complete one.

    The fields of a run are None if there is no such run. on_schedule: whether the scheduler runs the reconciliation, or
    a CronJob has run it within the last two months. interrupted: the newest run, if it has no result and no process is
    working on it. last_run_id, last_status: the id and status of the last finished run. last_unread: the number of
    records and lists that this run could not read. last_shards: the number of its shards, or 1 if there is no such run.
    run_id, completed_at, differences, new: the id, the end and the counts of the last complete run.
    """

    name: str
    on_schedule: bool = False
    interrupted: "InterruptedRun | None" = None
    last_run_id: str | None = None
    last_status: str | None = None
    last_unread: int | None = None
    last_shards: int = 1
    run_id: str | None = None
    completed_at: datetime | None = None
    differences: int | None = None
    new: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures, each with its value or with the reason why it could not be read.

    queues: by queue id. ages: seconds since the oldest message was sent, by the SQS name of its queue. reconciliations:
    by name. due_events: how many telemetry events Application Insights has not accepted yet. known_since: when the
    first run of any job was recorded, or None if no run has been recorded. upgrade_needed: if the database is missing
    or its schema is old, a clause that says so; otherwise None. database_unknown: why the database could not be read,
    or only in part; otherwise None. It is the clause in `upgrade_needed` if there is one.
    """

    queues: Mapping[str, ReadResult[QueueFigures]]
    ages: ReadResult[Mapping[str, float]]
    breakers: ReadResult[tuple[BreakerFigures, ...]]
    waits: ReadResult[list[Wait]]
    drains: ReadResult[DrainFigures]
    reconciliations: Mapping[str, ReadResult[ReconciliationFigures]]
    housekeeping: ReadResult[JobRun | None]
    findings: ReadResult[list[findings.OpenFindings]]
    creations: ReadResult[list[creations.Unsettled]]
    deliveries: ReadResult[list[outbox.Unsent]]
    due_events: ReadResult[int]
    known_since: ReadResult[datetime | None]
    upgrade_needed: str | None
    database_unknown: str | None


def read_figures(application: Application, deadline_seconds: float) -> Figures:
    """Reads all figures. A figure is unknown if reading it fails or takes longer than `deadline_seconds`."""
    stored: dict[str, ReadResult[Any]] = {}
    found = read_all(
        {
            "ages": partial(read_ages, application),
            **{queue: partial(read_queue, application, queue) for queue in QUEUES},
            "stored": partial(_read_stored, application, stored),
        },
        deadline_seconds,
    )
    upgrade_needed = found["stored"].value
    database_unknown = upgrade_needed or found["stored"].unknown
    late: ReadResult[Any] = ReadResult(unknown=database_unknown or late_text(deadline_seconds))

    def of(name: str) -> ReadResult[Any]:
        return stored.get(name, late)

    return Figures(
        queues={queue: found[queue] for queue in QUEUES},
        ages=found["ages"],
        breakers=of("breakers"),
        waits=of("waits"),
        drains=of("drains"),
        reconciliations={name: of(f"reconciliation {name}") for name in RECONCILIATIONS},
        housekeeping=of("housekeeping"),
        findings=of("findings"),
        creations=of("creations"),
        deliveries=of("deliveries"),
        due_events=of("telemetry"),
        known_since=of("known since"),
        upgrade_needed=upgrade_needed,
        database_unknown=database_unknown,
    )


def read_queue(application: Application, queue: str) -> QueueFigures:
    """The figures of the queue with the id `queue`. Raises `QueueUnavailable`."""
    pair = application.queue_pair(queue)
    return QueueFigures(
        queue=queue,
        name=pair.main.name,
        dlq_name=pair.dlq.name,
        main=pair.main.counts(),
        dlq=pair.dlq.counts(),
        dlq_attached=pair.main.max_receives() is not None,
    )


def read_ages(application: Application) -> dict[str, float]:
    """Seconds since the oldest message on each queue and dead letter queue was sent, by the SQS name of the queue.

    Raises `WorkError` if there is no CloudWatch, as with a local endpoint, and `AgesUnavailable` if CloudWatch cannot
    be read.
    """
    from sync.queues.queue import oldest_ages

    settings = application.settings
    if settings.hmpps_sqs_provider == "localstack":
        raise WorkError("ages come from CloudWatch, which a local endpoint does not have")
    names = [name for queue in map(settings.queue, QUEUES) for name in (queue.queue_name, queue.dlq_name)]
    return oldest_ages(application.aws.client("cloudwatch"), names)


def read_breaker_states(application: Application) -> tuple[BreakerFigures, ...]:
    """The breaker for every service. Raises `StoreUnavailable`."""
    with application.database.read() as connection:
        rows = read_breakers(connection)
    states = application.breakers.states()
    opened = {name: row.opened_at for name, row in rows.items()}
    return tuple(
        BreakerFigures(name, state, None if state is BreakerState.CLOSED else opened.get(name))
        for name, state in states.items()
    )


def read_waits(application: Application) -> list[Wait]:
    """What messages on the queues are waiting for. Raises `StoreUnavailable`."""
    with application.database.read() as connection:
        return count_waits(connection)


def _read_stored(application: Application, found: dict[str, ReadResult[Any]]) -> str | None:
    """Reads the figures in the database into `found`, one after another, since connections are few.

    If the database has to be created or upgraded first, reads nothing and returns the reason; otherwise returns None.
    Raises `StoreUnavailable` at the first figure for which the database is unavailable, and `WorkError` if the schema
    comes from a newer version of the program.
    """
    database = application.database
    if not database.exists:
        return f"there is no database yet at {database.url_without_password}"
    if not database.schema_is_current():
        if (newer := database.newer_schema()) is not None:
            raise WorkError(newer)
        return f"the schema of the database at {database.url_without_password} is not current"
    for name, read in _STORED.items():
        found[name] = reading_of(partial(read, application), StoreUnavailable)
    return None


def _read_drains(application: Application) -> DrainFigures:
    drained = application.job_runs.last_success(DRAIN_JOB)
    running = application.job_runs.in_progress(SCHEDULER_JOB)
    last = application.job_runs.last_over_everyone(DRAIN_JOB)
    return DrainFigures(
        schedulers=tuple(map(_scheduler, running)),
        last_drain_at=None if drained is None else drained.finished_at,
        failed_drain=last if last is not None and last.status == RunStatus.FAILED else None,
    )


def _scheduler(run: JobRun) -> SchedulerFigures:
    heartbeat, batch = run.counts.get("heartbeatAt"), run.counts.get("lastBatch")
    return SchedulerFigures(
        host=run.host,
        started_at=run.started_at,
        heartbeat_at=None if heartbeat is None else datetime.fromisoformat(heartbeat),
        last_batch=None
        if batch is None
        else (batch["queue"], batch["received"], datetime.fromisoformat(batch["endedAt"])),
        failing=run.counts.get("failing", {}),
        hanging=tuple(run.counts.get("hanging", ())),
    )


def _read_reconciliation(application: Application, name: str) -> ReconciliationFigures:
    from reports.engine.interrupted_runs import last_interrupted
    from reports.engine.runs import last_runs

    with application.database.read() as connection:
        last, complete = last_runs(connection, name)
    return ReconciliationFigures(
        name=name,
        on_schedule=_runs_on_schedule(application, RECONCILIATIONS[name]),
        interrupted=last_interrupted(application.database, name),
        last_run_id=None if last is None else last.run_id,
        last_status=None if last is None else last.status,
        last_unread=None if last is None else last.unread + last.gaps,
        last_shards=1 if last is None else last.parameters.get("shards", 1),
        run_id=None if complete is None else complete.run_id,
        completed_at=None if complete is None else complete.finished_at,
        differences=None if complete is None else complete.mismatches,
        new=None if complete is None else complete.new,
    )


def _runs_on_schedule(application: Application, entry: Entry) -> bool:
    """Whether the scheduler or a CronJob runs a reconciliation on a schedule.

    A CronJob runs the same command as a person does, so its runs are recognised by the name of the pod, or by the time
    at which they begin. If a person creates a Job from a CronJob, the name of the pod contains no scheduled time.
    """
    settings = application.settings
    if entry.is_on(settings):
        return True
    schedule = parse_schedule(entry.schedule_setting, entry.cron_of(settings), settings.zone)
    return any(
        _is_of_cronjob(run) or schedule.latest(run.started_at, _STARTS_WITHIN) is not None
        for run in application.job_runs.started_by_command_since(entry.job, clock.now() - _CRONJOB_SEEN)
    )


def _is_of_cronjob(run: JobRun) -> bool:
    """Whether a CronJob began the run.

    It did if the name of the pod contains a scheduled time that is at most a day before the start of the run.
    """
    began = run.started_at.timestamp() / 60
    latest = _POD_STARTS_WITHIN.total_seconds() / 60
    return any(0 <= began - int(minute) <= latest for minute in _SCHEDULED_MINUTE.findall(run.host))


def _read_findings(application: Application) -> list[findings.OpenFindings]:
    with application.database.read() as connection:
        return findings.count_open(connection)


def _read_creations(application: Application) -> list[creations.Unsettled]:
    with application.database.read() as connection:
        return creations.count_unsettled(connection)


def _read_deliveries(application: Application) -> list[outbox.Unsent]:
    with application.database.read() as connection:
        return outbox.unsent(connection, clock.now() - _GIVEN_UP_SHOWN)


def read_due_events(application: Application) -> int:
    """How many telemetry events Application Insights has not accepted yet. Raises `StoreUnavailable`."""
    with application.database.read() as connection:
        return count_due_events(connection)


_STORED: Mapping[str, Callable[[Application], Any]] = {
    "drains": _read_drains,
    "breakers": read_breaker_states,
    "waits": read_waits,
    "housekeeping": lambda application: application.job_runs.last_success(HOUSEKEEPING_JOB),
    "known since": lambda application: application.job_runs.first_started(),
    "findings": _read_findings,
    "creations": _read_creations,
    "deliveries": _read_deliveries,
    "telemetry": read_due_events,
    **{f"reconciliation {name}": partial(_read_reconciliation, name=name) for name in RECONCILIATIONS},
}
