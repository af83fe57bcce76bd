"""Decides, from the figures of each part of the system, what needs a person. Reads nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from jobs.health.deadline import ReadResult
from jobs.health.figures import (
    BreakerFigures,
    DrainFigures,
    Figures,
    QueueFigures,
    ReconciliationFigures,
    SchedulerFigures,
)
from jobs.operations.dead_letters import DlqState
from jobs.operations.schedule import ScheduledJob
from jobs.runtime.job_runs import HOUSEKEEPING_JOB, JobRun, scheduled_run_id
from reports.delivery.channels import NEEDED_SETTINGS, is_set_up
from reports.engine.runs import resume_command
from reports.presentation.text import count
from reports.reconciliations.registry import RECONCILIATIONS
from sync import clock
from sync.alerting import Severity, command
from sync.queues.requeue import WaitsFor
from sync.repair.dead_letter_report import FailureClass
from sync.settings.declaration import Settings
from sync.store.creations import CreationState, Unsettled
from sync.store.findings import FindingKind, OpenFindings
from sync.store.outbox import DeliveryState, Unsent
from sync.store.waiting_messages import Wait
from sync.upstream.breaker_rules import BreakerState

if TYPE_CHECKING:
    from reports.engine.interrupted_runs import InterruptedRun

#: A failed message waits for up to ten minutes before it is tried again, so a queue may be a little behind.
_OLDEST_MESSAGE = timedelta(minutes=30)
#: A scheduler records every fifteen seconds that it is alive.
_OLDEST_HEARTBEAT = timedelta(minutes=2)
#: If a CronJob drains the queues, it runs every minute.
_OLDEST_DRAIN = timedelta(minutes=15)
#: A message rarely waits on its queue for more than twelve hours; by then the creation that it began is settled.
_OLDEST_CREATION = timedelta(hours=12)
#: A delivery that has not been sent is tried again at least every ten minutes.
_OLDEST_DELIVERY = timedelta(minutes=30)
#: How far back to search for the time at which a scheduled job was last due.
_LONGEST_INTERVAL = timedelta(days=32)
#: An interrupted run that began longer ago than this, and has no schedule, is no longer wanted.
_OLDEST_INTERRUPTED = timedelta(days=7)
_HOPELESS = (FailureClass.UNRECOVERABLE, FailureClass.UNREADABLE)
#: The kinds of findings that `duplicates list` shows.
_DUPLICATES = (FindingKind.DUPLICATE, FindingKind.NON_UNIQUE)

#: What messages wait for, if they wait for no particular service.
_AWAITED = {
    WaitsFor.CREATION.stored: "record to be created",
    WaitsFor.LEASE.stored: "record, in use elsewhere",
    WaitsFor.TURN.stored: "turn after a redrive",
    WaitsFor.SERVICE.stored: "service",
}

CHECK = command("check")
UPGRADE = command("db", "upgrade")


@dataclass(frozen=True, slots=True)
class Need:
    """Why a person is needed, as a clause, and the command to begin with."""

    reason: str
    command: str

    def as_dict(self) -> dict[str, str]:
        """The need as a JSON object."""
        return {"reason": self.reason, "command": self.command}


@dataclass(frozen=True, slots=True)
class StatusLine:
    """One line of the status: what is known about a part, and what needs a person.

    name: the name of that part. values: what is known, by the names of the fields in the JSON; empty if the part could
    not be read. unknown: why it could not be read, or None if it was read.
    """

    name: str
    values: Mapping[str, Any]
    needs: tuple[Need, ...] = ()
    unknown: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The line as a JSON object."""
        needs = [each.as_dict() for each in self.needs]
        return {"name": self.name, **self.values, "unknown": self.unknown, "needs": needs}


#: An unknown outcome appears both as a creation and as a finding. Both lines have the same need, which counts once.
_UNKNOWN_OUTCOME = Need("nobody knows whether NOMIS created the record", command("creations", "list"))


def unknown_line(name: str, reason: str, first_command: str = CHECK) -> StatusLine:
    """The line for a part that could not be read, and so needs a person, who should begin with `first_command`.

    `reason` says why it could not be read, as a clause.
    """
    return StatusLine(name, {}, (Need(reason, first_command),), reason)


def queue_line(
    queue: str,
    reading: ReadResult[QueueFigures],
    dead: ReadResult[DlqState] | None,
    ages: Mapping[str, float],
    housekeeping: Need | None,
) -> StatusLine:
    """The line for a queue and its dead letter queue.

    dead: the result of reading the dead letters, or None if no attempt was made to read them. ages: seconds since the
    oldest message of a queue was sent, by the SQS name of the queue. housekeeping: the need that overdue housekeeping
    causes if dead letters wait, or None if housekeeping is not overdue.
    """
    found = reading.value
    if found is None:
        # The reason begins with the name of the queue. Without the name, a shared cause has the same text for all
        # queues.
        reason = str(reading.unknown)
        return unknown_line(queue, f"it cannot be read: {reason.partition(': ')[2] or reason}")
    state = None if dead is None else dead.value
    oldest = ages.get(found.name) if found.main.total else None
    oldest_dead = ages.get(found.dlq_name) if found.dlq.total else None
    if oldest_dead is None and state is not None and state.oldest is not None:
        oldest_dead = (clock.now() - state.oldest).total_seconds()
    needs = []
    if not found.dlq_attached:
        needs.append(Need("the queue has no redrive policy: failing messages are received again for ever", CHECK))
    if oldest is not None and oldest > _OLDEST_MESSAGE.total_seconds():
        needs.append(Need(f"the oldest message has waited for {age_text(oldest)}", CHECK))
    if dead is not None and dead.unknown is not None and found.dlq.visible:
        needs.append(Need(dead.unknown, CHECK))
    if state is not None:
        needs += _dead_letter_needs(queue, state, housekeeping)
    values = {
        "queueName": found.name,
        "waiting": found.main.visible,
        "inFlight": found.main.in_flight,
        "delayed": found.main.delayed,
        "oldestSeconds": None if oldest is None else round(oldest),
        "dlqName": found.dlq_name,
        "dead": found.dlq.visible,
        "oldestDeadSeconds": None if oldest_dead is None else round(oldest_dead),
        "classes": {} if state is None else dict(state.classes),
        "givenUp": 0 if state is None else _given_up(state),
        "sentBack": None if state is None or state.sent_back is None else state.sent_back.as_dict(),
    }
    return StatusLine(queue, values, tuple(needs))


def _dead_letter_needs(queue: str, state: DlqState, housekeeping: Need | None) -> list[Need]:
    stuck = sum(each.given_up or each.failure_class in _HOPELESS for each in state.reports)
    if stuck:
        return [Need(f"{count(stuck, 'message')} cannot succeed without you", command("dlq", "show", queue))]
    return [] if housekeeping is None or not state.reports else [housekeeping]


def _given_up(state: DlqState) -> int:
    return sum(each.given_up for each in state.reports)


def housekeeping_need(
    figures: Figures, jobs: Mapping[str, ScheduledJob], settings: Settings, moment: datetime
) -> Need | None:
    """The need that arises if housekeeping is overdue, because then nothing sends dead letters back.

    None if housekeeping is not overdue, or if the ledger of its runs could not be read.
    """
    if figures.housekeeping.unknown is not None:
        return None
    last: JobRun | None = figures.housekeeping.value
    ended = None if last is None else last.finished_at
    due = _overdue(jobs[HOUSEKEEPING_JOB], settings, ended, moment, timedelta(days=1))
    if due is None:
        return None
    ran = "has never succeeded" if ended is None else f"last succeeded {age_text((moment - ended).total_seconds())} ago"
    return Need(f"housekeeping, which sends dead letters back, {ran}", command("dlq", "retry-all"))


def _overdue(
    job: ScheduledJob, settings: Settings, ended: datetime | None, moment: datetime, within: timedelta
) -> datetime | None:
    """The last time, at least `catch_up` before `moment`, at which `job` was due.

    None if a run has succeeded since that time, or if the search found no such time. ended: when the last successful
    run ended, or None if there is none. within: how far back to search.
    """
    due = job.schedule(settings).latest(moment - job.catch_up, within)
    return None if due is None or (ended is not None and ended >= due) else due


def breaker_lines(breakers: Sequence[BreakerFigures]) -> list[StatusLine]:
    """A line for each service's breaker. An open breaker needs a person."""
    return [
        StatusLine(
            str(each.service),
            {"state": str(each.state), "openedAt": _iso(each.opened_at)},
            (Need("it counts as down: messages wait but are not lost", CHECK),)
            if each.state is BreakerState.OPEN
            else (),
        )
        for each in breakers
    ]


def wait_lines(waits: Sequence[Wait], breakers: Sequence[BreakerFigures], moment: datetime) -> list[StatusLine]:
    """A line for each service, or other thing, that messages wait for.

    A service needs a person if a message has waited for it for more than a minute, unless its breaker is open: then the
    line for the breaker needs one.
    """
    is_open = {str(each.service) for each in breakers if each.state is BreakerState.OPEN}
    return [
        StatusLine(
            each.service or f"their {_AWAITED[each.waits_for]}",
            {
                "waitsFor": each.waits_for,
                "number": each.number,
                "since": _iso(each.since),
                "nextAttemptAt": _iso(each.next_attempt_at),
                "reason": each.reason,
            },
            ()
            if each.service is None or each.service in is_open or not each.is_long(moment)
            else (Need(f"{each.reason}; the messages wait but are not lost", CHECK),),
        )
        for each in waits
    ]


def scheduler_lines(drains: DrainFigures, moment: datetime) -> list[StatusLine]:
    """A line for each live scheduler, or a single line called `none` if there is no live scheduler.

    The line `none` needs a person, unless a `drain` has succeeded in the last 15 minutes and the last `drain` did not
    fail.
    """
    if drains.schedulers:
        return [_scheduler_line(each, moment) for each in drains.schedulers]
    last = drains.last_drain_at
    fresh = last is not None and moment - last < _OLDEST_DRAIN
    failed, needs = drains.failed_drain, []
    if not fresh:
        needs.append(Need("no queue is being drained: start a scheduler", command("scheduler")))
    if failed is not None:
        reason = failed.error or "no reason is known"
        needs.append(Need(f"the last drain failed: {reason}", command("runs", "show", failed.id)))
    values = {"lastDrainAt": _iso(last), "lastDrainFailed": None if failed is None else failed.id}
    return [StatusLine("none", values, tuple(needs))]


def _scheduler_line(scheduler: SchedulerFigures, moment: datetime) -> StatusLine:
    heartbeat, batch = scheduler.heartbeat_at, scheduler.last_batch
    needs = []
    silent = (moment - (heartbeat or scheduler.started_at)).total_seconds()
    if silent > _OLDEST_HEARTBEAT.total_seconds():
        needs.append(
            Need(f"no heartbeat for {age_text(silent)}: see the scheduler's log, or restart the scheduler", CHECK)
        )
    if scheduler.hanging:
        needs.append(Need(f"the drain of {', '.join(scheduler.hanging)} hangs: restart the scheduler", CHECK))
    needs += [Need(f"{name} fails: {reason}", CHECK) for name, reason in scheduler.failing.items()]
    values = {
        "startedAt": _iso(scheduler.started_at),
        "heartbeatAt": _iso(heartbeat),
        "lastBatch": None if batch is None else {"queue": batch[0], "received": batch[1], "endedAt": _iso(batch[2])},
        "failing": dict(scheduler.failing),
        "hanging": list(scheduler.hanging),
    }
    return StatusLine(scheduler.host, values, tuple(needs))


def reconciliation_line(
    jobs: Mapping[str, ScheduledJob],
    figures: Figures,
    settings: Settings,
    moment: datetime,
    found: ReconciliationFigures,
) -> StatusLine:
    """The line for the reconciliation whose figures are `found`. jobs: the scheduled jobs by name.

    A person is needed if the last run failed or was incomplete, if it was interrupted and no live scheduler resumes it,
    or if no run has completed since one was due. A run does not count as missed if it was due before the first recorded
    run of any job. If nothing runs the reconciliation on a schedule, no run counts as missed, and a run that was
    interrupted needs nobody once seven days have passed since it began.
    """
    entry = RECONCILIATIONS[found.name]
    job, cut_off = jobs[entry.job], found.interrupted
    needs = []
    if cut_off is not None:
        drains = figures.drains.value
        scheduler_lives = drains is not None and bool(drains.schedulers)
        resumed = scheduler_lives and entry.is_on(settings) and _is_resumed(job, settings, cut_off.run_id, moment)
        # If nothing runs the reconciliation on a schedule, somebody may have stopped the run for good.
        if not resumed and (found.on_schedule or moment - cut_off.started_at < _OLDEST_INTERRUPTED):
            needs.append(Need(f"the last run {interruption(cut_off, settings.zone)}", cut_off.command))
    elif found.last_run_id and found.last_status == "incomplete" and found.last_run_id != found.run_id:
        resume = resume_command(found.name, found.last_run_id, found.last_shards)
        needs.append(Need("the last run could not read everything", resume))
    elif found.last_status == "failed":
        needs.append(Need("the last run failed", command("runs", "show", found.last_run_id)))
    elif found.on_schedule and (due := _missed(job, settings, found, figures.known_since.value, moment)) is not None:
        late = f"no complete run since one was due on {due.astimezone(settings.zone):%d %b %H:%M}"
        needs.append(Need(late, command("runs", "list", "--job", entry.job)))
    values = {
        "scheduled": entry.is_on(settings),
        "expected": found.on_schedule,
        "lastRun": found.last_run_id if cut_off is None else cut_off.run_id,
        "lastStatus": found.last_status if cut_off is None else "interrupted",
        "lastUnread": found.last_unread if cut_off is None else None,
        "lastComplete": found.run_id,
        "completedAt": _iso(found.completed_at),
        "ageSeconds": None if found.completed_at is None else round((moment - found.completed_at).total_seconds()),
        "differences": found.differences,
        "new": found.new,
    }
    return StatusLine(found.name, values, tuple(needs))


def _missed(
    job: ScheduledJob, settings: Settings, found: ReconciliationFigures, since: datetime | None, moment: datetime
) -> datetime | None:
    """The last time, at least `catch_up` before `moment`, at which `job` was due. None if the run was not missed.

    The run was missed if no run has completed since that time, and if the time is after `since`, when the first
    recorded run of any job was started. If `since` is None, no run was missed.
    """
    due = _overdue(job, settings, found.completed_at, moment, _LONGEST_INTERVAL)
    return due if due is not None and since is not None and due > since else None


def _is_resumed(job: ScheduledJob, settings: Settings, run_id: str, moment: datetime) -> bool:
    """Whether the scheduler resumes the run `run_id`. It resumes only the run that was due last, within `catch_up`."""
    due = job.schedule(settings).latest(moment, job.catch_up)
    return due is not None and scheduled_run_id(job.name, due) == run_id


def interruption(run: "InterruptedRun", zone: ZoneInfo) -> str:
    """When a run was interrupted and how far it had got, as the predicate of a sentence about the run.

    The time is in `zone`.
    """
    read = "nothing" if run.percent_read is None else f"{run.percent_read}%"
    return f"was interrupted after {run.progress_at.astimezone(zone):%d %b %H:%M}, with {read} read"


def finding_lines(found: Sequence[OpenFindings]) -> list[StatusLine]:
    """A line for each kind and severity of open findings, the most serious first."""
    levels = list(Severity)
    return [
        StatusLine(
            each.kind.value,
            {"severity": each.severity, "open": each.number, "oldestAt": _iso(each.oldest)},
            () if each.severity == Severity.INFO else (_finding_need(each.kind),),
        )
        for each in sorted(found, key=lambda each: levels.index(Severity(each.severity)))
    ]


def _finding_need(kind: FindingKind) -> Need:
    if kind is FindingKind.AMBIGUOUS:
        return _UNKNOWN_OUTCOME
    return Need("a person has to decide", command("duplicates" if kind in _DUPLICATES else "dlq", "list"))


def creation_lines(found: Sequence[Unsettled], moment: datetime) -> list[StatusLine]:
    """A line for the unsettled creations in each state."""
    lines = []
    for each in found:
        needs: tuple[Need, ...] = ()
        if each.state is CreationState.AMBIGUOUS:
            needs = (_UNKNOWN_OUTCOME,)
        elif moment - each.oldest > _OLDEST_CREATION:
            needs = (Need("no message will settle these creations", command("creations", "list")),)
        lines.append(StatusLine(each.state.value, {"number": each.number, "oldestAt": _iso(each.oldest)}, needs))
    return lines


def delivery_lines(found: Sequence[Unsent], settings: Settings, moment: datetime) -> list[StatusLine]:
    """A line for the unsent deliveries of each channel in each state."""
    return [_delivery_line(each, settings, moment) for each in found]


def _delivery_line(each: Unsent, settings: Settings, moment: datetime) -> StatusLine:
    needs: tuple[Need, ...] = ()
    if each.state is DeliveryState.FAILED:
        needs = (Need(f"no longer tried: {each.last_error or 'no reason is known'}", _again(each)),)
    elif each.channel in NEEDED_SETTINGS and not is_set_up(settings, each.channel):  # type: ignore[arg-type]
        needs = (Need(f"{NEEDED_SETTINGS[each.channel]} is not set", CHECK),)
    elif moment - each.oldest > _OLDEST_DELIVERY:
        needs = (Need(each.last_error or "nothing sends these deliveries", CHECK),)
    values = {
        "state": each.state.value,
        "number": each.number,
        "oldestAt": _iso(each.oldest),
        "lastError": each.last_error,
        "nextAttemptAt": _iso(each.next_attempt_at) if each.state is DeliveryState.PENDING else None,
    }
    return StatusLine(each.channel, values, needs)


def _again(unsent: Unsent) -> str:
    """The command that sends the report of `unsent` again, or `check` if `unsent` is an alert.

    Alerts are not sent again, since the findings show the same facts.
    """
    kind, _, rest = unsent.key.partition(":")
    if kind == "reconciliation":
        return command("report", "send", rest.partition(":")[0], "--to", unsent.channel)
    return CHECK


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def age_text(seconds: float) -> str:
    """`seconds` in the largest unit that fits, rounded down: `12 s`, `4 min`, `3 h`, `2 days`."""
    for unit, length in (("day", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return count(number, unit) if unit == "day" else f"{number} {unit}"
    return f"{max(0, int(seconds))} s"
