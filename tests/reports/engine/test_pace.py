"""The pace gives way and comes back; by a clock that is put forward by hand."""

from __future__ import annotations

from itertools import pairwise

from reports.engine.pace import BURST, SETTLE_SECONDS, STEPS_BACK, Pace


class Ticking:
    """A clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time it shows."""
        return self.now


def warmed(maximum: int, clock: Ticking) -> Pace:
    """A pace that knows what is usual: answers after 20 ms."""
    pace = Pace(maximum, clock)
    for _ in range(100):
        pace.answered(0.02)
    return pace


def test_one_refusal_is_an_accident_and_a_burst_halves() -> None:
    """Single refusals change nothing; several within a second halve, once for each burst."""
    clock = Ticking()
    pace = warmed(40, clock)
    for _ in range(BURST - 1):
        pace.refused()
    assert pace.allowed == 40
    for _ in range(3 * BURST):
        pace.refused()
    assert pace.allowed == 20


def test_refusals_far_apart_are_no_burst() -> None:
    """As many refusals over a longer time are accidents."""
    clock = Ticking()
    pace = warmed(40, clock)
    for _ in range(4 * BURST):
        clock.now += 1
        pace.refused()
    assert pace.allowed == 40


def test_comes_back_step_by_step_and_never_above() -> None:
    """When all is well the full number comes back in steps with a rest between, and no further."""
    clock = Ticking()
    pace = warmed(40, clock)
    for _ in range(BURST):
        pace.refused()
    seen = [pace.allowed]
    for _ in range(3 * STEPS_BACK):
        clock.now += SETTLE_SECONDS
        pace.answered(0.02)
        pace.answered(0.02)
        seen.append(pace.allowed)
    assert seen[0] == 20
    assert max(later - earlier for earlier, later in pairwise(seen)) == 40 // STEPS_BACK
    assert seen[-1] == 40
    assert max(seen) == 40


def test_slow_answers_halve_down_to_one_at_a_time() -> None:
    """Answers that take many times as long halve the pace again and again, but one caller is always left."""
    clock = Ticking()
    pace = warmed(40, clock)
    for _ in range(600):
        clock.now += 0.1
        pace.answered(2.0)
    assert pace.allowed == 1


def test_stands_still_as_long_as_it_is_told() -> None:
    """`Retry-After` is honoured, but never for more than a minute."""
    clock = Ticking()
    pace = warmed(40, clock)
    pace.refused(retry_after=7)
    assert pace.paused_until == clock.now + 7
    pace.refused(retry_after=9_999)
    assert pace.paused_until == clock.now + 60
