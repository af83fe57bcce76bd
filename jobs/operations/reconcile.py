"""The `reconcile` jobs: each runs a reconciliation, records it as a job run, and delivers its report."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import structlog

from jobs.errors import StopRequested, UsageError, WorkError
from jobs.health.check import advice_to_begin
from jobs.operations.deliveries import send_pending
from jobs.operations.report_delivery import Delivered, check_archive, failure_alerted, report_delivered
from jobs.runtime.application import Application
from jobs.runtime.cron import parse_schedule
from jobs.runtime.job_runs import SCOPE, ActiveRun, RunStatus, Trigger
from jobs.runtime.logging import bound
from jobs.runtime.signals import stopping
from reports.engine.interrupted_runs import InterruptedRun, last_interrupted
from reports.engine.result import ReconciliationResult
from reports.engine.run import ReconciliationOutcome
from reports.engine.run_start import LAST, ReconciliationParameters, UnknownRun, check_named_run
from reports.engine.runs import Coverage, find_run, last_runs, resume_command
from reports.presentation import summary
from reports.reconciliations.registry import RECONCILIATIONS, Entry
from reports.reconciliations.results import load_result
from sync import clock
from sync.settings.loading import SettingsError

_STATUSES = {
    "complete": RunStatus.SUCCESS,
    "incomplete": RunStatus.INCOMPLETE,
    "failed": RunStatus.FAILED,
    "unfinished shard": RunStatus.SUCCESS,
}
#: The scope of a run of one shard, which leaves the result to the last shard.
_ONE_SHARD = "one shard"
#: How many seconds a run waits at its end for its report to be delivered.
_DELIVERY_SECONDS = 60.0

#: Receives the stage, the amount done, and the total amount (0 while the total is unknown).
ProgressCallback = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How a reconciliation ended, and what happened to its report."""

    outcome: ReconciliationOutcome
    delivered: Delivered

    @property
    def problem(self) -> str | None:
        """Why the run is not complete or its report is not archived, on one line; None if neither is the case."""
        outcome, problems = self.outcome, []
        if outcome.status not in ("complete", "unfinished shard"):
            assert outcome.result is not None
            ended = "failed" if outcome.status == "failed" else "is incomplete"
            problems.append(f"reconciliation {outcome.run_id} {ended}: {_shortfall(outcome.result)}")
        if self.delivered.shortfall:
            problems.append(self.delivered.shortfall)
        return "; ".join(problems) or None


def parameters_as_dict(parameters: ReconciliationParameters) -> dict[str, Any]:
    """The parameters as the ledger of job runs records them."""
    accept = {} if parameters.accept is None else {"accept": parameters.accept}
    return {
        "prisons": list(parameters.prisons),
        "prisoners": list(parameters.offender_nos),
        **{name: day.isoformat() for name, day in _days(parameters).items()},
        "shards": parameters.shards,
        "shard": parameters.shard,
        "resume": parameters.resume,
        **accept,
        "notify": parameters.notify,
    }


def parameters_from_dict(recorded: Mapping[str, Any]) -> ReconciliationParameters:
    """The parameters of an earlier run, as the ledger recorded them, with which to run it again from the beginning."""
    return ReconciliationParameters(
        prisons=tuple(recorded.get("prisons", ())),
        offender_nos=tuple(recorded.get("prisoners", ())),
        from_date=_day(recorded.get("from")),
        to_date=_day(recorded.get("to")),
        shards=recorded.get("shards", 1),
        shard=recorded.get("shard", 0),
        notify=recorded.get("notify", True),
    )


def _days(parameters: ReconciliationParameters) -> dict[str, date]:
    """The first and the last day, as `from` and `to`, each only if it was chosen."""
    chosen = {"from": parameters.from_date, "to": parameters.to_date}
    return {name: day for name, day in chosen.items() if day is not None}


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


def run_reconciliation(
    application: Application,
    entry: Entry,
    parameters: ReconciliationParameters,
    progress: ProgressCallback,
    *,
    trigger: Trigger = Trigger.MANUAL,
    rerun_of: str | None = None,
) -> Reconciled:
    """Runs a reconciliation, records the run, and delivers the report and alerts.

    Raises `WorkError` if the run was asked to stop, `UsageError` if the run that the parameters name cannot be resumed
    or accepted, and `SettingsError` if no service has credentials: the run would only wait for the services.
    """
    _check_named_run(application, entry, parameters)
    stop_requested = threading.Event()
    recorded = parameters_as_dict(parameters)
    try:
        with failure_alerted(application, entry, parameters, _DELIVERY_SECONDS):
            if advice := advice_to_begin(application.settings):
                raise SettingsError(advice)
            if parameters.notify:
                check_archive(application)
            with (
                application.job_runs.run(entry.job, recorded, trigger=trigger, rerun_of=rerun_of) as active_run,
                bound(run_id=active_run.id),
                stopping(stop_requested.set),
            ):
                outcome = reconcile(application, entry, active_run, parameters, stop_requested, progress)
                send_pending(application, _DELIVERY_SECONDS)
                delivered = report_delivered(application, outcome.result)
                active_run.error = active_run.error or delivered.shortfall
    except StopRequested as error:
        raise WorkError(str(error)) from None
    return Reconciled(outcome, delivered)


def failure_to_accept(application: Application, entry: Entry, parameters: ReconciliationParameters) -> str:
    """The reason for the failure of the run that is to be accepted. Raises `UsageError` if it cannot be accepted."""
    _check_named_run(application, entry, parameters)
    assert parameters.accept is not None
    with application.database.read() as connection:
        result = load_result(connection, parameters.accept)
    assert result is not None
    return result.failure or "no reason is known"


def _check_named_run(application: Application, entry: Entry, parameters: ReconciliationParameters) -> None:
    """Raises `UsageError` if the run that the parameters name cannot be resumed or accepted."""
    try:
        check_named_run(application.database, entry.name, parameters)
    except UnknownRun as error:
        raise UsageError(str(error)) from error


def reconcile_on_schedule(
    entry: Entry, application: Application, active_run: ActiveRun, stop_requested: threading.Event
) -> None:
    """Runs the scheduled reconciliation, or resumes the run if an earlier process began it.

    If that process also finished the reconciliation, only its result is recorded.
    """
    with application.database.read() as connection:
        begun = find_run(connection, active_run.id)
        result = load_result(connection, active_run.id) if begun is not None and not begun.is_open else None
    if result is not None:
        # The earlier process finished the reconciliation and died before its run was recorded as finished.
        active_run.counts[SCOPE] = Coverage.of(result.parameters)
        _record(active_run, ReconciliationOutcome(result.status, result, result.run_id))
        return
    log = structlog.get_logger("jobs.operations.reconcile")
    parameters = ReconciliationParameters(resume=active_run.id if begun is not None else None)
    with failure_alerted(application, entry, parameters):
        reconcile(
            application,
            entry,
            active_run,
            parameters,
            stop_requested,
            lambda *progress: log.debug("progress", progress=progress),
        )


def reconcile(
    application: Application,
    entry: Entry,
    active_run: ActiveRun,
    parameters: ReconciliationParameters,
    stop_requested: threading.Event,
    progress: ProgressCallback,
) -> ReconciliationOutcome:
    """Runs one reconciliation, and puts its counts and status into `active_run`.

    Raises `StopRequested` soon after `stop_requested` is set.
    """

    def on_progress(stage: str, done: int, total: int) -> None:
        progress(stage, done, total)
        if stop_requested.is_set():
            begun = str(active_run.counts["reconciliation"])
            resume = resume_command(entry.name, begun, parameters.shards, parameters.shard)
            raise StopRequested(f"stopped while {stage}; resume with: {resume}")

    def on_acquired(run_id: str) -> None:
        active_run.counts["reconciliation"] = run_id

    active_run.counts[SCOPE] = _scope(application, parameters)
    outcome = application.reconciliations(on_progress, on_acquired).run(entry.load(), active_run.id, parameters)
    _record(active_run, outcome)
    return outcome


def _record(active_run: ActiveRun, outcome: ReconciliationOutcome) -> None:
    """Records how the reconciliation ended, in `active_run`, the run of the job."""
    active_run.counts["reconciliation"] = outcome.run_id
    if outcome.status == "unfinished shard":
        active_run.counts[SCOPE] = _ONE_SHARD
    active_run.status = _STATUSES[outcome.status]
    if outcome.result is not None:
        active_run.counts |= outcome.result.counts()
        active_run.error = None if outcome.status == "complete" else _shortfall(outcome.result)


def _scope(application: Application, parameters: ReconciliationParameters) -> str:
    """What the run covers: everyone, or chosen days, prisons or prisoners. A resumed run keeps its scope."""
    begun = None
    if parameters.resume not in (None, LAST):
        with application.database.read() as connection:
            begun = find_run(connection, parameters.resume)
    chosen = {
        "offender_nos": parameters.offender_nos,
        "prisons": parameters.prisons,
        "days_chosen": bool(_days(parameters)),
    }
    return Coverage.of(chosen if begun is None else begun.parameters)


def _shortfall(result: ReconciliationResult) -> str:
    """Why a run is not complete, on one line."""
    return result.failure or summary.shortfall(result)


@dataclass(frozen=True, slots=True)
class Overview:
    """One reconciliation as `reconcile list` shows it.

    schedule: its cron expression and time zone. scheduled: whether the scheduler runs it. last_run, status,
    differences: the id, the status and the number of differences of the last run for everyone. A run that was
    interrupted has the status `interrupted`, and its differences are None. complete_age_seconds: the seconds since the
    end of the last complete run for everyone. These four are None if there is no such run. interrupted: the last run
    for everyone, if it was interrupted; otherwise None.
    """

    name: str
    title: str
    schedule: str
    scheduled: bool
    last_run: str | None
    status: str | None
    differences: int | None
    complete_age_seconds: float | None
    interrupted: InterruptedRun | None

    def as_dict(self) -> dict[str, Any]:
        """The reconciliation as a JSON object."""
        return {
            "name": self.name,
            "title": self.title,
            "schedule": self.schedule,
            "scheduled": self.scheduled,
            "lastRun": self.last_run,
            "status": self.status,
            "differences": self.differences,
            "lastCompleteAgeSeconds": self.complete_age_seconds,
        }


def overview(application: Application) -> list[Overview]:
    """Every reconciliation with its schedule and its last runs."""
    return [_overview_of(application, entry) for entry in RECONCILIATIONS.values()]


def _overview_of(application: Application, entry: Entry) -> Overview:
    settings = application.settings
    with application.database.read() as connection:
        last, complete = last_runs(connection, entry.name)
    interrupted = last_interrupted(application.database, entry.name)
    last_run = status = differences = None
    if interrupted is not None:
        last_run, status = interrupted.run_id, str(RunStatus.INTERRUPTED)
    elif last is not None:
        last_run, status, differences = last.run_id, last.status, last.mismatches
    ended = None if complete is None else complete.finished_at
    return Overview(
        name=entry.name,
        title=entry.title,
        schedule=str(parse_schedule(entry.schedule_setting, entry.cron_of(settings), settings.zone)),
        scheduled=entry.is_on(settings),
        last_run=last_run,
        status=status,
        differences=differences,
        complete_age_seconds=None if ended is None else round((clock.now() - ended).total_seconds(), 1),
        interrupted=interrupted,
    )
