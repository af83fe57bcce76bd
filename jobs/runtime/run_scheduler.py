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
from jobs.runtime.application import Program
from jobs.runtime.cron import read_schedule
from jobs.runtime.failure_log import Outage
from jobs.runtime.job_runs import RunInHand
from jobs.runtime.scheduler import ScheduledJob, Scheduler
from jobs.runtime.signals import stopping
from reports.engine.checkpoints import find_run, load_result
from reports.engine.run import ReconciliationParameters
from sync.settings.declaration import QUEUES
from sync.store.database import StoreUnavailable

JOB = "scheduler"
#: A weekly report that is some hours late is still worth having.
RECONCILIATION_CATCH_UP = timedelta(hours=6)
#: The next re-drive makes up for a missed one.
HOUSEKEEPING_CATCH_UP = timedelta(minutes=5)
_DATABASE_SECONDS = 2.0


def serve(program: Program) -> None:
    """Runs the scheduler until SIGTERM or SIGINT; the work in hand is finished first.

    Raises `SettingsError` for a schedule that is no cron line.
    """
    asked = threading.Event()
    jobs = scheduled_jobs(program, asked)
    schedulers: list[Scheduler] = []

    def stop() -> None:
        asked.set()
        for scheduler in schedulers:
            scheduler.stop()

    def at_work() -> bool:
        return bool(schedulers) and not asked.is_set()

    with stopping(stop), observed(program, (JOB, reconciling.JOB, housekeeping.JOB), at_work):
        while _database_is_ready(program, asked):
            try:
                with program.ledger.run(JOB, {"queues": list(QUEUES)}) as in_hand:
                    schedulers.append(make_scheduler(program, jobs))
                    if asked.is_set():
                        stop()
                    in_hand.counts.update(schedulers[0].run())
            except StoreUnavailable as error:
                # With the work finished, only its entry in the ledger is not; else the database went again.
                structlog.get_logger("jobs.runtime.run_scheduler").warning("run-not-recorded", reason=str(error))
            if schedulers:
                return


def make_scheduler(program: Program, jobs: Sequence[ScheduledJob]) -> Scheduler:
    """The scheduler of the program, whose database is ready."""
    return Scheduler(
        open_drain=program.open_drain,
        queues=QUEUES,
        drain_interval_seconds=program.settings.drain_interval_seconds,
        jobs=jobs,
        ledger=program.ledger,
        send_due=lambda: asdict(program.outbox.send_due()),
    )


def scheduled_jobs(program: Program, asked: threading.Event) -> list[ScheduledJob]:
    """The jobs that the settings switch on; they end at their next good point when `asked` is set."""
    settings = program.settings
    jobs: list[ScheduledJob] = []
    if settings.scheduler_reconciliation:
        schedule = read_schedule("RECONCILIATION_SCHEDULE", settings.reconciliation_schedule, settings.zone)
        jobs.append(
            ScheduledJob(
                reconciling.JOB,
                schedule,
                lambda in_hand: _reconcile(program, in_hand, asked),
                RECONCILIATION_CATCH_UP,
            )
        )
    if settings.scheduler_housekeeping:
        schedule = read_schedule("HOUSEKEEPING_SCHEDULE", settings.housekeeping_schedule, settings.zone)
        jobs.append(
            ScheduledJob(
                housekeeping.JOB,
                schedule,
                lambda in_hand: _housekeep(program, in_hand, asked),
                HOUSEKEEPING_CATCH_UP,
            )
        )
    return jobs


def _housekeep(program: Program, in_hand: RunInHand, asked: threading.Event) -> None:
    """The re-drive of the dead letter queues; it ends before the next queue once `asked` is set."""
    housekeep(program, in_hand, HousekeepingResult(), asked.is_set)


def _reconcile(program: Program, in_hand: RunInHand, asked: threading.Event) -> None:
    """The weekly run; one that an earlier process began is gone on with."""
    with program.database.read() as connection:
        begun = find_run(connection, in_hand.id)
        result = load_result(connection, in_hand.id) if begun is not None and not begun.is_open else None
    if result is not None:
        # The earlier process had its result, and died before the ledger had it.
        in_hand.counts |= result.counts()
        return
    log = structlog.get_logger("jobs.runtime.run_scheduler")
    parameters = ReconciliationParameters(resume=in_hand.id if begun is not None else None)
    with failure_alerted(program, parameters):
        reconcile(program, in_hand, parameters, asked, lambda *progress: log.debug("progress", progress=progress))


def _database_is_ready(program: Program, asked: threading.Event) -> bool:
    """Waits until the database is there with the current schema; False when it was asked to stop before.

    Where `DATABASE_AUTO_UPGRADE` is off, the schema is another job's work, which may still be under way.
    """
    outage = Outage("database")
    while not asked.is_set():
        try:
            program.bring_up_to_date(program.database)
        except (StoreUnavailable, WorkError) as error:
            outage.failed(error)
            asked.wait(_DATABASE_SECONDS)
        else:
            outage.worked()
            return True
    return False
