"""The scheduled jobs: `SCHEDULE` is the only list of them.

The scheduler runs these jobs, `doc/commands.md` lists them, the metrics show their runs, and tests compare the
manifests of the CronJobs with them.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from jobs.operations import contracts, housekeeping, reconcile
from jobs.runtime.application import Application
from jobs.runtime.cron import CronSchedule, parse_schedule
from jobs.runtime.job_runs import CONTRACTS_JOB, HOUSEKEEPING_JOB, ActiveRun
from reports.reconciliations.registry import RECONCILIATIONS, Entry
from sync.settings.declaration import Settings


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A job with a schedule.

    name: the name of the job in the ledger of runs. command: the command with which an operator or a CronJob runs the
    job. setting: the variable that contains the job's cron expression. switch: the variable that decides whether the
    scheduler runs the job. cron, is_on: return the values of these two variables in the given settings. catch_up: how
    long after its scheduled time a run that was missed or interrupted is still worth starting or resuming. run: does
    the work, puts counts into the `ActiveRun`, and raises an exception if the work fails. If the `Event` is set before
    the work is done, `run` ends early. It raises `StopRequested` if the next scheduler is to do the rest.
    """

    name: str
    command: tuple[str, ...]
    setting: str
    switch: str
    cron: Callable[[Settings], str]
    is_on: Callable[[Settings], bool]
    catch_up: timedelta
    run: Callable[[Application, ActiveRun, threading.Event], None]

    def schedule(self, settings: Settings) -> CronSchedule:
        """The times at which the job is due. Raises `SettingsError` if its setting is not a valid cron expression."""
        return parse_schedule(self.setting, self.cron(settings), settings.zone)


def _reconciliation(entry: Entry) -> ScheduledJob:
    return ScheduledJob(
        name=entry.job,
        command=("reconcile", entry.name),
        setting=entry.schedule_setting,
        switch=entry.switch_setting,
        cron=entry.cron_of,
        is_on=entry.is_on,
        # A report that is some hours late is still useful.
        catch_up=timedelta(hours=6),
        run=partial(reconcile.reconcile_on_schedule, entry),
    )


SCHEDULE = (
    *map(_reconciliation, RECONCILIATIONS.values()),
    ScheduledJob(
        name=HOUSEKEEPING_JOB,
        command=("dlq", "retry-all"),
        setting="HOUSEKEEPING_SCHEDULE",
        switch="SCHEDULER_HOUSEKEEPING",
        cron=lambda settings: settings.housekeeping_schedule,
        is_on=lambda settings: settings.scheduler_housekeeping,
        # The next redrive makes up for a missed one.
        catch_up=timedelta(minutes=5),
        run=housekeeping.housekeep_on_schedule,
    ),
    ScheduledJob(
        name=CONTRACTS_JOB,
        command=("contracts", "check"),
        setting="CONTRACTS_SCHEDULE",
        switch="SCHEDULER_CONTRACTS",
        cron=lambda settings: settings.contracts_schedule,
        is_on=lambda settings: settings.scheduler_contracts,
        catch_up=timedelta(days=1),
        run=contracts.check_on_schedule,
    ),
)
