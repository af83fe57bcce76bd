"""Job runs record which jobs ran, how they ended, and which processes died."""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from jobs.errors import UsageError, WorkError
from jobs.operations.schedule import SCHEDULE
from jobs.runtime.job_runs import (
    LONGEST_ID,
    AlreadyStarted,
    JobRun,
    JobRuns,
    RunStatus,
    Trigger,
    new_run_id,
    scheduled_run_id,
)
from sync import clock
from sync.store import tables
from sync.store.column_types import IdentifierText
from sync.store.database import Database
from sync.store.leases import Leases
from tests.harness.processes import started
from tests.harness.waiting import LONGEST_SECONDS, in_thread, result_of

MakeLedger = Callable[[str], JobRuns]


@pytest.fixture
def make_job_runs(database: Database) -> MakeLedger:
    """A function that returns the job runs of the process `owner`. All of its results use one database."""
    return lambda owner: JobRuns(database, Leases(database, owner, 60))


def only(runs: list[JobRun]) -> JobRun:
    """The only run in `runs`."""
    (run,) = runs
    return run


def test_run_is_recorded_with_its_end(make_job_runs: MakeLedger) -> None:
    """A run that succeeds is recorded with its parameters, its counts, its times and its host."""
    job_runs = make_job_runs("one")
    with job_runs.run("drain", {"queues": ["visit"]}) as active_run:
        active_run.counts["received"] = 3
        assert only(job_runs.recent()).status == RunStatus.RUNNING
    run = job_runs.find(active_run.id)
    assert (run.job, run.trigger, run.status) == ("drain", Trigger.MANUAL, RunStatus.SUCCESS)
    assert (run.parameters, run.counts, run.error) == ({"queues": ["visit"]}, {"received": 3}, None)
    assert run.finished_at is not None
    assert run.duration_seconds is not None
    assert run.started_at <= run.finished_at
    assert run.host


def test_failed_run_keeps_its_error(make_job_runs: MakeLedger) -> None:
    """A run that raises an error is recorded as failed, with the error on one line and the counts up to the error."""
    job_runs = make_job_runs("one")

    def work() -> None:
        with job_runs.run("drain", {}) as active_run:
            active_run.counts["received"] = 2
            raise WorkError("no\nqueue")

    with pytest.raises(WorkError):
        work()
    run = only(job_runs.recent())
    assert (run.status, run.error, run.counts) == (RunStatus.FAILED, "no queue", {"received": 2})


def test_a_keyboard_interrupt_is_recorded_as_interrupted(make_job_runs: MakeLedger) -> None:
    """A run that is interrupted from the keyboard is recorded as interrupted, not as failed."""
    job_runs = make_job_runs("one")
    with pytest.raises(KeyboardInterrupt), job_runs.run("drain", {}) as active_run:
        raise KeyboardInterrupt
    assert job_runs.find(active_run.id).status == RunStatus.INTERRUPTED


def test_run_of_a_dead_process_shows_as_interrupted(database: Database) -> None:
    """A run counts as running until the lease of its process expires, and then as interrupted.

    If the process ends the run after all, the run counts as a success.
    """
    now = clock.now()
    dead = JobRuns(database, Leases(database, "dead", 60), lambda: now)
    living = JobRuns(database, Leases(database, "living", 60), lambda: now + timedelta(seconds=90))
    run = dead.run("drain", {})
    active_run = run.__enter__()
    assert dead.find(active_run.id).status == RunStatus.RUNNING
    assert living.find(active_run.id).status == RunStatus.INTERRUPTED
    run.__exit__(None, None, None)
    assert living.find(active_run.id).status == RunStatus.SUCCESS


def test_newest_runs_come_first(make_job_runs: MakeLedger) -> None:
    """The list of runs starts with the newest run, can be limited in length, and can be restricted to one job."""
    job_runs = make_job_runs("one")
    for job in ("drain", "reconcile-incentives", "drain"):
        with job_runs.run(job, {}):
            pass
    started = [run.started_at for run in job_runs.recent()]
    assert started == sorted(started, reverse=True)
    assert [run.job for run in job_runs.recent(job="drain")] == ["drain", "drain"]
    assert len(job_runs.recent(limit=2)) == 2


def test_only_full_runs_count_as_runs_over_everyone(make_job_runs: MakeLedger) -> None:
    """The recorded scope decides whether a run counts as a run for everyone.

    Earlier versions of the program recorded no scope. For a run without a scope, the parameters decide.
    """
    job_runs = make_job_runs("one")
    everyone = {"prisons": [], "prisoners": [], "shards": 1}
    for parameters, scope in (
        ({}, None),
        (everyone, None),
        (everyone, "everyone"),
        (everyone | {"prisoners": ["A1234BC"]}, None),
        (everyone | {"prisons": ["MDI"]}, None),
        (everyone, "prisoners"),
    ):
        with job_runs.run("reconcile-incentives", parameters) as active_run:
            active_run.counts |= {"mismatches": 1} | ({} if scope is None else {"scope": scope})
        whole = parameters in ({}, everyone) and scope != "prisoners"
        for last in (
            job_runs.last_over_everyone("reconcile-incentives"),
            job_runs.last_success("reconcile-incentives"),
        ):
            assert last is not None
            assert (last.id == active_run.id) == whole
    assert job_runs.last_over_everyone("drain") is None


def test_the_beginning_of_an_id_finds_a_run(make_job_runs: MakeLedger) -> None:
    """A run is found by its id, or by a beginning that only its id has.

    A beginning that several ids share, or that no id has, raises a usage error. A whole id finds its run even if
    other ids begin with it.
    """
    job_runs = make_job_runs("one")
    for run_id in ("a-12", "a-11", "a-1", "b-1"):
        with job_runs.run("drain", {}, run_id=run_id):
            pass
    assert [job_runs.find(beginning).id for beginning in ("b-1", "b-", "b", "a-11", "a-1")] == [
        "b-1",
        "b-1",
        "b-1",
        "a-11",
        "a-1",
    ]
    with pytest.raises(UsageError, match="the ids of several runs begin with"):
        job_runs.find("a-")
    with pytest.raises(UsageError, match="no run"):
        job_runs.find("%")


def test_several_processes_run_a_scheduled_time_once(make_job_runs: MakeLedger) -> None:
    """If several processes reach a scheduled time together, only one of them runs the job."""
    run_id = scheduled_run_id("reconcile-incentives", datetime(2023, 5, 22, 3, 0, tzinfo=UTC))
    together = threading.Barrier(6)
    results: list[str] = []

    def reach(owner: str) -> None:
        job_runs = make_job_runs(owner)
        together.wait(LONGEST_SECONDS)
        try:
            with job_runs.run("reconcile-incentives", {}, trigger=Trigger.SCHEDULE, run_id=run_id):
                results.append("ran")
        except AlreadyStarted:
            results.append("left")

    for reaching in [in_thread(reach, f"process {number}") for number in range(6)]:
        result_of(reaching)
    assert sorted(results) == ["left"] * 5 + ["ran"]
    assert make_job_runs("later").status_of(run_id) is RunStatus.SUCCESS


def test_interrupted_scheduled_run_is_taken_over(make_job_runs: MakeLedger) -> None:
    """If a process cannot finish a scheduled run, another process takes it over and completes it."""
    run_id = scheduled_run_id("reconcile-incentives", datetime(2023, 5, 22, 3, 0, tzinfo=UTC))
    first, second = make_job_runs("first"), make_job_runs("second")
    with pytest.raises(KeyboardInterrupt), first.run("reconcile-incentives", {}, run_id=run_id):
        raise KeyboardInterrupt
    assert second.status_of(run_id) is RunStatus.INTERRUPTED
    with second.run("reconcile-incentives", {}, run_id=run_id) as active_run:
        assert active_run.resumed
    assert only(second.recent()).status == RunStatus.SUCCESS
    with pytest.raises(AlreadyStarted), second.run("reconcile-incentives", {}, run_id=run_id):
        pass


def test_ids_sort_by_time_and_fit_their_column() -> None:
    """The ids of runs sort in the order in which the runs start, and the tables store each id unshortened."""
    moment = datetime(2023, 5, 22, 3, 0, tzinfo=UTC)
    later = [timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=21), timedelta(days=10), timedelta(days=366)]
    ids = [new_run_id(moment), *(new_run_id(moment + each) for each in later)]
    assert ids == sorted(ids)
    for column in (tables.job_runs.c.id, tables.reconciliation_runs.c.id):
        assert isinstance(column.type, IdentifierText)
        assert [column.type.stored(each) for each in ids] == ids


def test_runs_that_start_in_the_same_second_have_different_ids() -> None:
    """Runs that start in the same second get different ids, since a run with an existing id would be refused.

    The id of a scheduled run consists of its job and its scheduled time.
    """
    moment = datetime(2023, 5, 22, 3, 0, tzinfo=UTC)
    assert len({new_run_id(moment) for _ in range(1000)}) == 1000
    assert scheduled_run_id("reconcile-incentives", moment) == "reconcile-incentives-20230522T0300Z"


def test_the_tables_hold_every_id_of_a_scheduled_run_as_it_is() -> None:
    """No scheduled run has an id that a table would shorten, so pages, files and messages all show the same id."""
    moment = datetime(2023, 5, 22, 3, 0, tzinfo=UTC)
    ids = [scheduled_run_id(job.name, moment) for job in SCHEDULE]
    held = (tables.job_runs.c.id.type, tables.reconciliation_runs.c.id.type)
    assert all(isinstance(each, IdentifierText) and each.length == LONGEST_ID for each in held)
    assert [each for each in ids if len(each) > LONGEST_ID] == []
    assert len(set(ids)) == len(SCHEDULE)


def test_run_of_a_killed_process_is_interrupted_at_once(database: Database, database_url: str) -> None:
    """If a process on this machine is killed, its run counts as interrupted at once and can be taken over."""
    program = _RUN_FOR_EVER.format(url=database_url)
    with started([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        job_runs = JobRuns(database, Leases(database, "reader", 3600))
        assert job_runs.find("r-1").status == RunStatus.RUNNING
        with pytest.raises(AlreadyStarted), job_runs.run("drain", {}, run_id="r-1"):
            pass
    assert job_runs.find("r-1").status == RunStatus.INTERRUPTED
    with job_runs.run("drain", {}, run_id="r-1") as active_run:
        assert active_run.resumed


_RUN_FOR_EVER = """
import threading
from jobs.runtime.job_runs import JobRuns
from sync.store.database import Database
from sync.store.leases import Leases

database = Database({url!r})
with JobRuns(database, Leases(database, "victim", 3600)).run("drain", {{}}, run_id="r-1"):
    print("running", flush=True)
    threading.Event().wait()
"""
