"""The job of a reconciliation: what it records if the scheduler runs it, and what it asks if a person does."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from jobs.operations.reconcile import reconcile_on_schedule
from jobs.runtime.application import Application
from jobs.runtime.job_runs import RunStatus
from reports.engine import runs
from reports.reconciliations.registry import RECONCILIATIONS
from sync.settings import times
from sync.settings.loading import load_settings
from tests.harness.app import App
from tests.harness.results import visit_result


class Killed(BaseException):
    """Represents the sudden end of the process."""


def test_an_incomplete_run_is_not_a_success_of_the_next_process(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a process dies after storing an incomplete result, the next process records the run as incomplete too.

    The run keeps its counts and the reason why it is incomplete, and does not count as a success.
    """
    monkeypatch.setattr(times, "READ_RETRY_SECONDS", (0.0, 0.0, 0.0))
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


def test_accepting_a_smaller_population_asks_first(app: App) -> None:
    """`--accept RUN` shows why that run failed and asks for confirmation.

    Unless the operator says yes, or `--yes` is given, no new run begins.
    """
    app.sandbox.reset(prisoners=20)
    why = "no visits are listed, but an earlier run listed 20"
    result = visit_result(0, run_id="visits-1", status="failed", failure=why, implausible=True)
    program = Application(load_settings(app.settings))
    try:
        with program.database.begin() as connection:
            runs.create_run(connection, "visits", result.run_id, result.parameters, 1, result.started_at)
            runs.save_result(connection, result)
        command = ("reconcile", "visits", "--accept", "visits-1", "--no-notify")
        unanswered, declined = app.run(*command), app.run(*command, answer="n\n")
        assert (unanswered.code, declined.code) == (2, 1)
        assert f"run visits-1 failed: {why}" in declined.out
        assert "accepts that the missing records or levels are really gone" in declined.out
        silent = app.run(*command, "--json")
        assert (silent.code, "add --yes" in silent.error) == (2, True)
        assert program.job_runs.recent() == []
        assert app.run(*command, "--yes").code == 0
        assert [each.parameters["accept"] for each in program.job_runs.recent()] == ["visits-1"]
    finally:
        program.close()
