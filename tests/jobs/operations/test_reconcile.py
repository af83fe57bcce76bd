"""The scheduled run of a reconciliation, as the job runs record it."""

from __future__ import annotations

import threading
from contextlib import suppress

from jobs.operations.reconcile import reconcile_on_schedule
from jobs.runtime.application import Application
from jobs.runtime.job_runs import RunStatus
from reports.reconciliations.registry import RECONCILIATIONS
from sync.settings.loading import load_settings
from tests.harness.app import App


class Killed(BaseException):
    """Simulates the sudden end of the process."""


def test_an_incomplete_run_is_not_a_success_of_the_next_process(app: App) -> None:
    """If a process dies after it has recorded an incomplete result, the next one does not record a success."""
    app.sandbox.reset(prisoners=20)
    app.sandbox.switch_agencies("ACTIVITY", "LEI", "MDI")
    app.sandbox.fault("nomis", path="^/allocations/reconciliation/MDI$", status=500)
    entry, run_id = RECONCILIATIONS["allocations"], "allocations-1"
    program = Application(load_settings(app.settings))
    try:
        with suppress(Killed), program.job_runs.run(entry.job, {}, run_id=run_id) as active_run:
            reconcile_on_schedule(entry, program, active_run, threading.Event())
            assert active_run.status == RunStatus.INCOMPLETE
            recorded = dict(active_run.counts)
            reason = active_run.error
            raise Killed
        with program.job_runs.run(entry.job, {}, run_id=run_id) as active_run:
            reconcile_on_schedule(entry, program, active_run, threading.Event())
        run = program.job_runs.find(run_id)
        assert (run.status, run.error, run.counts) == (RunStatus.INCOMPLETE, reason, recorded)
        assert program.job_runs.last_success(entry.job) is None
    finally:
        program.close()
