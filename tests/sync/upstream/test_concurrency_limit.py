"""The limit on calls in flight is fair, applies to every call, and adapts to what the service can handle."""

from __future__ import annotations

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.upstream.concurrency_limit import (
    BASELINE_SECONDS,
    BURST,
    FIRST_IN_FLIGHT,
    MAX_PAUSE_SECONDS,
    SETTLE_SECONDS,
    STEPS_BACK,
    ConcurrencyLimit,
)
from tests.harness.waiting import failure_of, in_thread, result_of, until


class Clock:
    """A monotonic clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time that the clock shows, in seconds."""
        return self.now


def warm(maximum: int, clock: Clock) -> ConcurrencyLimit:
    """A limit that has learnt the usual response time, 20 ms."""
    limit = ConcurrencyLimit("nomis", maximum, clock)
    for _ in range(100):
        limit.on_success(0.02)
    return limit


def test_a_free_slot_goes_to_the_longest_waiter() -> None:
    """A thread that releases its slot and wants another at once queues behind the waiting threads.

    The waiting threads keep their order.
    """
    limit = ConcurrencyLimit("nomis", 1)
    order: list[str] = []

    def enter(name: str) -> None:
        with limit:
            order.append(name)

    with ThreadPoolExecutor(2) as pool:
        with limit:
            first = pool.submit(enter, "first")
            until(lambda: limit.waiting == 1)
            second = pool.submit(enter, "second")
            until(lambda: limit.waiting == 2)
        with limit:
            order.append("again")
        first.result()
        second.result()
    assert order == ["first", "second", "again"]


def test_no_slot_is_exceeded_or_lost() -> None:
    """Threads never hold more slots than there are, even if their calls fail.

    Afterwards, all slots can be taken, and a further thread waits for one.
    """
    limit = ConcurrencyLimit("nomis", 3)
    inside, most = 0, 0
    lock = threading.Lock()

    def fail_inside(number: int) -> None:
        nonlocal inside, most
        with limit:
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1
            raise LookupError(str(number))

    def come_and_go(number: int) -> None:
        for _ in range(200):
            with pytest.raises(LookupError, match=str(number)):
                fail_inside(number)

    # Threads switch so often that one of them is always interrupted midway.
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(come_and_go, range(8)))
    finally:
        sys.setswitchinterval(usual)
    assert most <= 3
    with limit, limit, limit:
        fourth = in_thread(fail_inside, 4)
        until(lambda: limit.waiting == 1)
        assert not fourth.done()
    assert isinstance(failure_of(fourth), LookupError)


def test_a_wait_that_is_interrupted_leaves_no_slot_taken() -> None:
    """A thread that is interrupted while it waits for a slot leaves the queue and takes no slot."""
    limit = ConcurrencyLimit("nomis", 1)
    main = threading.main_thread().ident
    assert main is not None
    interrupted = threading.Event()

    def interrupt_once(_number: int, _frame: FrameType | None) -> None:
        if limit.waiting and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def press() -> bool:
        # A signal that arrives just before a thread falls asleep is noticed when it wakes up, so one signal is not
        # enough.
        signal.pthread_kill(main, signal.SIGUSR1)
        return interrupted.is_set()

    before = signal.signal(signal.SIGUSR1, interrupt_once)
    try:
        with ThreadPoolExecutor(1) as pool, limit:
            pressing = pool.submit(until, press, "the wait is interrupted")
            with pytest.raises(KeyboardInterrupt), limit:
                pytest.fail("two threads have the only slot")
            pressing.result()
            assert limit.waiting == 0
        with limit:
            assert limit.waiting == 0
    finally:
        signal.signal(signal.SIGUSR1, before)


@settings(deadline=None)
@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.sampled_from(["read", "slow", "write", "throttled", "asked", "restart"]), st.floats(0, 3))),
)
def test_the_limit_stays_between_one_and_the_maximum(maximum: int, events: list[tuple[str, float]]) -> None:
    """Whatever the results of calls, the limit stays between one and the maximum.

    Once calls succeed again, it returns to the maximum.
    """
    clock = Clock()
    limit = ConcurrencyLimit("nomis", maximum, clock)
    happen = {
        "read": lambda: limit.on_success(0.02),
        "slow": lambda: limit.on_success(5.0),
        "write": limit.on_success,
        "throttled": limit.on_throttled,
        "asked": lambda: limit.on_throttled(retry_after=1.0),
        "restart": limit.restart,
    }
    for event, seconds in events:
        clock.now += seconds
        happen[event]()
        assert 1 <= limit.allowed <= maximum
        with limit:
            assert limit.waiting == 0
    clock.now += BASELINE_SECONDS
    for _ in range(400):
        clock.now += SETTLE_SECONDS
        limit.on_success(0.02)
    assert limit.allowed == maximum


def test_only_a_burst_of_throttled_calls_halves_the_limit() -> None:
    """Fewer than `BURST` throttled calls change nothing. A burst of throttled calls halves the limit, but only once."""
    limit = warm(40, Clock())
    for _ in range(BURST - 1):
        limit.on_throttled()
    assert limit.allowed == 40
    for _ in range(3 * BURST):
        limit.on_throttled()
    assert limit.allowed == 20


def test_throttled_calls_far_apart_are_not_a_burst() -> None:
    """Several throttled calls over a longer time, or among many successes, do not halve the limit."""
    clock = Clock()
    limit = warm(40, clock)
    for _ in range(4 * BURST):
        clock.now += 1
        limit.on_throttled()
    clock.now += 10
    for _ in range(4 * BURST):
        limit.on_throttled()
        for _ in range(40):
            limit.on_success(0.02)
    assert limit.allowed == 40


def test_a_smaller_limit_applies_to_waiting_calls() -> None:
    """After the limit is halved, a waiting call gets a slot only once the new limit allows another call."""
    limit = ConcurrencyLimit("nomis", 4)
    order: list[str] = []

    def enter() -> None:
        with limit:
            order.append("entered")

    with limit, limit:
        with limit, limit:
            for _ in range(BURST):
                limit.on_throttled()
            assert limit.allowed == 2
            waiting = in_thread(enter)
            until(lambda: limit.waiting == 1)
        assert (order, limit.waiting) == ([], 1)
    result_of(waiting)
    assert order == ["entered"]


def test_the_limit_grows_in_steps_up_to_the_maximum() -> None:
    """Once calls succeed again, the limit grows in steps with a pause between them, and never exceeds the maximum."""
    clock = Clock()
    limit = warm(40, clock)
    for _ in range(BURST):
        limit.on_throttled()
    seen = [limit.allowed]
    for _ in range(3 * STEPS_BACK):
        clock.now += SETTLE_SECONDS
        limit.on_success(0.02)
        limit.on_success(0.02)
        seen.append(limit.allowed)
    assert seen[0] == 20
    assert max(later - earlier for earlier, later in pairwise(seen)) == 40 // STEPS_BACK
    assert (seen[-1], max(seen)) == (40, 40)


def test_slow_responses_halve_the_limit_repeatedly() -> None:
    """Responses that take many times as long as usual halve the limit repeatedly, but one call is always allowed."""
    clock = Clock()
    limit = warm(40, clock)
    for _ in range(600):
        clock.now += 0.1
        limit.on_success(2.0)
    assert limit.allowed == 1


def test_a_busy_machine_is_not_a_slow_service() -> None:
    """If all calls in flight are slow but the next calls are not, the limit stays unchanged.

    The cause is assumed to be a busy machine.
    """
    clock = Clock()
    limit = warm(64, clock)
    for _ in range(20):
        clock.now += SETTLE_SECONDS
        for _ in range(64):
            limit.on_success(2.0)
        clock.now += SETTLE_SECONDS / 2
        for _ in range(100):
            limit.on_success(0.02)
        assert limit.allowed == 64


def test_one_slow_response_changes_nothing() -> None:
    """One slow response changes nothing, even if it took half a minute and few calls follow."""
    clock = Clock()
    limit = warm(40, clock)
    limit.on_success(30.0)
    for _ in range(60):
        assert limit.allowed == 40
        clock.now += SETTLE_SECONDS
        limit.on_success(0.02)


def test_the_usual_response_time_is_learnt_again() -> None:
    """If a service stays slower than before, its new speed eventually counts as usual.

    The limit then returns to the maximum.
    """
    clock = Clock()
    limit = warm(40, clock)
    for _ in range(2_000):
        clock.now += 0.01
        limit.on_success(0.5)
    assert limit.allowed < 10
    clock.now += BASELINE_SECONDS
    for _ in range(2 * STEPS_BACK):
        clock.now += SETTLE_SECONDS
        limit.on_success(0.5)
    assert limit.allowed == 40


def test_writes_do_not_affect_the_usual_response_time() -> None:
    """A successful call without a recorded response time, such as a write, does not reduce the limit."""
    clock = Clock()
    limit = warm(40, clock)
    for _ in range(600):
        clock.now += 0.1
        limit.on_success()
    assert limit.allowed == 40


def test_after_an_outage_the_limit_grows_from_two() -> None:
    """After an outage, two calls are allowed at first. Each success allows one more, up to the maximum."""
    limit = warm(40, Clock())
    limit.restart()
    seen = [limit.allowed]
    for _ in range(100):
        limit.on_success(0.02)
        seen.append(limit.allowed)
    assert seen[:4] == [FIRST_IN_FLIGHT, FIRST_IN_FLIGHT + 1, FIRST_IN_FLIGHT + 2, FIRST_IN_FLIGHT + 3]
    assert (seen[-1], max(seen)) == (40, 40)


def test_retry_after_holds_back_readers() -> None:
    """The threads of a reader wait as long as `Retry-After` says, but never longer than a minute."""
    clock = Clock()
    limit = warm(40, clock)
    limit.on_throttled(retry_after=7)
    assert limit.paused_until == clock.now + 7
    limit.on_throttled(retry_after=9_999)
    assert limit.paused_until == clock.now + MAX_PAUSE_SECONDS
    asked = threading.Event()

    def given_up() -> bool:
        asked.set()
        return False

    waiting = in_thread(limit.wait_until_allowed, 0, given_up)
    assert asked.wait(10)
    assert not waiting.done()
    clock.now += MAX_PAUSE_SECONDS
    limit.wake()
    result_of(waiting)


def test_threads_beyond_the_limit_wait() -> None:
    """A reader's threads beyond the current limit wait until the limit has grown or the reader gives up."""
    limit = ConcurrencyLimit("nomis", 4)
    limit.restart()
    limit.wait_until_allowed(FIRST_IN_FLIGHT - 1, lambda: False)
    third = in_thread(limit.wait_until_allowed, FIRST_IN_FLIGHT, lambda: False)
    given_up = threading.Event()
    fourth = in_thread(limit.wait_until_allowed, FIRST_IN_FLIGHT + 1, given_up.is_set)
    assert not third.done()
    limit.on_success()
    result_of(third)
    assert not fourth.done()
    given_up.set()
    limit.wake()
    result_of(fourth)
