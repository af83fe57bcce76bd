"""While the database accepts no writes, messages wait and none is lost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.creation.creation import creation_lease
from sync.errors import UpstreamError
from sync.pipeline import outages
from sync.pipeline.outages import UpstreamsUnavailable
from sync.settings import times
from sync.settings.upstreams import UpstreamName
from sync.store.database import StoreUnavailable
from sync.store.leases import Leases
from tests.harness.app import open_application
from tests.harness.clocks import clock_of
from tests.harness.faults import held
from tests.harness.pipeline import draining, nothing_lost
from tests.harness.publishing import visit_booked
from tests.harness.waiting import failure_of, in_thread, result_of, until

pytestmark = pytest.mark.usefixtures("no_pauses")
VISITS = "/prisoners/{offenderNo}/visits"


#: The number of checks of the queue: far more than the three receives after which a message is a dead letter.
MANY = 15


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps a SQLite file locked during the `with` block, by means of an unfinished write on another connection."""
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    other.close()


def impatient(path: Path) -> str:
    """The address of a SQLite file whose writers wait only briefly for their turn."""
    return f"sqlite:///{path}?timeout=0.05"


def test_nothing_is_received_while_the_database_is_locked(sandbox: Sandbox, tmp_path: Path) -> None:
    """While the database is locked, a drain receives nothing, however often it tries.

    Afterwards, all messages are handled.
    """
    with open_application(sandbox.environment(), impatient(tmp_path / "one.db")) as application:
        drain, main = application.open_drain("visit"), application.queue_pair("visit").main
        sandbox.traffic(events=5, seed=4, queues=["visit"])
        with locked(tmp_path / "one.db"):
            for _ in range(4):
                with pytest.raises(StoreUnavailable):
                    drain.run_batch()
            assert (main.counts().visible, main.counts().in_flight) == (5, 0)
        # On a slow machine, one writer may wait too long for another, since all have a short timeout.
        with draining(application, "visit"):
            until(lambda: main.counts().total == 0)
        nothing_lost(sandbox, application, "visit")


def test_messages_in_flight_are_parked_while_the_database_is_locked(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the database stops accepting writes, messages in flight are parked.

    They are handled once it accepts writes again.
    """
    monkeypatch.setattr(times, "DATABASE_POLL_SECONDS", 0.01)
    waits: list[int] = []

    def seen(application: Application) -> bool:
        waits.append(application.queue_pair("visit").main.counts().in_flight)
        return len(waits) > MANY and any(each["event"] == "database-unavailable" for each in logs)

    with open_application(sandbox.environment(), impatient(tmp_path / "one.db"), DRAIN_CONCURRENCY="1") as application:
        application.queue_pair("visit")
        sandbox.traffic(events=5, seed=4, queues=["visit"])
        with (
            capture_logs() as logs,
            held(sandbox, "nomis", "POST", VISITS) as create,
            draining(application, "visit"),
        ):
            create.wait_for_request()
            with locked(tmp_path / "one.db"):
                create.release()
                until(lambda: seen(application))
            until(lambda: application.queue_pair("visit").main.counts().total == 0)
        assert set(waits) == {5}
        nothing_lost(sandbox, application, "visit")


def test_a_drain_keeps_its_time_limit_if_the_database_hangs(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if each attempt to use the database hangs, a drain ends at its time limit and returns its messages."""
    # An attempt takes as long as the pause between two checks, so that an attempt is under way most of the time.
    monkeypatch.setattr(times, "DATABASE_POLL_SECONDS", 0.0)
    with open_application(sandbox.environment(), f"sqlite:///{tmp_path}/one.db?timeout=0.3") as application:
        pair = application.queue_pair("visit")
        visit_booked(sandbox).publish()
        with held(sandbox, "nomis", "POST", VISITS) as create:
            drain = application.open_drain("visit", hold_seconds=0.7)
            working = in_thread(drain.run_until_empty)
            create.wait_for_request()
            with locked(tmp_path / "one.db"):
                create.release()
                error = failure_of(working)
        assert isinstance(error, UpstreamsUnavailable)
        assert "the database" in str(error)
        assert (drain.summary.received, drain.summary.deferred) == (1, 1)
        assert (pair.main.counts().visible, pair.main.counts().in_flight) == (1, 0)


def test_a_drain_by_command_waits_for_the_database_before_it_receives(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drain run by a command receives nothing until the database accepts writes.

    If its time limit is reached first, the drain gives up.
    """
    monkeypatch.setattr(times, "DATABASE_POLL_SECONDS", 0.01)
    url = f"sqlite:///{tmp_path}/one.db?timeout=0.05"
    with open_application(sandbox.environment(), url) as application:
        main = application.queue_pair("visit").main
        for _ in range(3):
            visit_booked(sandbox).publish()
        drain = application.open_drain("visit", hold_seconds=0.2)
        with locked(tmp_path / "one.db"):
            with pytest.raises(UpstreamsUnavailable, match="the database"):
                drain.run_until_empty()
            with pytest.raises(UpstreamsUnavailable, match="the database"):
                drain.run_batch()
        assert main.counts().visible == 3
    with open_application(sandbox.environment(), url) as application, capture_logs() as logs:
        drain = application.open_drain("visit", hold_seconds=600)
        with locked(tmp_path / "one.db"):
            working = in_thread(drain.run_until_empty)
            until(lambda: any(each["event"] == "database-unavailable" for each in logs))
        assert result_of(working).applied == 3
        nothing_lost(sandbox, application, "visit")


def test_parked_messages_are_not_given_up_after_an_outage(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a database outage, a drain does not give up on a message that is parked for another reason.

    Here, the message waits for a lease that another process holds.
    """
    for name in ("DATABASE_POLL_SECONDS", "POLL_SECONDS"):
        monkeypatch.setattr(times, name, 0.01)
    clock = clock_of(monkeypatch, outages)
    with open_application(sandbox.environment(), impatient(tmp_path / "one.db")) as application:
        main, drain = application.queue_pair("visit").main, application.open_drain("visit", hold_seconds=600)
        worked, leased = visit_booked(sandbox), visit_booked(sandbox)
        other, key = Leases(application.database, "living", 300), creation_lease("visit", leased.dps_id)
        assert other.acquire(key)
        for each in (worked, leased):
            each.publish()
        until(lambda: main.counts().visible == 2)
        with capture_logs() as logs, held(sandbox, "nomis", "POST", VISITS) as create:
            working = in_thread(drain.run_batch)
            create.wait_for_request()
            with locked(tmp_path / "one.db"):
                create.release()
                until(lambda: any(each["event"] == "database-unavailable" and "messages" in each for each in logs))
            until(lambda: main.counts().total == 1)
            clock.ahead = 3_600.0
            other.release(key)
            assert result_of(working).applied == 2
        nothing_lost(sandbox, application, "visit")


@pytest.mark.parametrize("what", ["database", "service"])
def test_each_drain_has_the_full_time_limit(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """If a drain gives up because of an outage, it waits for the full time limit again when it is next run."""
    monkeypatch.setattr(times, "DATABASE_POLL_SECONDS", 0.01)
    hold = 0.3
    with open_application(sandbox.environment(), impatient(tmp_path / "one.db")) as application, ExitStack() as outage:
        drain = application.open_drain("visit", hold_seconds=hold)
        if what == "database":
            outage.enter_context(locked(tmp_path / "one.db"))
        else:
            sandbox.fault("nomis", status=503)
            for number in range(3):
                error = UpstreamError("nomis", "GET", f"/{number}", status=503, message="")
                application.breakers.after_call(UpstreamName.NOMIS, "GET", error, 0.01)
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(UpstreamsUnavailable):
                drain.run_until_empty()
            assert time.monotonic() - started >= hold
