"""The limit of calls under way: never more than allowed, and nobody is passed over."""

from __future__ import annotations

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest

from sync.upstream.in_flight import InFlight
from tests.harness.waiting import failure_of, in_thread, until


def test_whoever_waits_longest_comes_next() -> None:
    """A thread that leaves and comes back at once stands behind those who wait, in their order."""
    limit = InFlight(1)
    order: list[str] = []

    def one(name: str) -> None:
        with limit:
            order.append(name)

    with ThreadPoolExecutor(2) as pool:
        with limit:
            first = pool.submit(one, "first")
            until(lambda: limit.waiting == 1)
            second = pool.submit(one, "second")
            until(lambda: limit.waiting == 2)
        with limit:
            order.append("again")
        first.result()
        second.result()
    assert order == ["first", "second", "again"]


def test_no_more_are_inside_than_allowed_and_no_place_is_lost() -> None:
    """Threads that come and go, also by errors, all get through; then there is room for three, and a fourth waits."""
    limit = InFlight(3)

    def fail_inside(number: int) -> None:
        with limit:
            raise LookupError(str(number))

    def come_and_go(number: int) -> None:
        for _ in range(200):
            with pytest.raises(LookupError, match=str(number)):
                fail_inside(number)

    # Threads take turns so often that one is stopped in the midst of it all the time.
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(come_and_go, range(8)))
    finally:
        sys.setswitchinterval(usual)
    with limit, limit, limit:
        fourth = in_thread(fail_inside, 4)
        until(lambda: limit.waiting == 1)
        assert not fourth.done()
    assert isinstance(failure_of(fourth), LookupError)


def test_a_wait_that_is_interrupted_leaves_no_place_taken() -> None:
    """Ctrl+C while waiting for a place leaves the line as it was, and the place to the next."""
    limit = InFlight(1)
    main = threading.main_thread().ident
    assert main is not None
    interrupted = threading.Event()

    def interrupt_once(_number: int, _frame: FrameType | None) -> None:
        if limit.waiting and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def press() -> bool:
        # A signal that comes just before a thread falls asleep is noticed when it wakes up, so one is not enough.
        signal.pthread_kill(main, signal.SIGUSR1)
        return interrupted.is_set()

    before = signal.signal(signal.SIGUSR1, interrupt_once)
    try:
        with ThreadPoolExecutor(1) as pool, limit:
            pressing = pool.submit(until, press, "the wait is interrupted")
            with pytest.raises(KeyboardInterrupt), limit:
                pytest.fail("two are inside")
            pressing.result()
            assert limit.waiting == 0
        with limit:
            assert limit.waiting == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
