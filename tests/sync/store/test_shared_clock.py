"""Times that processes compare do not depend on a local clock that is wrong or changes."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from alembic import command
from sqlalchemy import insert, select
from structlog import get_logger

from benchmarks.forked_command import CONTEXT
from sync.clock import now
from sync.creation.store import CreationStore
from sync.domains.registry import DOMAINS
from sync.store import outbox
from sync.store.creations import find_record
from sync.store.database import Database, _migrations
from sync.store.leases import Leases
from sync.store.tables import leases
from sync.store.telemetry import Telemetry

STEPS = pytest.mark.parametrize("step", [timedelta(minutes=3), timedelta(minutes=-3)], ids=["forward", "back"])
VISIT = DOMAINS["visits"].creation
MINUTE = timedelta(minutes=1)


@STEPS
def test_a_clock_change_does_not_end_a_lease(database: Database, database_url: str, step: timedelta) -> None:
    """After a clock change, neither a running process nor one that starts later can acquire a held lease."""
    assert Leases(database, "holder", 60).acquire("a")
    with time_machine.travel(now() + step):
        assert not Leases(database, "other", 60).acquire("a")
        assert not Leases(Database(database_url), "later", 60).acquire("a")


@STEPS
def test_a_clock_change_does_not_prolong_a_lease(database: Database, step: timedelta) -> None:
    """An expired lease can be acquired, even if its expiry time was set while the local clock was wrong."""
    holder, other = Leases(database, "holder", 60), Leases(database, "other", 60)
    with time_machine.travel(now() + step):
        assert holder.acquire("a")
        holder.expire_after("a", -1)
    assert other.acquire("a")


@STEPS
def test_a_clock_change_does_not_affect_a_delivery(database: Database, step: timedelta) -> None:
    """After a clock change, a claimed delivery is still not due, and a delivery that was due before is still due."""
    with database.begin() as connection:
        for key in ("claimed", "due"):
            outbox.enqueue(connection, key, "slack", {})
        claimed = outbox.find(connection, "claimed")
        assert claimed is not None
        assert outbox.claim(connection, claimed, now() + MINUTE) is not None
    with time_machine.travel(now() + step), database.read() as connection:
        assert [each.key for each in outbox.due(connection, 10)] == ["due"]


@STEPS
def test_a_clock_change_does_not_age_an_intent(database: Database, step: timedelta) -> None:
    """After a clock change, the age of an intent is still right."""
    store = CreationStore(database, Telemetry(database, get_logger()))
    store.intend(VISIT, "bq", {}, {}, None)
    with time_machine.travel(now() + step):
        record = store.read(VISIT, "bq")
        assert record is not None
        for moment in (record.intended_at, record.updated_at):
            assert timedelta(seconds=-1) < now() - moment < MINUTE / 2


def hold_by_a_wrong_clock(url: str) -> None:
    """The code of a process whose clock is three hours slow.

    It records an intent, claims a delivery and acquires a lease.
    """
    with time_machine.travel(now() - timedelta(hours=3)):
        database = Database(url)
        CreationStore(database, Telemetry(database, get_logger())).intend(VISIT, "bq", {}, {}, None)
        with database.begin() as connection:
            outbox.enqueue(connection, "claimed", "slack", {})
            delivery = outbox.find(connection, "claimed")
            assert delivery is not None
            assert outbox.claim(connection, delivery, now() + MINUTE) is not None
        assert Leases(database, "late", 600).acquire("a")
        database.dispose()


def test_a_time_written_by_a_wrong_clock_is_right_for_others(database: Database, database_url: str) -> None:
    """If a process with a wrong clock writes leases, deliveries and intents, other processes read the right times."""
    process = CONTEXT.Process(target=hold_by_a_wrong_clock, args=(database_url,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert not Leases(database, "other", 60).acquire("a", take_over=False)
    with database.read() as connection:
        assert outbox.due(connection, 10) == []
        record = find_record(connection, "visit", "bq")
    assert record is not None
    assert abs(now() - record.intended_at) < MINUTE


def test_rows_of_the_earlier_schema_keep_their_times(tmp_path: Path) -> None:
    """After an upgrade, the times of leases from an earlier version are still right, and so are those of new leases."""
    path = tmp_path / "old.db"
    database = Database(f"sqlite:///{path}")
    with database.begin() as connection:
        command.upgrade(_migrations(connection), "0001")
    with closing(sqlite3.connect(path)) as old:
        for key, expires_at in (("held", now() + MINUTE), ("over", now() - MINUTE)):
            moment = expires_at.replace(tzinfo=None).isoformat(" ")
            old.execute("INSERT INTO leases (key, owner, expires_at) VALUES (?, 'old', ?)", (key, moment))
        old.commit()
    database.dispose()
    database.upgrade()
    mine = Leases(database, "mine", 60)
    assert not mine.acquire("held")
    assert mine.acquire("over")
    with database.begin() as connection:
        connection.execute(insert(leases), {"key": "new", "owner": "me", "expires_at": now() + MINUTE})
        read = connection.execute(select(leases.c.expires_at).where(leases.c.key == "new")).scalar_one()
    assert abs(read - now() - MINUTE) < timedelta(seconds=5)


def test_each_database_has_its_own_clock(tmp_path: Path, sqlite_template: Path) -> None:
    """A time is stored by the clock of its database, and is read back by the clock of the process."""
    expires_at = now() + MINUTE
    stored = []
    for name, set_by in (("now", now()), ("ahead", now() + timedelta(hours=1))):
        path = Path(shutil.copyfile(sqlite_template, tmp_path / f"{name}.db"))
        with closing(sqlite3.connect(path)) as file:
            file.execute("DELETE FROM clocks")
            file.commit()
        with time_machine.travel(set_by):
            Database(f"sqlite:///{path}").ping()
        database = Database(f"sqlite:///{path}")
        with database.begin() as connection:
            connection.execute(insert(leases), {"key": "a", "owner": "me", "expires_at": expires_at})
            read = connection.execute(select(leases.c.expires_at)).scalar_one()
            stored.append(
                datetime.fromisoformat(connection.exec_driver_sql("SELECT expires_at FROM leases").scalar_one())
            )
        assert abs(read - expires_at) < timedelta(seconds=5)
    assert abs(stored[1] - stored[0] - timedelta(hours=1)) < timedelta(seconds=5)
