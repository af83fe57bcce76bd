"""Whatever fails, and however often, a parallel reader delivers a result for each item and ends all its threads."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from queue import Queue

import pytest

from reports.engine.parallel_reader import FailedRead, ParallelReader, get_with_heartbeat
from sync.errors import BreakerOpen, UpstreamError
from sync.settings import times
from sync.upstream.concurrency_limit import BURST, ConcurrencyLimit
from tests.harness.waiting import in_thread, result_of

WORKERS = 16


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the waits, but less than for other tests, since these tests check a reader while it waits."""
    monkeypatch.setattr(times, "READ_RETRY_SECONDS", tuple(each / 4 for each in times.READ_RETRY_SECONDS))
    monkeypatch.setattr(times, "OPEN_BREAKER_PAUSE_SECONDS", 0.1)


def test_the_last_item_is_retried_although_the_limit_has_shrunk() -> None:
    """The last item is retried even if the reduced limit no longer allows the thread that read the item to run."""
    together = threading.Barrier(WORKERS)
    others_done = threading.Event()
    begun = threading.Lock()
    failing: list[int] = []
    delivered: dict[int, int | FailedRead] = {}
    limit = limit_of(WORKERS)

    def read(item: int) -> int:
        if item in failing:
            raise UpstreamError("nomis", "GET", "/", status=500, message="no")
        if others_done.is_set():
            return item
        together.wait(10)
        if threading.current_thread().name == f"slow-{WORKERS - 1}":
            failing.append(item)
            others_done.wait(10)
            for _ in range(BURST):
                limit.on_throttled()
            raise UpstreamError("nomis", "GET", "/", status=500, message="no")
        return item

    def deliver(item: int, value: int | FailedRead) -> None:
        with begun:
            delivered[item] = value
            if len(delivered) == WORKERS - 1:
                others_done.set()

    reading = ParallelReader("slow", read, deliver, limit)
    reading.add(range(WORKERS))
    reading.close()
    ended = threading.Thread(target=reading.join, daemon=True)
    ended.start()
    ended.join(60)
    assert not ended.is_alive()
    assert delivered.keys() == set(range(WORKERS))
    assert isinstance(delivered[failing[0]], FailedRead)
    assert limit.allowed < WORKERS


def test_an_outage_is_waited_out_for_the_set_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even for a single item, the reader waits for the end of an outage, and gives up after `outage_seconds`."""
    # After the outage, a failed read would be retried, which also takes time.
    monkeypatch.setattr(times, "READ_RETRY_SECONDS", ())

    def read(_item: int) -> int:
        raise BreakerOpen("nomis")

    delivered: dict[int, int | FailedRead] = {}
    reading = ParallelReader("down", read, delivered.__setitem__, limit_of(200), outage_seconds=0.5)
    began = time.monotonic()
    reading.add([1])
    reading.close()
    result_of(in_thread(reading.join))
    assert time.monotonic() - began >= 0.5
    assert isinstance(delivered[1], FailedRead)
    assert delivered[1].network


def limit_of(maximum: int) -> ConcurrencyLimit:
    """A limit of `maximum` concurrent calls to NOMIS."""
    return ConcurrencyLimit("nomis", maximum)


class Upstream:
    """A simulated service with a breaker. Some items always fail, and three failures in a row open the breaker."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.calls: list[int] = []
        self.opened = 0
        self._lock = threading.Lock()
        self._in_a_row = 0

    def read(self, item: int) -> int:
        """Returns the item, or raises an error if it is bad.

        A success closes the breaker. An open breaker stays open if a bad item is read.
        """
        with self._lock:
            self.calls.append(item)
            if item not in self.bad:
                self._in_a_row = 0
                return item
            self._in_a_row += 1
            if self._in_a_row > 3:
                self.opened += 1
                raise BreakerOpen("nomis")
            raise UpstreamError("nomis", "GET", f"/{item}", status=500, message="no")


@pytest.mark.parametrize("bad", [{0, 1, 2, 3}, {96, 97, 98, 99}])
def test_bad_items_are_given_up_soon_while_others_can_be_read(bad: set[int]) -> None:
    """While other items can be read, there is no outage to wait for, so the reader soon gives up on bad items."""
    upstream = Upstream(bad)
    delivered: dict[int, int | FailedRead] = {}
    reading = ParallelReader("nomis", upstream.read, delivered.__setitem__, limit_of(WORKERS), outage_seconds=600)
    reading.add(range(100))
    reading.close()
    result_of(in_thread(reading.join))
    assert {item for item, value in delivered.items() if isinstance(value, FailedRead)} == bad
    assert delivered.keys() == set(range(100))
    assert "500" in str(delivered[min(bad)])
    assert max(Counter(upstream.calls)[item] for item in bad) <= 4 + upstream.opened


def test_an_earlier_successful_read_shows_that_the_service_is_up() -> None:
    """If all items fail, the reader reads an earlier item, the witness, again.

    If that read succeeds, there is no outage to wait for, so the reader gives up on the failing items.
    """
    upstream = Upstream(set(range(5)))
    results: Queue[tuple[int, int | FailedRead]] = Queue()
    reading = ParallelReader(
        "nomis", upstream.read, lambda *result: results.put(result), limit_of(4), outage_seconds=600
    )
    reading.add([77])
    assert results.get(timeout=10) == (77, 77)
    reading.add(range(5))
    reading.close()
    result_of(in_thread(reading.join))
    delivered = dict(results.get_nowait() for _ in range(5))
    assert all(isinstance(value, FailedRead) and not value.network for value in delivered.values())
    assert delivered.keys() == set(range(5))


def test_the_progress_names_the_service_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the reader waits for a service that is down, the progress names the service.

    While failed reads are retried, the progress says so.
    """
    # Progress is reported every half second.
    monkeypatch.setattr(times, "READ_RETRY_SECONDS", (0.6, 0.6, 0.6))
    down = threading.Event()
    down.set()
    failing = threading.Event()
    reported: list[str | None] = []
    results: Queue[int | FailedRead] = Queue()

    def read(item: int) -> int:
        if down.is_set():
            raise BreakerOpen("nomis", datetime(2023, 5, 22, 8, 30, tzinfo=UTC))
        if item == 1 and failing.is_set():
            raise UpstreamError("nomis", "GET", "/1", status=500, message="no")
        return item

    def tick(waits_for: str | None) -> None:
        reported.append(waits_for)
        if waits_for and "as down" in waits_for:
            failing.set()
            down.clear()
        elif waits_for:
            failing.clear()

    reading = ParallelReader("nomis", read, lambda _item, value: results.put(value), limit_of(1), outage_seconds=600)
    reading.add([1])
    reading.close()
    assert get_with_heartbeat(results, tick, reading) == 1
    reading.join()
    assert "waiting up to 10 min: nomis has counted as down since 22 May 09:30" in reported
    assert "retrying failed reads" in reported


def test_a_run_can_be_stopped_after_a_signal_that_was_handled_late() -> None:
    """A waiting run keeps reporting its progress, so it can be stopped even if a signal is handled late."""

    class Stopped(Exception):
        pass

    def handle_late(_number: int, _frame: object) -> None:
        threading.Event().wait(1.2)
        handled.set()

    def tick(_waits_for: str | None) -> None:
        if handled.is_set():
            raise Stopped

    handled = threading.Event()
    results: Queue[str] = Queue()
    rescue = threading.Timer(20, results.put, ["no sign of life since the signal"])
    before = signal.signal(signal.SIGUSR1, handle_late)
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        rescue.start()
        with pytest.raises(Stopped):
            get_with_heartbeat(results, tick)
    finally:
        rescue.cancel()
        signal.signal(signal.SIGUSR1, before)
