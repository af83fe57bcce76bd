"""Leases that expire while their holder works, and those that deliberately outlast it."""

from __future__ import annotations

import pytest

from benchmarks.forked_command import CONTEXT
from sync.failures import LeaseBusy
from sync.store.database import Database
from sync.store.leases import Leases
from tests.harness.databases import hold
from tests.harness.processes import child, kill
from tests.harness.waiting import LONGEST_SECONDS, in_thread, result_of, until


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Returns the seconds to which the test has set the clock."""
        return self.seconds


def test_a_holder_that_was_stopped_too_long_may_not_write(database: Database) -> None:
    """When an unrenewed lease has ended, its thread gets an error, while other threads keep their leases."""
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


def test_what_is_to_be_written_soon_is_not_written_late(database: Database) -> None:
    """In such a block its thread gets an error once the time has passed, while other threads may write."""
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


def test_a_renewed_lease_is_held_on(database: Database) -> None:
    """Each renewal extends the lease, counted from the start of that renewal."""
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
    """A late renewal does not take a lease back from its new holder, and the old holder is told."""
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


def test_a_lease_left_to_expire_is_nobodys(database: Database) -> None:
    """A lease that is left to expire cannot be acquired before that, even by its old holder, or renewed."""
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


def test_the_lease_of_a_dead_process_may_be_waited_for(database: Database, database_url: str) -> None:
    """An acquisition without take-over waits for the full time of a lease, even if its holder was killed."""
    held = CONTEXT.Event()
    mine = Leases(database, "mine", 60)
    with child(hold, database_url, "a", held) as holder:
        assert held.wait(LONGEST_SECONDS)
        kill(holder)
    assert not mine.acquire("a", take_over=False)
    assert mine.acquire("a")
