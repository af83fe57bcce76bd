"""The scheduler runs each job once for each of its scheduled times, and failures do not stop it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobs.runtime.cron import CronSchedule
from jobs.runtime.job_runs import ActiveRun, JobRuns, RunStatus, Trigger
from jobs.runtime.scheduler import DueJob, QueueDrain, Scheduler, Workload
from sync import clock
from sync.errors import BreakerOpen
from sync.pipeline.drain import BatchSummary
from sync.queues.queue import QueueUnavailable
from sync.store.database import Database, StoreUnavailable
from sync.store.leases import Leases
from tests.harness.waiting import in_thread, result_of, until

LONDON = ZoneInfo("Europe/London")
#: The text of the error that a broken drain raises.
NO_QUEUE = "queue visit-queue: receive_message: ServiceUnavailable"
MONDAY_FOUR = datetime(2023, 5, 22, 3, 0, tzinfo=UTC)


class CountingDrain:
    """A drain whose batches receive the numbers of messages in `sizes`, in this order. Later batches receive none.

    Every batch fails while `broken` is true.
    """

    def __init__(self, sizes: list[int], *, broken: bool = False) -> None:
        self.sizes = sizes
        self.broken = broken
        self.batches = 0
        self.stopped = threading.Event()

    def run_batch(self) -> BatchSummary:
        """Runs one batch."""
        self.batches += 1
        if self.broken:
            raise QueueUnavailable("visit-queue", "receive_message", "ServiceUnavailable")
        received = self.sizes.pop(0) if self.sizes else 0
        return BatchSummary("visit", received=received, applied=received, batches=1, seconds=0.001)

    def stop(self) -> None:
        """Records that the drain was stopped."""
        self.stopped.set()


class Clock:
    """A scheduler's clock, which stands still until the test sets it, and counts how many times it is read."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment
        self.looks = 0

    def __call__(self) -> datetime:
        """The time that the clock shows."""
        self.looks += 1
        return self.moment

    def wait_for_a_check(self) -> None:
        """Returns once the scheduler has checked whether a job is due, and any job that it started has ended."""
        # The second check from now begins only after the first and everything that it started have ended.
        enough = self.looks + 2
        until(lambda: self.looks >= enough, "the scheduler checks whether a job is due")


@pytest.fixture
def job_runs(database: Database) -> JobRuns:
    """The job runs of this process."""
    return JobRuns(database, Leases(database, "this", 60))


def nothing_due() -> Mapping[str, int]:
    """Sends nothing, since nothing is due, and returns no counts."""
    return {}


def job(run: Callable[[ActiveRun], None], name: str = "reconcile-incentives", line: str = "0 4 * * 1") -> DueJob:
    """A job that is due at the times of the cron expression `line`, and may start up to six hours late.

    By default, the job is due weekly.
    """
    return DueJob(name, CronSchedule(line, LONDON), run, timedelta(hours=6))


class Running:
    """A scheduler that runs in a thread until the test is over."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._running = in_thread(scheduler.run)

    def finish(self) -> dict[str, int]:
        """Stops the scheduler, waits for it to end, and returns its totals."""
        self.scheduler.stop()
        return result_of(self._running)


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """A function that starts a scheduler. Every started scheduler is stopped at the end of the test."""
    running: list[Running] = []

    def begin(
        job_runs: JobRuns,
        *jobs: DueJob,
        drains: Mapping[str, QueueDrain] | None = None,
        send_due: Callable[[], Mapping[str, int]] = nothing_due,
        now: Callable[[], datetime] = clock.now,
    ) -> Running:
        known = drains or {}
        workload = Workload(
            tuple(known), known.__getitem__, 0.02, jobs, send_due, due_seconds=0.02, outbox_seconds=0.05
        )
        running.append(Running(Scheduler(workload, job_runs, now)))
        return running[-1]

    yield begin
    for one in running:
        one.finish()


def test_the_scheduler_records_its_heartbeat(job_runs: JobRuns) -> None:
    """The scheduler keeps recording the time, its last batch with messages, its totals, and what fails.

    If one record cannot be stored, later records still are.
    """
    drains: dict[str, QueueDrain] = {"visit": CountingDrain([3, 0]), "activity": CountingDrain([], broken=True)}
    recorded: list[Mapping[str, Any]] = []

    def record(heartbeat: Mapping[str, Any]) -> None:
        recorded.append(heartbeat)
        if len(recorded) == 1:
            raise StoreUnavailable("away")

    workload = Workload(
        tuple(drains), drains.__getitem__, 0.02, (), nothing_due, record_heartbeat=record, heartbeat_seconds=0.02
    )
    running = Running(Scheduler(workload, job_runs))
    until(lambda: bool(recorded) and "lastBatch" in recorded[-1] and bool(recorded[-1]["failing"]), "the heartbeat")
    running.finish()
    last = recorded[-1]
    assert (last["lastBatch"]["queue"], last["lastBatch"]["received"], last["applied"]) == ("visit", 3, 3)
    assert last["failing"] == {"activity": NO_QUEUE}
    assert timedelta() <= clock.now() - datetime.fromisoformat(last["heartbeatAt"]) < timedelta(minutes=1)


def test_queues_are_drained_continuously(job_runs: JobRuns, start: Callable[..., Running]) -> None:
    """One batch follows another, and each batch with messages is counted.

    When the scheduler stops, each drain is stopped.
    """
    drain = CountingDrain([3, 0, 4])
    running = start(job_runs, drains={"visit": drain})
    until(lambda: drain.batches >= 4)
    assert running.finish() == {"received": 7, "applied": 7, "batches": 2}
    assert drain.stopped.is_set()


def test_a_failing_queue_does_not_stop_the_others(job_runs: JobRuns, start: Callable[..., Running]) -> None:
    """While one queue fails, the other is drained, and the failing queue recovers without help."""
    broken, whole = CountingDrain([1], broken=True), CountingDrain([2])
    running = start(job_runs, drains={"visit": broken, "incentive": whole})
    until(lambda: running.scheduler.failing() == {"visit": NO_QUEUE})
    until(lambda: broken.batches > 5 and whole.batches > 5)
    broken.broken = False
    until(lambda: running.scheduler.failing() == {})
    until(lambda: not broken.sizes)
    assert running.finish()["received"] == 3


def test_a_due_job_runs_once(job_runs: JobRuns, start: Callable[..., Running]) -> None:
    """A job due at 04:00 runs only once, even if two schedulers start one after the other shortly afterwards.

    The run is recorded as scheduled.
    """
    ran: list[str] = []

    def run(active_run: ActiveRun) -> None:
        ran.append(active_run.id)
        active_run.counts["prisoners"] = 2000

    start(job_runs, job(run), now=Clock(MONDAY_FOUR + timedelta(minutes=5)))
    until(lambda: ran != [] and job_runs.status_of(ran[0]) is RunStatus.SUCCESS)
    later = Clock(MONDAY_FOUR + timedelta(minutes=6))
    start(job_runs, job(run), now=later)
    later.wait_for_a_check()
    assert ran == ["reconcile-incentives-20230522T0300Z"]
    (kept,) = job_runs.recent()
    assert (kept.trigger, kept.status, kept.counts) == (Trigger.SCHEDULE, RunStatus.SUCCESS, {"prisoners": 2000})


def test_a_job_that_is_too_late_does_not_start(job_runs: JobRuns, start: Callable[..., Running]) -> None:
    """If the scheduled time of a job is too long ago, the job waits for its next scheduled time."""
    late = Clock(MONDAY_FOUR + timedelta(hours=7))
    ran: list[str] = []
    start(job_runs, job(lambda run: ran.append(run.id)), now=late)
    late.wait_for_a_check()
    assert (ran, job_runs.recent()) == ([], [])
    late.moment = MONDAY_FOUR + timedelta(days=7)
    until(lambda: ran == ["reconcile-incentives-20230529T0300Z"])


def test_a_job_starts_at_its_time(job_runs: JobRuns, start: Callable[..., Running]) -> None:
    """If the scheduled time comes while the scheduler runs, the job starts then, and not earlier."""
    ran: list[str] = []
    wall = Clock(MONDAY_FOUR - timedelta(seconds=1))
    running = start(job_runs, job(lambda run: ran.append(run.id)), now=wall)
    wall.wait_for_a_check()
    assert ran == []
    wall.moment = MONDAY_FOUR
    until(lambda: ran == ["reconcile-incentives-20230522T0300Z"])
    assert running.scheduler.failing() == {}


def test_run_of_a_dead_scheduler_is_taken_over(job_runs: JobRuns, start: Callable[..., Running]) -> None:
    """A scheduler finishes a scheduled run that another scheduler left unfinished. The run is marked as resumed."""
    run_id = "reconcile-incentives-20230522T0300Z"
    with pytest.raises(KeyboardInterrupt), job_runs.run("reconcile-incentives", {}, run_id=run_id):
        raise KeyboardInterrupt
    resumed: list[bool] = []
    start(job_runs, job(lambda run: resumed.append(run.resumed)), now=Clock(MONDAY_FOUR + timedelta(minutes=30)))
    until(lambda: job_runs.status_of(run_id) is RunStatus.SUCCESS)
    assert resumed == [True]


def test_two_schedulers_run_a_job_once(
    database: Database, database_url: str, start: Callable[..., Running], tmp_path: Path
) -> None:
    """If two schedulers start at the same time on one database, only one of them runs the job."""
    other = Database(database_url)
    ran: list[str] = []

    def both_look(name: str) -> None:
        clocks = [Clock(MONDAY_FOUR + timedelta(seconds=1)) for _ in range(2)]
        for one, wall in zip((database, other), clocks, strict=True):
            start(JobRuns(one, Leases(one, name, 60)), job(lambda run: ran.append(run.id)), now=wall)
        until(lambda: all(each.looks >= 2 for each in clocks), "both check whether the job is due")

    for name in ("scheduler", "later"):
        both_look(name)
        assert len(ran) == 1
    other.dispose()
    assert ran == ["reconcile-incentives-20230522T0300Z"]


def test_failed_job_is_recorded_and_not_repeated(job_runs: JobRuns, start: Callable[..., Running]) -> None:
    """A job that fails is recorded as failed, and is not tried again for that scheduled time."""
    attempts: list[str] = []

    def run(active_run: ActiveRun) -> None:
        attempts.append(active_run.id)
        raise BreakerOpen("nomis")

    running = start(job_runs, job(run), now=Clock(MONDAY_FOUR + timedelta(minutes=5)))
    until(lambda: bool(attempts) and job_runs.status_of(attempts[0]) is RunStatus.FAILED)
    assert job_runs.recent()[0].error == str(BreakerOpen("nomis"))
    until(lambda: running.scheduler.failing() == {"reconcile-incentives": str(BreakerOpen("nomis"))})
    later = Clock(MONDAY_FOUR + timedelta(minutes=6))
    start(job_runs, job(run), now=later)
    later.wait_for_a_check()
    assert len(attempts) == 1


def test_deliveries_continue_after_an_outage(job_runs: JobRuns, start: Callable[..., Running]) -> None:
    """If sending the due deliveries fails, the scheduler tries again, and the drains are not affected."""
    calls: list[int] = []

    def send_due() -> Mapping[str, int]:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("no Slack")
        return {"sent": 1}

    drain = CountingDrain([1])
    running = start(job_runs, drains={"visit": drain}, send_due=send_due)
    until(lambda: len(calls) >= 2 and running.scheduler.failing() == {})
    until(lambda: drain.batches > 2)
