"""Leases that expire while their holders work, and leases that deliberately outlast their holders' work."""

from __future__ import annotations

import pytest

from benchmarks.forked_command import CONTEXT
from sync.errors import LeaseBusy
from sync.store.database import Database
from sync.store.leases import Leases
from tests.harness.databases import hold
from tests.harness.processes import child, kill
from tests.harness.waiting import LONGEST_SECONDS, in_thread, result_of, until


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """The time in seconds to which the test has set the clock."""
        return self.seconds


def test_a_thread_whose_lease_expired_may_not_write(database: Database) -> None:
    """If a lease expires without renewal, `ensure_held` raises `LeaseBusy` in the thread that held it.

    Other threads get no error.
    """
    clock = Clock()
    leases = Leases(database, "mine", 60, clock)
    assert leases.acquire("a")
    leases.ensure_held()
    clock.seconds = 61
    with pytest.raises(LeaseBusy, match="a is being"):
        leases.ensure_held()
    result_of(in_thread(leases.ensure_held))
    leases.release("a")
    leases.ensure_held()


def test_a_write_with_a_deadline_is_not_made_late(database: Database) -> None:
    """When the time limit of `write_within` has passed, `ensure_held` raises `LeaseBusy` in the thread with the limit.

    In other threads, it raises no error.
    """
    clock = Clock()
    leases = Leases(database, "mine", 60, clock)
    with leases.write_within(10, "visit:1"):
        clock.seconds = 9
        leases.ensure_held()
        clock.seconds = 10
        with pytest.raises(LeaseBusy, match="visit:1"):
            leases.ensure_held()
        result_of(in_thread(leases.ensure_held))
    leases.ensure_held()


def test_each_renewal_extends_the_lease(database: Database) -> None:
    """A renewed lease lasts for its full length from the start of the renewal."""
    clock = Clock()
    leases = Leases(database, "mine", 60, clock)
    assert leases.acquire("a")
    clock.seconds = 50
    leases.renew()
    clock.seconds = 100
    leases.ensure_held()
    clock.seconds = 111
    with pytest.raises(LeaseBusy):
        leases.ensure_held()


def test_a_lease_that_another_took_over_is_not_renewed(database: Database) -> None:
    """After a take-over, a late renewal by the old holder does not take the lease back.

    `ensure_held` raises `LeaseBusy` for the old holder.
    """
    clock = Clock()
    mine, other = Leases(database, "mine", 0.001, clock), Leases(database, "other", 60)
    assert mine.acquire("a")
    until(lambda: other.acquire("a"))
    mine.renew()
    clock.seconds = 1
    with pytest.raises(LeaseBusy):
        mine.ensure_held()
    mine.release("a")
    assert not Leases(database, "third", 60).acquire("a")


def test_nobody_holds_a_lease_that_is_left_to_expire(database: Database) -> None:
    """A lease that is left to expire is not renewed.

    Until it expires, nobody can release or acquire it, not even its old holder.
    """
    mine, other = Leases(database, "mine", 60), Leases(database, "other", 60)
    assert mine.acquire("a")
    mine.expire_after("a", 600)
    mine.release("a")
    assert not mine.acquire("a")
    assert not other.acquire("a")
    assert mine.acquire("b")
    mine.expire_after("b", -1)
    mine.renew()
    assert other.acquire("b")


def test_a_lease_may_be_waited_for_without_a_take_over(database: Database, database_url: str) -> None:
    """With `take_over=False`, the lease of a killed process is not acquired before it expires.

    Otherwise, it is taken over at once.
    """
    held = CONTEXT.Event()
    mine = Leases(database, "mine", 60)
    with child(hold, database_url, "a", held) as holder:
        assert held.wait(LONGEST_SECONDS)
        kill(holder)
    assert not mine.acquire("a", take_over=False)
    assert mine.acquire("a")
