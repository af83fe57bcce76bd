"""PostgreSQL behind PgBouncer in transaction mode, in which each transaction may use a different server connection."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from sync.clock import now
from sync.errors import Failure
from sync.store.database import Database
from sync.store.failed_attempts import FailedAttempt, attempts_at, record_failures
from sync.store.leases import Leases
from tests.harness.databases import Pooler, drop_database, make_database
from tests.harness.waiting import in_thread, result_of, until


@pytest.fixture
def pooled(postgres: URL) -> Iterator[str]:
    """The address of an empty database behind the pooler."""
    pooler = Pooler(postgres)
    url = make_database(postgres)
    assert url.database is not None
    yield pooler.url(url.database)
    pooler.close()
    drop_database(postgres, url.database)


def test_everything_works_through_a_pooler(pooled: str) -> None:
    """The upgrade, the leases of several threads and repeated statements all work through a pooler."""
    database = Database(pooled)
    database.upgrade()
    assert database.schema_is_current()
    database.ping(writing=True)
    leases = Leases(database, "me", 60)
    failure = Failure("step", None, None, None, None, "reason", recoverable=True)

    def work(number: int) -> None:
        for turn in range(15):
            key = f"key-{(number + turn) % 3}"
            until(partial(leases.acquire, key))
            attempt = FailedAttempt(now(), "visit", f"m-{number}", None, None, None, turn, failure)
            with database.begin() as connection:
                record_failures(connection, [attempt])
            with database.read() as connection:
                found = attempts_at(connection, "visit", [(None, f"m-{number}")])
                assert found[f"m-{number}"].number == turn + 1
            leases.release(key)

    for working in [in_thread(work, number) for number in range(6)]:
        result_of(working)
    database.dispose()


def test_the_limits_of_a_writer_end_with_its_transaction(pooled: str) -> None:
    """The time limits of a writer do not affect the next user of the connection, even if it is another program."""
    database = Database(pooled)
    asked = "SHOW lock_timeout", "SHOW idle_in_transaction_session_timeout"
    with database.begin() as connection:
        assert [connection.execute(text(each)).scalar_one() for each in asked] == ["30s", "1min"]
    with psycopg.connect(pooled) as other:
        assert [other.execute(each).fetchone() for each in asked] == [("0",), ("0",)]
    database.dispose()
