"""The scheduler does each thing at its time, once, and lives through what breaks."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from jobs.cron import CronSchedule
from jobs.ledger import Ledger, RunInHand, Status, Trigger
from jobs.scheduler import Draining, ScheduledJob, Scheduler
from sync.drain import BatchSummary
from sync.store.database import Database
from sync.store.leases import Leases

LONDON = ZoneInfo("Europe/London")
MONDAY_FOUR = datetime(2023, 5, 22, 3, 0, tzinfo=UTC)


class CountingDrain:
    """A drain that receives `sizes` messages, batch by batch, then nothing; it may break first."""

    def __init__(self, sizes: list[int], broken_for: int = 0) -> None:
        self.sizes = sizes
        self.broken_for = broken_for
        self.batches = 0
        self.stopped = threading.Event()

    def run_batch(self) -> BatchSummary:
        """One batch."""
        self.batches += 1
        if self.batches <= self.broken_for:
            raise ConnectionError("no queue")
        received = self.sizes.pop(0) if self.sizes else 0
        return BatchSummary("visit", received=received, applied=received, batches=1, seconds=0.001)

    def stop(self) -> None:
        """Notes that it was told to stop."""
        self.stopped.set()


@pytest.fixture
def ledger(database: Database) -> Ledger:
    """A ledger of this process."""
    return Ledger(database, Leases(database, "this", 60))


def nothing_due() -> Mapping[str, int]:
    """An outbox with nothing to send."""
    return {}


def job(run: Callable[[RunInHand], None], name: str = "reconcile-incentives", line: str = "0 4 * * 1") -> ScheduledJob:
    """A job of the weekly schedule that is worth catching up for six hours."""
    return ScheduledJob(name, CronSchedule(line, LONDON), run, timedelta(hours=6))


class Running:
    """A scheduler that runs in a thread until the test is over."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.result: dict[str, int] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.result = self.scheduler.run()

    def finish(self) -> dict[str, int]:
        """Stops it and waits for its end."""
        self.scheduler.stop()
        self._thread.join(30)
        assert self.result is not None
        return self.result


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts a scheduler; all are stopped at the end."""
    running: list[Running] = []

    def begin(
        ledger: Ledger,
        *jobs: ScheduledJob,
        drains: Mapping[str, Draining] | None = None,
        send_due: Callable[[], Mapping[str, int]] = nothing_due,
        now: datetime | None = None,
    ) -> Running:
        began, offset = time.monotonic(), now
        clock = (lambda: offset + timedelta(seconds=time.monotonic() - began)) if offset else lambda: datetime.now(UTC)
        known = drains or {}
        scheduler = Scheduler(
            open_drain=known.__getitem__,
            queues=list(known),
            drain_interval_seconds=0.02,
            jobs=jobs,
            ledger=ledger,
            send_due=send_due,
            outbox_seconds=0.05,
            now=clock,
        )
        running.append(Running(scheduler))
        return running[-1]

    yield begin
    for one in running:
        one.finish()


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until `condition` holds; fails when it does not within half a minute."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.01)


def test_queues_are_drained_again_and_again(ledger: Ledger, start: Callable[..., Running]) -> None:
    """Batches follow each other; what they did is counted; each drain is stopped at the end."""
    drain = CountingDrain([3, 0, 4])
    running = start(ledger, drains={"visit": drain})
    wait_for(lambda: drain.batches >= 4)
    assert running.finish() == {"received": 7, "applied": 7, "batches": 2}
    assert drain.stopped.is_set()


def test_broken_queue_is_tried_again_and_stops_no_other(ledger: Ledger, start: Callable[..., Running]) -> None:
    """While one queue fails the other is drained, and the failing one heals by itself."""
    broken, whole = CountingDrain([1], broken_for=20), CountingDrain([2])
    running = start(ledger, drains={"visit": broken, "incentive": whole})
    wait_for(lambda: running.scheduler.failing() == {"visit": "no queue"})
    wait_for(lambda: broken.batches > 20 and whole.batches > 1)
    assert running.scheduler.failing() == {}
    assert running.finish()["received"] == 3


def test_due_job_runs_once_for_its_moment(ledger: Ledger, start: Callable[..., Running]) -> None:
    """The job of Monday 04:00 runs when a scheduler starts shortly after, once, and is in the ledger as scheduled."""
    ran: list[str] = []

    def run(in_hand: RunInHand) -> None:
        ran.append(in_hand.id)
        in_hand.counts["prisoners"] = 2000

    start(ledger, job(run), now=MONDAY_FOUR + timedelta(minutes=5))
    wait_for(lambda: ran != [] and ledger.standing(ran[0]) is Status.SUCCESS)
    start(ledger, job(run), now=MONDAY_FOUR + timedelta(minutes=6)).finish()
    assert ran == ["reconcile-incentives-20230522T0300Z"]
    (kept,) = ledger.recent()
    assert (kept.trigger, kept.status, kept.counts) == (Trigger.SCHEDULE, Status.SUCCESS, {"prisoners": 2000})


def test_job_is_not_started_outside_its_time(ledger: Ledger, start: Callable[..., Running]) -> None:
    """A moment that is longer ago than is worth catching up is left alone."""
    drain = CountingDrain([])
    start(ledger, job(lambda _: None), drains={"visit": drain}, now=MONDAY_FOUR + timedelta(hours=7))
    wait_for(lambda: drain.batches > 10)
    assert ledger.recent() == []


def test_moment_that_comes_is_met(ledger: Ledger, start: Callable[..., Running]) -> None:
    """A job whose moment comes while the scheduler runs is started then, and not before."""
    ran: list[str] = []
    before = MONDAY_FOUR - timedelta(seconds=1.5)
    running = start(ledger, job(lambda run: ran.append(run.id)), now=before)
    assert ran == []
    wait_for(lambda: ran == ["reconcile-incentives-20230522T0300Z"])
    assert running.scheduler.failing() == {}


def test_run_of_a_dead_scheduler_is_taken_over(ledger: Ledger, start: Callable[..., Running]) -> None:
    """A scheduled run that another scheduler left unfinished is finished by this one, told that it is resumed."""
    run_id = "reconcile-incentives-20230522T0300Z"
    with pytest.raises(KeyboardInterrupt), ledger.run("reconcile-incentives", {}, run_id=run_id):
        raise KeyboardInterrupt
    resumed: list[bool] = []
    start(ledger, job(lambda run: resumed.append(run.resumed)), now=MONDAY_FOUR + timedelta(minutes=30))
    wait_for(lambda: ledger.standing(run_id) is Status.SUCCESS)
    assert resumed == [True]


def test_two_schedulers_run_a_moment_once(
    database: Database, database_url: str, start: Callable[..., Running], tmp_path: Path
) -> None:
    """Two schedulers on one database, started together at the same moment, run the job once between them."""
    other = Database(database_url)
    ran: list[str] = []
    moment = MONDAY_FOUR + timedelta(seconds=1)
    for number, one in enumerate((database, other)):
        start(Ledger(one, Leases(one, f"scheduler {number}", 60)), job(lambda run: ran.append(run.id)), now=moment)
    wait_for(lambda: ran != [])
    for number, one in enumerate((database, other)):
        start(Ledger(one, Leases(one, f"later {number}", 60)), job(lambda run: ran.append(run.id)), now=moment).finish()
    other.dispose()
    assert ran == ["reconcile-incentives-20230522T0300Z"]


def test_failed_job_is_recorded_and_not_repeated(ledger: Ledger, start: Callable[..., Running]) -> None:
    """A job that fails is in the ledger as failed, and its moment is not tried again by itself."""
    attempts: list[str] = []

    def run(in_hand: RunInHand) -> None:
        attempts.append(in_hand.id)
        raise ConnectionError("nomis is down")

    running = start(ledger, job(run), now=MONDAY_FOUR + timedelta(minutes=5))
    wait_for(lambda: bool(attempts) and ledger.standing(attempts[0]) is Status.FAILED)
    assert ledger.recent()[0].error == "nomis is down"
    wait_for(lambda: running.scheduler.failing() == {"reconcile-incentives": "nomis is down"})
    start(ledger, job(run), now=MONDAY_FOUR + timedelta(minutes=6)).finish()
    assert len(attempts) == 1


def test_deliveries_go_on_after_an_outage(ledger: Ledger, start: Callable[..., Running]) -> None:
    """When sending breaks, it is tried again; the drains never notice."""
    calls: list[int] = []

    def send_due() -> Mapping[str, int]:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("no Slack")
        return {"sent": 1}

    drain = CountingDrain([1])
    running = start(ledger, drains={"visit": drain}, send_due=send_due)
    wait_for(lambda: len(calls) >= 2 and running.scheduler.failing() == {})
    assert drain.batches > 2
