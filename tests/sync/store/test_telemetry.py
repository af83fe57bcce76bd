"""Tracked events are buffered, written and read. Neither an outage nor concurrent use loses any of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from structlog import get_logger
from structlog.testing import capture_logs

from sandbox.postgres import PostgresServer
from sync.clock import now
from sync.store.database import Database, StoreUnavailable
from sync.store.telemetry import FLUSH_AT, Telemetry, read_events
from tests.harness.waiting import in_thread, result_of


def stored(database: Database) -> Telemetry:
    """Telemetry that stores its events in `database`."""
    return Telemetry(database, get_logger())


def test_events_are_read_as_they_were_tracked(database: Database) -> None:
    """Events are logged at once and, after a flush, read oldest first.

    Their properties are converted to text, and properties that are None are left out.
    """
    telemetry = stored(database)
    with capture_logs() as logs:
        telemetry.track("first", {"number": 5, "truth": True, "unknown": None})
        telemetry.track("second", {})
    assert [(each["event"], each["properties"]) for each in logs] == [
        ("first", {"number": "5", "truth": "true"}),
        ("second", {}),
    ]
    assert list(read_events(database)) == []
    telemetry.flush()
    telemetry.flush()
    events = list(read_events(database))
    assert [(each["name"], each["properties"]) for each in events] == [
        ("first", {"number": "5", "truth": "true"}),
        ("second", {}),
    ]
    assert events[0]["time"].endswith("+00:00")


def test_failures_are_warnings_and_differences_are_not(database: Database) -> None:
    """Events about failures are logged as warnings.

    Events about differences that a reconciliation found are not, even if their names end with `failed`.
    """
    telemetry = stored(database)
    levels = {
        "visit-create-failed": "warning",
        "appointments-reports-reconciliation-failed": "warning",
        "activity-allocation-reconciliation-report-failed": "info",
        "visits-reports-reconciliation-mismatch": "info",
    }
    with capture_logs() as logs:
        for name in levels:
            telemetry.track(name, {})
    assert {each["event"]: each["log_level"] for each in logs} == levels


def test_events_are_filtered_by_name_and_time(database: Database) -> None:
    """`name` and `since` filter the events, alone or together."""
    telemetry = stored(database)
    telemetry.track("a", {})
    telemetry.flush()
    moment = now()
    telemetry.track("a", {"late": "yes"})
    telemetry.track("b", {})
    telemetry.flush()
    assert len(list(read_events(database, name="a"))) == 2
    assert [each["name"] for each in read_events(database, since=moment)] == ["a", "b"]
    assert [each["properties"] for each in read_events(database, name="a", since=moment)] == [{"late": "yes"}]
    assert list(read_events(database, since=now() + timedelta(hours=1))) == []


def test_any_number_of_events_is_read_in_order(database: Database) -> None:
    """Reading in pages neither loses nor repeats an event, even if all events have the same time.

    `newest` selects the given number of the latest events.
    """
    telemetry = stored(database)
    with time_machine.travel(now(), tick=False):
        for number in range(2500):
            telemetry.track("each", {"number": number})
        telemetry.flush()
    events = list(read_events(database))
    assert len({each["time"] for each in events}) == 1
    assert [each["properties"]["number"] for each in events] == [str(number) for number in range(2500)]
    assert list(read_events(database, newest=1200)) == events[-1200:]
    assert list(read_events(database, newest=2501)) == events


def test_a_full_buffer_is_written(database: Database) -> None:
    """When the buffer reaches its limit, its events are written without a call of `flush`."""
    telemetry = stored(database)
    for _ in range(FLUSH_AT + 1):
        telemetry.track("each", {})
    assert len(list(read_events(database))) == FLUSH_AT


def test_an_event_is_stored_with_its_transaction(database: Database) -> None:
    """An event that is tracked in a transaction is stored only if the transaction is committed."""
    telemetry = stored(database)

    def fail() -> None:
        with database.begin() as connection:
            telemetry.track_with(connection, "undone", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.begin() as connection:
        telemetry.track_with(connection, "kept", {"a": 1})
    assert [(each["name"], each["properties"]) for each in read_events(database)] == [("kept", {"a": "1"})]


def test_many_threads_lose_nothing(database: Database) -> None:
    """Many threads track and flush concurrently, and every event is stored once."""
    telemetry = stored(database)

    def work(thread: int) -> None:
        for number in range(60):
            telemetry.track("each", {"id": f"{thread}-{number}"})
            if number % 20 == 0:
                telemetry.flush()
        telemetry.flush()

    for working in [in_thread(work, thread) for thread in range(8)]:
        result_of(working)
    found = [each["properties"]["id"] for each in read_events(database)]
    assert len(found) == len(set(found)) == 480


def test_an_outage_loses_nothing() -> None:
    """While the database is unavailable, events stay buffered and a flush raises `StoreUnavailable`.

    After the outage, a flush writes all events in order.
    """
    server = PostgresServer()
    try:
        server.start()
        database = Database(server.url.render_as_string())
        database.upgrade()
        telemetry = stored(database)
        server.stop()
        for number in range(FLUSH_AT + 5):
            telemetry.track("each", {"number": number})
        with pytest.raises(StoreUnavailable):
            telemetry.flush()
        server.start()
        telemetry.track("each", {"number": "last"})
        telemetry.flush()
        found: list[Any] = [each["properties"]["number"] for each in read_events(database)]
        assert found == [*(str(number) for number in range(FLUSH_AT + 5)), "last"]
        database.dispose()
    finally:
        server.close()


def test_a_rejected_event_does_not_stop_the_others(database: Database) -> None:
    """If the database rejects an event, the other events of the same flush and of later flushes are written.

    The log names the rejected event.
    """
    telemetry = stored(database)
    with database.begin() as connection:
        if database.dialect == "sqlite":
            refused = "WHEN NEW.name = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END"
            connection.exec_driver_sql(f"CREATE TRIGGER bad BEFORE INSERT ON telemetry_events {refused}")
        else:
            connection.exec_driver_sql("ALTER TABLE telemetry_events ADD CONSTRAINT bad CHECK (name <> 'bad')")
    try:
        with capture_logs() as logs:
            for name in ("first", "bad", "last"):
                telemetry.track(name, {})
            telemetry.flush()
        telemetry.track("later", {})
        telemetry.flush()
    finally:
        if database.dialect == "postgresql":
            with database.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE telemetry_events DROP CONSTRAINT bad")
    assert [each["name"] for each in read_events(database)] == ["first", "last", "later"]
    assert [each["event_name"] for each in logs if each["event"] == "telemetry-refused"] == ["bad"]
