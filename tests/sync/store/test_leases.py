"""Leases exclude other threads and processes, even through crashes and outages."""

from __future__ import annotations

import os
import threading
from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from benchmarks.forked_command import CONTEXT
from sandbox.postgres import PostgresServer
from sync.clock import now
from sync.errors import LeaseBusy
from sync.store.database import Database, StoreUnavailable
from sync.store.leases import Leases
from sync.store.process_names import process_is_gone, this_process
from sync.store.tables import leases
from tests.harness.databases import event_listener, hold
from tests.harness.processes import child, exit_codes, kill
from tests.harness.waiting import LONGEST_SECONDS, in_thread, result_of, until


def count_alone(url: str, folder: str) -> None:
    """The code of a racing process.

    It adds 1 to a counter 15 times, and fails if another process does so at the same moment.
    """
    mine = Leases(Database(url), "racer", 60)
    marker, counter = Path(folder) / "busy", Path(folder) / "counter"
    for _ in range(15):
        until(lambda: mine.acquire("one"))
        marker.touch(exist_ok=False)
        counter.write_text(str(int(counter.read_text()) + 1))
        marker.unlink()
        mine.release("one")


def test_one_holder_at_a_time(database: Database) -> None:
    """While the lease of a key is held, neither the same `Leases` object nor another can acquire it."""
    one, other = Leases(database, "one", 60), Leases(database, "other", 60)
    assert one.acquire("a")
    assert not one.acquire("a")
    assert not other.acquire("a")
    assert other.acquire("b")
    one.release("a")
    assert other.acquire("a")


def test_two_of_the_same_name_exclude_each_other(database: Database) -> None:
    """Of two `Leases` objects with the same owner, only the one that acquired a lease holds it and can release it."""
    one, other = (Leases(database, "scheduler", 60) for _ in range(2))
    assert one.acquire("a")
    assert not other.acquire("a")
    other.release("a")
    assert not Leases(database, "third", 60).acquire("a")


def test_a_with_block_holds_and_releases(database: Database) -> None:
    """While a block holds a lease with `held`, a further `held` for the same key raises `LeaseBusy`.

    The lease is released even if the block raises an error.
    """
    one, other = Leases(database, "one", 60), Leases(database, "other", 60)

    def fail() -> None:
        with one.held("a"):
            with pytest.raises(LeaseBusy) as caught, other.held("a"):
                pass
            assert caught.value.recoverable
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with other.held("a"):
        pass


def test_racing_processes_take_turns(database: Database, database_url: str, tmp_path: Path) -> None:
    """Processes that race for one lease never hold it at the same time, and each gets all its turns."""
    (tmp_path / "counter").write_text("0")
    arguments = (database_url, str(tmp_path))
    assert exit_codes(count_alone, arguments, arguments, arguments) == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "45"


def test_racing_threads_take_turns(database: Database) -> None:
    """Threads that share one `Leases` object exclude each other, as separate processes do."""
    shared, inside, most = Leases(database, "shared", 60), [0], [0]

    def work() -> None:
        for _ in range(10):
            until(lambda: shared.acquire("a"))
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1
            shared.release("a")

    for working in [in_thread(work) for _ in range(6)]:
        result_of(working)
    assert (inside, most) == ([0], [1])


def test_the_lease_of_a_killed_process_is_taken_over_at_once(database: Database, database_url: str) -> None:
    """A process on the same machine can take over the lease of a killed process at once, before the lease expires."""
    held = CONTEXT.Event()
    mine = Leases(database, "mine", 60)
    with child(hold, database_url, "a", held) as holder:
        assert held.wait(LONGEST_SECONDS)
        assert not mine.acquire("a")
        kill(holder)
    assert mine.acquire("a")


def test_a_lease_of_another_machine_lasts_until_its_end(database: Database) -> None:
    """A lease held on another machine cannot be taken over before it expires, since its holder may be alive."""
    elsewhere = Leases(database, "elsewhere", 60)
    assert elsewhere.acquire("a")
    with database.begin() as connection:
        connection.execute(update(leases).values(owner="pod|0a1b2c3d-0000:4026531836/17/4711|1"))
    mine = Leases(database, "mine", 60)
    assert not mine.acquire("a")
    with database.begin() as connection:
        connection.execute(update(leases).values(expires_at=now()))
    assert mine.acquire("a")


def test_the_old_holder_cannot_release_a_lease_taken_over(database: Database) -> None:
    """A holder whose lease expired can neither release nor renew the lease of the next holder."""
    slow, next_one, third = Leases(database, "slow", 0.01), Leases(database, "next", 60), Leases(database, "third", 60)
    assert slow.acquire("a")
    until(lambda: next_one.acquire("a"))
    slow.renew()
    slow.release("a")
    assert not third.acquire("a")


def expiry(database: Database) -> datetime:
    """The expiry time of the only lease."""
    with database.read() as connection:
        found: datetime = connection.execute(select(leases.c.expires_at)).scalar_one()
    return found


def test_a_renewed_lease_outlives_its_length(database: Database) -> None:
    """A lease lasts for as long as its holder renews it. Without further renewals, it expires."""
    holder, other = Leases(database, "holder", 0.6), Leases(database, "other", 60)
    holder.acquire("a")
    first = expiry(database)
    holder.start_renewing()
    until(lambda: expiry(database) > first + timedelta(seconds=1))
    holder.stop()
    until(lambda: other.acquire("a"))


def test_a_failed_release_is_made_up_by_the_next_acquisition() -> None:
    """If a database outage prevents a release, the same process releases the lease when it next acquires any lease."""
    server = PostgresServer()
    try:
        server.start()
        database = Database(server.url.render_as_string())
        database.upgrade()
        mine, other = Leases(database, "mine", 600), Leases(database, "other", 600)
        assert mine.acquire("a")
        assert mine.acquire("b")
        server.stop()
        mine.release("a")
        mine.release("b")
        with pytest.raises(StoreUnavailable):
            mine.acquire("a")
        server.start()
        assert mine.acquire("a")
        assert other.acquire("b")
        mine.renew()
        assert not other.acquire("a")
        database.dispose()
    finally:
        server.close()


def test_renewing_continues_through_an_outage() -> None:
    """A renewal that fails is logged and tried again, so a short outage does not end the lease."""
    server = PostgresServer()
    try:
        server.start()
        database = Database(server.url.render_as_string())
        database.upgrade()
        holder = Leases(database, "holder", 0.6)
        assert holder.acquire("a")
        first = expiry(database)
        server.stop()
        with capture_logs() as logs:
            holder.start_renewing()
            until(lambda: [each for each in logs if each["event"] == "leases-not-renewed"])
            server.start()
            until(lambda: expiry(database) > first)
        holder.stop()
        database.dispose()
    finally:
        server.close()


def test_any_text_may_be_a_key(database: Database) -> None:
    """Keys that are too long, or have characters that cannot be stored, work like any other keys and stay different."""
    one, other = Leases(database, "one", 60), Leases(database, "other", 60)
    keys = ["a" * 300, "a" * 300 + "b", "a\x00", "a", "a\ud800", "a" * 200]
    assert all(one.acquire(key) for key in keys)
    assert not any(other.acquire(key) for key in keys)
    one.renew()
    for key in keys:
        one.release(key)
    assert all(other.acquire(key) for key in keys)


def test_a_lease_that_the_database_rejects_fails_alone(database: Database) -> None:
    """If the database rejects one key, threads that acquire other keys at the same time still get their leases."""
    mine = Leases(database, "me", 60)
    with database.begin() as connection:
        if database.dialect == "sqlite":
            bad = "CREATE TRIGGER bad BEFORE INSERT ON leases WHEN NEW.key = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END"
            connection.exec_driver_sql(bad)
        else:
            connection.exec_driver_sql("ALTER TABLE leases ADD CONSTRAINT bad CHECK (key <> 'bad')")
    keys = ["bad", *(f"good-{number}" for number in range(8))]
    together = threading.Barrier(len(keys))

    def take(key: str) -> list[bool]:
        taken = []
        for turn in range(5):
            together.wait(LONGEST_SECONDS)
            try:
                taken.append(mine.acquire(f"{key}{turn}" if key != "bad" else key))
            except IntegrityError:
                assert key == "bad"
        return taken

    try:
        asking = [in_thread(take, key) for key in keys]
        assert [result_of(each) for each in asking] == [[], *[[True] * 5] * 8]
    finally:
        if database.dialect == "postgresql":
            with database.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE leases DROP CONSTRAINT bad")


def test_leases_acquired_together_succeed_separately(database: Database) -> None:
    """If threads try to acquire leases at the same time, they get every lease that is free.

    A lease with another holder stays with that holder.
    """
    mine, other = Leases(database, "me", 60), Leases(database, "other", 60)
    numbers = range(8)
    together = threading.Barrier(len(numbers))

    def take(number: int) -> list[bool]:
        taken = []
        for turn in range(5):
            together.wait(LONGEST_SECONDS)
            taken.append(mine.acquire(f"{turn}-{number}"))
        return taken

    for turn in range(5):
        assert all(other.acquire(f"{turn}-{number}") for number in numbers if number % 2)
    asking = [in_thread(take, number) for number in numbers]
    assert [result_of(each) for each in asking] == [[number % 2 == 0] * 5 for number in numbers]
    for number in numbers:
        (other if number % 2 else mine).release(f"0-{number}")
    assert all(Leases(database, "third", 60).acquire(f"0-{number}") for number in numbers)


def test_a_process_knows_whether_another_lives() -> None:
    """`process_is_gone` is true for a process that has ended, even if its number has been reused.

    It is false for the current process, for one on another machine, and for a string that names no process.
    """
    mine = this_process()
    place, number, start = mine.split("/")
    assert not process_is_gone(mine)
    assert process_is_gone(f"{place}/{number}/{int(start) - 1}")
    with child(os.getpid) as other:
        other.join(LONGEST_SECONDS)
        assert process_is_gone(f"{place}/{other.pid}/{start}")
    assert not process_is_gone(f"other-{place}/{number}/1")
    assert not process_is_gone("nonsense")


def test_a_signal_during_a_commit_reaches_its_thread(database: Database) -> None:
    """A signal that arrives while a thread releases a lease interrupts that thread.

    The lease is released at the next acquisition of any lease.
    """
    mine = Leases(database, "mine", 600)
    assert mine.acquire("a")

    def interrupt(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("DELETE FROM leases"):
            raise KeyboardInterrupt

    with event_listener("before_cursor_execute", interrupt), pytest.raises(KeyboardInterrupt):
        mine.release("a")
    assert mine.acquire("b")
    assert mine.acquire("a")


def test_many_threads_and_few_keys_exclude_each_other(database: Database) -> None:
    """When many threads compete for a few keys, only one at a time holds the lease of a key.

    Afterwards, no lease is still held.
    """
    leases, other = Leases(database, "me", 60), Leases(database, "other", 60)
    inside: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def work(number: int) -> None:
        for turn in range(20):
            key = f"key-{(number + turn) % 5}"
            until(partial(leases.acquire, key))
            inside[key] += 1
            most[key] = max(most[key], inside[key])
            inside[key] -= 1
            leases.release(key)

    for working in [in_thread(work, number) for number in range(12)]:
        result_of(working)
    assert set(most.values()) == {1}
    assert all(other.acquire(f"key-{number}") for number in range(5))
