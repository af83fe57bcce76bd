"""Readers side by side: whatever fails and however often, each item is delivered, and all threads end."""

from __future__ import annotations

import threading

from reports.pace import Pace
from reports.reading import Reading, Unreadable
from sync.failures import BreakerOpen, UpstreamError
from tests.waiting import in_thread, result_of

WORKERS = 16


def test_the_last_item_is_tried_to_the_end_though_the_pace_gave_way() -> None:
    """Refusals of the only item that is left halve the pace: its reader's turn may never come, but another's does."""
    together = threading.Barrier(WORKERS)
    others_done = threading.Event()
    begun = threading.Lock()
    failing: list[int] = []
    delivered: dict[int, int | Unreadable] = {}

    def read(item: int) -> int:
        if item in failing:
            raise UpstreamError("nomis", "GET", "/", status=500, message="no")
        together.wait(10)
        if threading.current_thread().name == f"slow-{WORKERS - 1}":
            failing.append(item)
            others_done.wait(10)
            raise UpstreamError("nomis", "GET", "/", status=500, message="no")
        return item

    def deliver(item: int, value: int | Unreadable) -> None:
        with begun:
            delivered[item] = value
            if len(delivered) == WORKERS - 1:
                others_done.set()

    pace = Pace(WORKERS)
    reading = Reading("slow", read, deliver, pace)
    reading.add(range(WORKERS))
    reading.close()
    ended = threading.Thread(target=reading.join, daemon=True)
    ended.start()
    ended.join(60)
    assert not ended.is_alive()
    assert delivered.keys() == set(range(WORKERS))
    assert isinstance(delivered[failing[0]], Unreadable)
    assert pace.lowest < WORKERS


def test_an_outage_is_waited_for_as_long_as_is_said() -> None:
    """However few are left to be read: the time counts, not the calls that were not made."""

    def read(_item: int) -> int:
        raise BreakerOpen("nomis")

    delivered: dict[int, int | Unreadable] = {}
    reading = Reading("down", read, delivered.__setitem__, Pace(200), outage_seconds=1.5)
    reading.add([1])
    reading.close()
    result_of(in_thread(reading.join))
    assert isinstance(delivered[1], Unreadable)
    assert delivered[1].network
