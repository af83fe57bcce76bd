"""The whole system at a glance: how each part stands, and what needs a person.

The figures are those of `jobs.health.figures`, which the metrics and `check` show too; here they are judged. What
cannot be read is unknown, needs a person, and hides nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from jobs.health.deadline import ReadResult, read_all
from jobs.health.figures import (
    BreakerFigures,
    DrainFigures,
    Figures,
    QueueFigures,
    ReconciliationFigures,
    SchedulerFigures,
    read_figures,
)
from jobs.operations.list_dead_letters import DlqState, read_dlq
from jobs.operations.schedule import SCHEDULE, ScheduledJob
from jobs.runtime.application import Application
from jobs.runtime.job_runs import HOUSEKEEPING_JOB, JobRun
from reports.delivery.channels import NEEDED_SETTINGS, is_set_up
from reports.presentation.text import count
from reports.reconciliations.registry import RECONCILIATIONS
from sync import clock
from sync.command_text import command
from sync.repair.dead_letter_report import FailureClass
from sync.settings.declaration import Settings
from sync.severity import Severity
from sync.store.creations import CreationState, Unsettled
from sync.store.findings import FindingKind, OpenFindings
from sync.store.outbox import DeliveryState, Unsent
from sync.upstream.circuit import BreakerState

#: What could not be read by then is unknown.
DEADLINE_SECONDS = 10.0
#: A failed message waits for up to ten minutes before it is tried again, so a queue may be a little behind.
_OLDEST_MESSAGE = timedelta(minutes=30)
#: A scheduler records every fifteen seconds that it lives.
_OLDEST_HEARTBEAT = timedelta(minutes=2)
#: Where the queues are drained by a CronJob, it runs every minute.
_OLDEST_DRAIN = timedelta(minutes=15)
#: A message waits on its queue for up to twelve hours; what it creates is unsettled for no longer.
_OLDEST_CREATION = timedelta(hours=12)
#: What is to be sent is tried again at least every ten minutes.
_OLDEST_DELIVERY = timedelta(minutes=30)
#: The longest time between two runs of a scheduled job that is looked at.
_LONGEST_INTERVAL = timedelta(days=32)
#: Dead-letter messages of a queue that are looked at.
_MOST_DEAD_LETTERS = 500
_HOPELESS = (FailureClass.UNRECOVERABLE, FailureClass.UNREADABLE)
#: Kinds of findings by the command that shows them.
_DUPLICATES = (FindingKind.DUPLICATE, FindingKind.NON_UNIQUE)

CHECK = command("check")


@dataclass(frozen=True, slots=True)
class Need:
    """Why a person is needed, as a clause, and the command to begin with."""

    reason: str
    command: str

    def as_dict(self) -> dict[str, str]:
        """The need as JSON shows it."""
        return {"reason": self.reason, "command": self.command}


@dataclass(frozen=True, slots=True)
class StatusLine:
    """One line of the status: what is known of a part, and what needs a person.

    name: the part. values: what is known, by the names that JSON has; empty if it is unknown.
    """

    name: str
    values: Mapping[str, Any]
    needs: tuple[Need, ...] = ()
    unknown: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The line as JSON shows it."""
        needs = [each.as_dict() for each in self.needs]
        return {"name": self.name, **self.values, "unknown": self.unknown, "needs": needs}


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How everything stood at a moment (aware), part by part. `ages_unknown`: why no age of messages is known."""

    at: datetime
    environment: str
    parts: Mapping[str, tuple[StatusLine, ...]]
    ages_unknown: str | None

    @property
    def needs(self) -> list[Need]:
        """What needs a person, each cause once."""
        return list(dict.fromkeys(need for lines in self.parts.values() for line in lines for need in line.needs))

    def as_dict(self) -> dict[str, Any]:
        """The status as JSON shows it."""
        return {
            "at": self.at.isoformat(timespec="seconds"),
            "environment": self.environment,
            "needsPerson": bool(self.needs),
            **{part: [line.as_dict() for line in lines] for part, lines in self.parts.items()},
            "agesUnknown": self.ages_unknown,
        }


def read_status(application: Application) -> StatusReport:
    """Reads and judges every part. Does not raise for a part that cannot be read."""
    figures = read_figures(application, DEADLINE_SECONDS)
    dead = _read_dead_letters(application, figures)
    moment, settings = clock.now(), application.settings
    jobs = {job.name: job for job in SCHEDULE}
    ages = figures.ages.value or {}
    return StatusReport(
        at=moment,
        environment=settings.environment_name,
        parts={
            "queues": tuple(
                _queue_line(queue, reading, dead.get(queue), ages, _housekeeping_need(figures, jobs, settings, moment))
                for queue, reading in figures.queues.items()
            ),
            "breakers": _lines("breakers", figures.breakers, _breaker_lines),
            "schedulers": _lines("schedulers", figures.drains, lambda each: _scheduler_lines(each, moment)),
            "reconciliations": tuple(
                _one_line(name, reading, partial(_reconciliation_line, jobs, figures, settings, moment))
                for name, reading in figures.reconciliations.items()
            ),
            "findings": _lines("findings", figures.findings, _finding_lines),
            "creations": _lines("creations", figures.creations, lambda each: _creation_lines(each, moment)),
            "deliveries": _lines(
                "deliveries", figures.deliveries, lambda each: _delivery_lines(each, settings, moment)
            ),
        },
        ages_unknown=figures.ages.unknown,
    )


def _read_dead_letters(application: Application, figures: Figures) -> dict[str, ReadResult[DlqState]]:
    """The dead letters of each queue, looked at after they were counted, since looking hides them."""
    known = [queue for queue, reading in figures.queues.items() if reading.value is not None]
    seconds = DEADLINE_SECONDS / 2
    questions = {queue: partial(read_dlq, application, queue, _MOST_DEAD_LETTERS, seconds) for queue in known}
    return read_all(questions, DEADLINE_SECONDS)


def _lines(part: str, reading: ReadResult[Any], judge: Callable[[Any], Sequence[StatusLine]]) -> tuple[StatusLine, ...]:
    """The lines of a part that is read as a whole."""
    return (_unknown(part, reading.unknown),) if reading.unknown is not None else tuple(judge(reading.value))


def _one_line(name: str, reading: ReadResult[Any], judge: Callable[[Any], StatusLine]) -> StatusLine:
    """The line of a part that is read by itself."""
    return _unknown(name, reading.unknown) if reading.unknown is not None else judge(reading.value)


def _unknown(name: str, reason: str) -> StatusLine:
    return StatusLine(name, {}, (Need(reason, CHECK),), reason)


def _queue_line(
    queue: str,
    reading: ReadResult[QueueFigures],
    dead: ReadResult[DlqState] | None,
    ages: Mapping[str, float],
    housekeeping: Need | None,
) -> StatusLine:
    found = reading.value
    if found is None:
        # The reason begins with the name of the queue: without it one cause is the same for all queues.
        reason = str(reading.unknown)
        return _unknown(queue, f"it cannot be read: {reason.partition(': ')[2] or reason}")
    letters = None if dead is None else dead.value
    oldest = ages.get(found.name) if found.main.total else None
    oldest_dead = ages.get(found.dlq_name) if found.dlq.total else None
    if oldest_dead is None and letters is not None and letters.oldest is not None:
        oldest_dead = (clock.now() - letters.oldest).total_seconds()
    needs = []
    if not found.dlq_attached:
        needs.append(Need("the queue has no redrive policy: failing messages come again for ever", CHECK))
    if oldest is not None and oldest > _OLDEST_MESSAGE.total_seconds():
        needs.append(Need(f"the oldest message has waited for {age_text(oldest)}", CHECK))
    if dead is not None and dead.unknown is not None and found.dlq.visible:
        needs.append(Need(dead.unknown, CHECK))
    if letters is not None:
        needs += _dead_letter_needs(queue, letters, housekeeping)
    values = {
        "queueName": found.name,
        "waiting": found.main.visible,
        "inFlight": found.main.in_flight,
        "delayed": found.main.delayed,
        "oldestSeconds": None if oldest is None else round(oldest),
        "dlqName": found.dlq_name,
        "dead": found.dlq.visible,
        "oldestDeadSeconds": None if oldest_dead is None else round(oldest_dead),
        "classes": {} if letters is None else dict(letters.classes),
        "givenUp": 0 if letters is None else _given_up(letters),
        "sentBack": None if letters is None or letters.sent_back is None else letters.sent_back.as_dict(),
    }
    return StatusLine(queue, values, tuple(needs))


def _dead_letter_needs(queue: str, letters: DlqState, housekeeping: Need | None) -> list[Need]:
    stuck = sum(each.given_up or each.failure_class in _HOPELESS for each in letters.reports)
    if stuck:
        return [Need(f"{count(stuck, 'message')} cannot heal without you", command("dlq", "show", queue))]
    return [] if housekeeping is None or not letters.reports else [housekeeping]


def _given_up(letters: DlqState) -> int:
    return sum(each.given_up for each in letters.reports)


def _housekeeping_need(
    figures: Figures, jobs: Mapping[str, ScheduledJob], settings: Settings, moment: datetime
) -> Need | None:
    """A need if nothing sends dead letters back: the housekeeping is due for long, or it is not known."""
    if figures.housekeeping.unknown is not None:
        return None
    last: JobRun | None = figures.housekeeping.value
    ended = None if last is None else last.finished_at
    due = _overdue(jobs[HOUSEKEEPING_JOB], settings, ended, moment, timedelta(days=1))
    if due is None:
        return None
    ran = "never ran" if ended is None else f"ran last {age_text((moment - ended).total_seconds())} ago"
    return Need(f"the housekeeping that sends them back {ran}", command("dlq", "retry-all"))


def _overdue(
    job: ScheduledJob, settings: Settings, ended: datetime | None, moment: datetime, within: timedelta
) -> datetime | None:
    """When a job was due that has not ended well since, although it was to be caught up by now; None if all is well."""
    due = job.schedule(settings).latest(moment - job.catch_up, within)
    return None if due is None or (ended is not None and ended >= due) else due


def _breaker_lines(breakers: Sequence[BreakerFigures]) -> list[StatusLine]:
    return [
        StatusLine(
            str(each.service),
            {"state": str(each.state), "openedAt": _iso(each.opened_at)},
            (Need("nothing is lost, its messages wait until it is up", CHECK),)
            if each.state is BreakerState.OPEN
            else (),
        )
        for each in breakers
    ]


def _scheduler_lines(drains: DrainFigures, moment: datetime) -> list[StatusLine]:
    if drains.schedulers:
        return [_scheduler_line(each, moment) for each in drains.schedulers]
    last = drains.last_drain_at
    fresh = last is not None and moment - last < _OLDEST_DRAIN
    need = Need("nothing drains the queues: start one", command("scheduler"))
    return [StatusLine("none", {"lastDrainAt": _iso(last)}, () if fresh else (need,))]


def _scheduler_line(scheduler: SchedulerFigures, moment: datetime) -> StatusLine:
    heartbeat, batch = scheduler.heartbeat_at, scheduler.last_batch
    needs = []
    silent = (moment - (heartbeat or scheduler.started_at)).total_seconds()
    if silent > _OLDEST_HEARTBEAT.total_seconds():
        needs.append(Need(f"no sign of life for {age_text(silent)}: see its log, or restart it", CHECK))
    if scheduler.hanging:
        needs.append(Need(f"the drain of {', '.join(scheduler.hanging)} hangs: restart it", CHECK))
    needs += [Need(f"{name} fails: {reason}", CHECK) for name, reason in scheduler.failing.items()]
    values = {
        "startedAt": _iso(scheduler.started_at),
        "heartbeatAt": _iso(heartbeat),
        "lastBatch": None if batch is None else {"queue": batch[0], "received": batch[1], "endedAt": _iso(batch[2])},
        "failing": dict(scheduler.failing),
        "hanging": list(scheduler.hanging),
    }
    return StatusLine(scheduler.host, values, tuple(needs))


def _reconciliation_line(
    jobs: Mapping[str, ScheduledJob],
    figures: Figures,
    settings: Settings,
    moment: datetime,
    found: ReconciliationFigures,
) -> StatusLine:
    entry = RECONCILIATIONS[found.name]
    job, scheduled = jobs[entry.job], entry.is_on(settings)
    due = _overdue(job, settings, found.completed_at, moment, _LONGEST_INTERVAL)
    since = figures.known_since.value
    # An installation that is younger than the due time missed nothing; nor did one where nothing ever runs it.
    expected = (scheduled or found.completed_at is not None) and since is not None and due is not None and due > since
    needs = []
    if found.last_status == "incomplete" and found.last_run_id != found.run_id:
        resume = command("reconcile", found.name, "--resume", found.last_run_id)
        needs.append(Need("the last run could not read everything", resume))
    elif found.last_status == "failed":
        needs.append(Need("the last run failed", command("runs", "show", found.last_run_id)))
    elif expected and due is not None:
        late = f"no complete run since it was due on {due.astimezone(settings.zone):%d/%m at %H:%M}"
        needs.append(Need(late, command("runs", "list", "--job", entry.job)))
    values = {
        "scheduled": scheduled,
        "lastRun": found.last_run_id,
        "lastStatus": found.last_status,
        "lastUnread": found.last_unread,
        "lastComplete": found.run_id,
        "completedAt": _iso(found.completed_at),
        "ageSeconds": None if found.completed_at is None else round((moment - found.completed_at).total_seconds()),
        "differences": found.differences,
        "new": found.new,
    }
    return StatusLine(found.name, values, tuple(needs))


def _finding_lines(found: Sequence[OpenFindings]) -> list[StatusLine]:
    """The findings, the most serious first."""
    levels = list(Severity)
    return [
        StatusLine(
            each.kind.value,
            {"severity": each.severity, "open": each.number, "oldestAt": _iso(each.oldest)},
            () if each.severity == Severity.INFO else (Need("a person has to look", _findings_command(each.kind)),),
        )
        for each in sorted(found, key=lambda each: levels.index(Severity(each.severity)))
    ]


def _findings_command(kind: FindingKind) -> str:
    if kind in _DUPLICATES:
        return command("duplicates", "list")
    return command("creations", "list") if kind is FindingKind.AMBIGUOUS else command("dlq", "list")


def _creation_lines(found: Sequence[Unsettled], moment: datetime) -> list[StatusLine]:
    lines = []
    for each in found:
        needs: tuple[Need, ...] = ()
        if each.state is CreationState.AMBIGUOUS:
            needs = (Need("nobody can tell whether NOMIS has them", command("creations", "list")),)
        elif moment - each.oldest > _OLDEST_CREATION:
            needs = (Need("no message settles them any more", command("creations", "list")),)
        lines.append(StatusLine(each.state.value, {"number": each.number, "oldestAt": _iso(each.oldest)}, needs))
    return lines


def _delivery_lines(found: Sequence[Unsent], settings: Settings, moment: datetime) -> list[StatusLine]:
    return [_delivery_line(each, settings, moment) for each in found]


def _delivery_line(each: Unsent, settings: Settings, moment: datetime) -> StatusLine:
    needs: tuple[Need, ...] = ()
    if each.state is DeliveryState.FAILED:
        needs = (Need(f"given up: {each.last_error or 'no reason is known'}", _again(each)),)
    elif each.channel in NEEDED_SETTINGS and not is_set_up(settings, each.channel):  # type: ignore[arg-type]
        needs = (Need(f"{NEEDED_SETTINGS[each.channel]} is not set", CHECK),)
    elif moment - each.oldest > _OLDEST_DELIVERY:
        needs = (Need(each.last_error or "nothing sends them", CHECK),)
    values = {
        "state": each.state.value,
        "number": each.number,
        "oldestAt": _iso(each.oldest),
        "lastError": each.last_error,
    }
    return StatusLine(each.channel, values, needs)


def _again(unsent: Unsent) -> str:
    """The command that sends a report again; alerts are not sent again: what they are about is in the findings."""
    kind, _, rest = unsent.key.partition(":")
    if kind == "reconciliation":
        return command("report", "send", rest.partition(":")[0], "--to", unsent.channel)
    return CHECK


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def age_text(seconds: float) -> str:
    """An age in its largest unit: `12 s`, `4 min`, `3 h`, `2 days`."""
    for unit, length in (("day", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return count(number, unit) if unit == "day" else f"{number} {unit}"
    return f"{max(0, int(seconds))} s"
