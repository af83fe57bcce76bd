"""The database, used by many threads and processes, and its schema, on SQLite and on PostgreSQL."""

import os
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, insert, inspect, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError

from sandbox.postgres import PostgresServer
from sync.clock import now
from sync.settings.loading import SettingsError
from sync.store.database import Database, StoreUnavailable, newest_revision
from sync.store.tables import actions, leases, metadata
from tests.harness.databases import make_database
from tests.harness.processes import exit_codes
from tests.harness.waiting import in_thread, result_of


def lease(key: str) -> dict[str, object]:
    """A row for the table of leases, with `key` as its key."""
    return {"key": key, "owner": "me", "expires_at": now()}


def upgrade(url: str) -> None:
    """The code of a process that upgrades the database, and checks that the schema is then current."""
    database = Database(url)
    database.upgrade()
    assert database.schema_is_current()


def write_rows(url: str, prefix: str) -> None:
    """Makes many small transactions, each of which reads and then writes."""
    database = Database(url)
    for number in range(40):
        with database.begin() as connection:
            connection.execute(select(func.count()).select_from(leases)).scalar_one()
            connection.execute(insert(leases), lease(f"{prefix}-{number}"))


def test_the_migrations_create_exactly_the_tables(database: Database) -> None:
    """Alembic finds no difference between the tables that the migrations create and those that the program declares."""
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_file_is_the_newest_revision(database: Database) -> None:
    """The newest revision by file name is the one to which Alembic upgrades, and the revisions form a single line."""
    with database.read() as connection:
        assert MigrationContext.configure(connection).get_current_heads() == (newest_revision(),)


def test_several_processes_may_upgrade_at_once(tmp_path: Path, postgres: URL) -> None:
    """If several processes upgrade an empty database at the same time, all succeed and find the schema current."""
    for url in (
        f"sqlite:///{tmp_path}/new/folder/store.db",
        make_database(postgres).render_as_string(hide_password=False),
    ):
        assert exit_codes(upgrade, (url,), (url,), (url,)) == [0, 0, 0]


def test_a_new_database_is_not_current_until_upgraded(tmp_path: Path) -> None:
    """`schema_is_current` distinguishes an empty database from an upgraded database."""
    database = Database(f"sqlite:///{tmp_path}/store.db")
    assert not database.schema_is_current()
    database.upgrade()
    assert database.schema_is_current()


def test_a_failed_schema_change_leaves_nothing(tmp_path: Path) -> None:
    """A schema change that fails midway leaves no table behind, since the change is one transaction."""
    database = Database(f"sqlite:///{tmp_path}/store.db")

    def change_and_fail() -> None:
        with database.begin() as connection:
            metadata.create_all(connection)
            connection.execute(insert(leases), [lease("same"), lease("same")])

    with pytest.raises(IntegrityError):
        change_and_fail()
    with database.read() as connection:
        assert inspect(connection).get_table_names() == []


def test_a_failing_block_is_rolled_back(database: Database) -> None:
    """If the block of a transaction raises an error, everything that it wrote is undone."""

    def write_and_fail() -> None:
        with database.begin() as connection:
            connection.execute(insert(leases), lease("a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(leases)).scalar_one() == 0


def test_threads_and_processes_write_concurrently(database: Database, database_url: str) -> None:
    """Transactions that read before they write succeed in many threads and processes at the same time."""

    def write_shared(prefix: str) -> None:
        for number in range(40):
            with database.begin() as connection:
                connection.execute(insert(leases), lease(f"{prefix}-{number}"))

    threads = [in_thread(write_rows, database_url, f"thread-{n}") for n in range(4)]
    threads += [in_thread(write_shared, f"shared-{n}") for n in range(30)]
    assert exit_codes(write_rows, (database_url, "process-1"), (database_url, "process-2")) == [0, 0]
    for thread in threads:
        result_of(thread)
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(leases)).scalar_one() == 40 * 36


def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    """While a transaction writes, a reader sees the last committed state without waiting."""
    with database.begin() as writing:
        writing.execute(insert(leases), lease("a"))

        def read() -> int:
            with database.read() as connection:
                return connection.execute(select(func.count()).select_from(leases)).scalar_one()

        assert result_of(in_thread(read)) == 0


def test_stored_times_are_aware_and_in_utc(database: Database) -> None:
    """A time in any time zone is read as the same moment in UTC. A time without a time zone is refused."""
    moment = datetime(2026, 7, 1, 0, 30, tzinfo=ZoneInfo("Europe/London"))
    row = {"time": moment, "who": "a", "action": "b", "target": "c", "details": {}, "outcome": "d"}
    with database.begin() as connection:
        connection.execute(insert(actions), row)
        stored = connection.execute(select(actions.c.time)).scalar_one()
    assert (stored.replace(tzinfo=None), stored.tzinfo) == (datetime(2026, 6, 30, 23, 30), UTC)  # noqa: DTZ001
    with pytest.raises(Exception, match="without a time zone"), database.begin() as connection:
        connection.execute(insert(actions), row | {"time": moment.replace(tzinfo=None)})


def test_a_database_is_usable_again_after_an_outage() -> None:
    """While the server is down, each transaction raises `StoreUnavailable`.

    When the server is up again, the same `Database` works again.
    """
    server = PostgresServer()
    try:
        server.start()
        database = Database(server.url.render_as_string())
        database.upgrade()
        database.ping()
        server.stop()
        with pytest.raises(StoreUnavailable) as caught:
            database.ping()
        assert caught.value.recoverable
        with pytest.raises(StoreUnavailable), database.begin() as connection:
            connection.execute(insert(leases), lease("a"))
        server.start()
        with database.begin() as connection:
            connection.execute(insert(leases), lease("a"))
        database.dispose()
    finally:
        server.close()


def test_a_connection_lost_inside_a_transaction_is_unavailable() -> None:
    """If the server crashes between two statements of a transaction, the transaction raises `StoreUnavailable`."""
    server = PostgresServer()
    try:
        server.start()
        database = Database(server.url.render_as_string())
        database.upgrade()

        def write_while_the_server_crashes() -> None:
            with database.begin() as connection:
                connection.execute(insert(leases), lease("a"))
                server.stop()
                connection.execute(insert(leases), lease("b"))

        with pytest.raises(StoreUnavailable):
            write_while_the_server_crashes()
        database.dispose()
    finally:
        server.close()


def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    """If there is a folder at the path of the database file, the database counts as unavailable.

    The error gives the driver's reason.
    """
    database = Database(f"sqlite:///{tmp_path}/store.db")
    (tmp_path / "store.db").mkdir()
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        database.ping()


def test_only_an_upgrade_creates_a_missing_file(tmp_path: Path) -> None:
    """A check of whether the database exists and is current creates neither a file nor a folder.

    An upgrade creates both.
    """
    database = Database(f"sqlite:///{tmp_path}/folder/store.db")
    assert not database.exists
    assert not database.schema_is_current()
    assert list(tmp_path.iterdir()) == []
    database.upgrade()
    assert database.exists
    assert database.schema_is_current()


def test_a_file_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    """`check_can_be_created` raises a `SettingsError` with the reason if the database file cannot be created.

    In no case does the check leave a file or folder behind.
    """
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"DATABASE_URL: .*no file can be created in .*/file: Not a directory"):
        Database(f"sqlite:///{tmp_path}/file/deeper/store.db").check_can_be_created()
    Database(f"sqlite:///{tmp_path}/deeper/still/store.db").check_can_be_created()
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_faulty_statement_is_not_an_outage(database: Database) -> None:
    """A statement about a missing table raises `DBAPIError`, not `StoreUnavailable`, since a retry would not help."""
    with pytest.raises(DBAPIError), database.begin() as connection:
        connection.execute(text("SELECT * FROM nowhere"))


def test_a_write_lock_held_too_long_is_unavailable(tmp_path: Path) -> None:
    """A writer that does not get its turn within the timeout in the address fails with `StoreUnavailable`."""
    url = f"sqlite:///{tmp_path}/store.db?timeout=0.1"
    first, second = Database(url), Database(url)
    first.upgrade()
    with first.begin():
        with pytest.raises(StoreUnavailable, match="database is locked"), second.begin():
            pass
        with pytest.raises(StoreUnavailable, match=r"locked for 0\.1 s"), first.begin():
            pass


@pytest.mark.parametrize("timeout", ["soon", "-1", "nan", "inf", "1&timeout=2"])
def test_an_address_whose_timeout_is_not_a_time_is_refused(timeout: str) -> None:
    """A database address with an invalid timeout is refused at once, rather than when a writer waits for its turn."""
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: timeout must be a number of seconds from 0 to 3600$"):
        Database(f"sqlite:///store.db?timeout={timeout}")


@pytest.mark.parametrize("url", ["nonsense", "mysql://user:secret@host/name", "sqlite:////proc/1/nowhere/store.db"])
def test_an_unusable_address_is_one_clear_line(url: str) -> None:
    """A database address that cannot be used is refused in one line that names the setting and shows no password."""
    with pytest.raises(SettingsError) as caught:
        Database(url).upgrade()
    assert str(caught.value).startswith("DATABASE_URL: ")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:secret@host/name", "postgresql+psycopg://host/name"),
        ("postgresql://user@host:5433/name?password=secret&sslmode=require", "postgresql+psycopg://host:5433/name"),
        ("postgresql:///name?host=/run/pg&sslpassword=secret", "postgresql+psycopg:///run/pg/name"),
        ("postgresql://?host=one,two&dbname=name&password=secret", "postgresql+psycopg://one,two/name"),
        ("sqlite:////srv/store.db?mode=ro", "sqlite:////srv/store.db"),
    ],
)
def test_the_address_is_shown_without_password(url: str, shown: str) -> None:
    """A database address is shown with its driver, host, port and database name, but without user or password."""
    assert Database(url).url_without_password == shown


@pytest.mark.parametrize("url", ["postgresql://u:{}@127.0.0.1:1/x", "postgresql://u@127.0.0.1:1/x?password={}"])
def test_no_failure_shows_the_password(url: str) -> None:
    """The driver's error about an unavailable database is reported without the password."""
    with pytest.raises(StoreUnavailable) as caught:
        Database(url.format("hush")).ping()
    assert "postgresql+psycopg://127.0.0.1:1/x" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_database_in_memory_serves_several_threads() -> None:
    """Threads that share an in-memory `Database` all use the same database, not one each."""
    database = Database("sqlite://")
    database.upgrade()
    for pinging in [in_thread(database.ping) for _ in range(5)]:
        result_of(pinging)
    assert database.schema_is_current()


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    """Only the owner of the database's files can access them, whatever the umask, since they contain prisoners' ids."""
    before = os.umask(0)
    try:
        database = Database(f"sqlite:///{tmp_path}/new/store.db")
        database.upgrade()
        with database.begin() as connection:
            connection.execute(insert(leases), lease("a"))
            modes = {each.name: each.stat().st_mode & 0o777 for each in (tmp_path / "new").iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm"), 0o600)
