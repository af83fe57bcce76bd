"""The scheduled jobs: one table of what runs when, which everything that speaks of schedules reads.

The scheduler runs it, `doc/settings.md` lists it, the metrics show its runs, and the manifests of the CronJobs are
tested against it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from jobs.operations import housekeeping, reconcile
from jobs.runtime.application import Application
from jobs.runtime.cron import CronSchedule, parse_schedule
from jobs.runtime.job_runs import ActiveRun
from sync.settings.declaration import Settings


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A job with a schedule.

    name: the job of its runs. command: what an operator or a CronJob types for it. setting: the variable with its cron
    line. switch: the variable that decides whether the scheduler runs it. catch_up: how long after its time a run that
    was missed or interrupted is still worth starting. run: does the work, puts counts into the run, and
    raises when it fails; `StopRequested` when the event is set before the work is done, which the next process resumes.
    """

    name: str
    command: tuple[str, ...]
    setting: str
    switch: str
    catch_up: timedelta
    run: Callable[[Application, ActiveRun, threading.Event], None]

    def is_on(self, settings: Settings) -> bool:
        """Whether the scheduler runs it."""
        return bool(getattr(settings, self.switch.lower()))

    def schedule(self, settings: Settings) -> CronSchedule:
        """When it runs. Raises `SettingsError`."""
        return parse_schedule(self.setting, getattr(settings, self.setting.lower()), settings.zone)


SCHEDULE = (
    ScheduledJob(
        name=reconcile.JOB,
        command=("reconcile", "incentives"),
        setting="RECONCILIATION_SCHEDULE",
        switch="SCHEDULER_RECONCILIATION",
        # A weekly report that is some hours late is still worth having.
        catch_up=timedelta(hours=6),
        run=reconcile.reconcile_on_schedule,
    ),
    ScheduledJob(
        name=housekeeping.JOB,
        command=("dlq", "retry-all"),
        setting="HOUSEKEEPING_SCHEDULE",
        switch="SCHEDULER_HOUSEKEEPING",
        # The next redrive makes up for a missed one.
        catch_up=timedelta(minutes=5),
        run=housekeeping.housekeep_on_schedule,
    ),
)
