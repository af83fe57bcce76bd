"""An installation with the released schema is upgraded to the current schema, and keeps all its records."""

import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Column, Connection, MetaData, insert, select, text
from sqlalchemy.engine import URL

from sync.store import actions, tables
from sync.store.database import Database
from tests.harness.databases import drop_database, make_database

RELEASED = "0001"


@pytest.fixture(params=["sqlite", "postgresql"])
def released(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with the released schema, once for each kind of database."""
    url = f"sqlite:///{tmp_path}/store.db"
    server: URL | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    name = None
    if server is not None:
        made = make_database(server)
        url, name = made.render_as_string(hide_password=False), made.database
    database = Database(url)
    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, RELEASED)
    yield database
    database.dispose()
    if server is not None and name is not None:
        drop_database(server, name)


def some_value(column: Column[Any]) -> object:
    """A value that the column can hold."""
    kind = column.type.python_type
    if kind is datetime:
        return datetime(2023, 5, 1, 10, tzinfo=UTC)
    packed = zlib.compress(b'{"reconciliation": "incentives"}')
    values: dict[type, object] = {int: 7, str: "abc", bool: True, float: 1.5, bytes: packed, dict: {"a": 1}}
    return values[kind]


def everything(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """The rows of all tables except Alembic's, by table name."""
    metadata = MetaData()
    metadata.reflect(connection)
    return {
        name: [dict(row) for row in connection.execute(select(table)).mappings()]
        for name, table in metadata.tables.items()
        if name != "alembic_version"
    }


def test_an_upgrade_keeps_every_row(released: Database) -> None:
    """After the upgrade, every row still has the same values in the columns that it had before."""
    with released.begin() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        for table in metadata.sorted_tables:
            if table.name != "alembic_version":
                connection.execute(insert(table), {column.name: some_value(column) for column in table.columns})
    with released.read() as connection:
        before = everything(connection)
    assert not released.schema_is_current()
    released.upgrade()
    assert released.schema_is_current()
    with released.read() as connection:
        after = everything(connection)
    assert len(before) > 10
    for name, rows in before.items():
        assert len(rows) == 1
        assert [{column: row[column] for column in rows[0]} for row in after[name]] == rows


def test_mismatches_of_the_released_schema_belong_to_incentives(released: Database) -> None:
    """After the upgrade, the key of an earlier mismatch is its booking id.

    The mismatch and its run belong to the reconciliation of incentives.
    """
    with released.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO reconciliation_runs (id, status, scope, parameters, started_at, shards, finished_shards) "
                "VALUES ('run-1', 'complete', 'everyone', '{}', '2023-05-01 04:00:00', 1, '[0]')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO reconciliation_mismatches (run_id, booking_id, offender_no, nomis_level, since, standing) "
                "VALUES ('run-1', 1204417, 'A4471CK', 'STD', '2023-04-01 04:00:00', 'persisting')"
            )
        )
    released.upgrade()
    with released.read() as connection:
        run = connection.execute(select(tables.reconciliation_runs.c.reconciliation)).scalar_one()
        row = connection.execute(select(tables.reconciliation_mismatches)).one()
    assert (run, row.reconciliation) == ("incentives", "incentives")
    assert (row.key, row.booking_id, row.nomis_level) == ('{"bookingId":1204417}', 1204417, "STD")
    assert (row.kind, row.differences) == ("NOMIS_only", [{"field": "level", "nomis": "STD", "dps": None}])
    assert row.since == datetime(2023, 4, 1, 4, tzinfo=UTC)


def test_results_of_the_released_schema_get_the_general_fields(released: Database) -> None:
    """After the upgrade, an earlier result names its reconciliation, and each of its mismatches has a key.

    The unread pages of the result are among its gaps.
    """
    stored = {
        "runId": "run-1",
        "compared": 2,
        "mismatches": [{"bookingId": 1204417, "standing": "new"}],
        "unread": [{"offenderNo": "A4471CK", "bookingId": None, "reason": "unknown"}],
        "unreadPages": [{"page": 3, "reason": "status 500"}],
    }
    run = {
        "id": "run-1",
        "status": "incomplete",
        "scope": "everyone",
        "parameters": {},
        "started_at": datetime(2023, 5, 1, 4, tzinfo=UTC),
        "shards": 1,
        "finished_shards": [0],
        "result": zlib.compress(json.dumps(stored).encode()),
    }
    with released.begin() as connection:
        columns = MetaData()
        columns.reflect(connection, only=["reconciliation_runs"])
        connection.execute(insert(columns.tables["reconciliation_runs"]), run)
    released.upgrade()
    with released.read() as connection:
        found = json.loads(
            zlib.decompress(connection.execute(select(tables.reconciliation_runs.c.result)).scalar_one())
        )
    general = {name: found[name] for name in ("reconciliation", "title", "counted", "suspicious")}
    assert list(general.values()) == ["incentives", "Incentive levels", "prisoners", None]
    assert found["gaps"] == [{"what": "page 3 of the prisoners", "reason": "status 500"}]
    assert found["mismatches"] == [{"key": {"bookingId": 1204417}, "bookingId": 1204417, "standing": "new"}]
    assert found["unread"] == stored["unread"]


def test_actions_of_the_released_schema_get_a_state(released: Database) -> None:
    """After the upgrade, each earlier action has a state that says whether it was done."""
    row = "INSERT INTO actions (time, who, action, target, details, outcome) VALUES ('2023-05-01 10:00:00', 'jane', "
    with released.begin() as connection:
        connection.execute(text(row + "'dlq purge', 'visit', '{}', '3 messages removed')"))
        connection.execute(text(row + "'incentives repair', 'prisoner', '{}', 'failed: nomis: POST')"))
    released.upgrade()
    with released.read() as connection:
        found = actions.list_actions(connection)
    assert [each.state for each in found] == ["failed", "done"]
