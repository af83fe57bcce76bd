"""The database, and the only place that opens connections to it.

SQLite serves one machine, with many threads and processes; PostgreSQL serves production. Both are used by short,
explicit transactions of SQLAlchemy Core.
"""

import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Dialect, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import StaticPool

from sync.failures import SyncError
from sync.outage_log import OutageLog
from sync.settings.database_address import parse_database_address, shown_address, without_secrets
from sync.settings.loading import SettingsError
from sync.store.shared_clock import shared_clock
from sync.store.types import written_json

#: How long a writer waits for its turn before the database counts as unavailable.
BUSY_SECONDS = 30.0
CONNECT_SECONDS = 5
#: Connections kept open by a process, and further ones in a rush; transactions are short, so threads take turns.
POOL_SIZE = 5
POOL_OVERFLOW = 15

#: Key of the lock under which one process at a time changes the schema of a PostgreSQL database.
_UPGRADE_LOCK = 7_311_905_224
_MIGRATIONS = Path(__file__).parent / "migrations"
_SQLITE_GENERIC_ERROR = 1
_READ_ONLY_TRANSACTION = "25006"
_READING = "sync_reading"
#: A writer waits for others as long as on SQLite, and one that hangs in its transaction lets go.
_WRITER_LIMITS = "SET LOCAL lock_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '60s'"
#: How `JSON` columns are written and read.
_JSON: dict[str, Any] = {
    "json_serializer": written_json,
    "json_deserializer": orjson.loads,
}
#: What rows hold is in no error's text.
_ENGINE: dict[str, Any] = _JSON | {"hide_parameters": True}


class StoreUnavailable(SyncError):
    """The database is away, full or locked; trying again may help."""

    recoverable = True


class Database:
    """Transactions on one database. Safe to share between threads; make one for each process."""

    def __init__(self, url: str) -> None:
        """Nothing is opened yet. Raises `SettingsError` for an address that cannot be used."""
        self._url = _parsed(url)
        self.dialect = self._url.get_backend_name()
        if self.dialect == "sqlite":
            # Threads queue here, fairly and without polling, for the one writer that SQLite allows; processes poll.
            self._turn: threading.Lock | None = threading.Lock()
            self._in_memory = self._url.database in (None, "", ":memory:")
            # What SQLite makes of an address in its own form is its business.
            own_form = self._in_memory or "uri" in self._url.query
            self._file = None if own_form else Path(self._url.database or "")
            self._engine = _sqlite_engine(self._url, self._in_memory, self._file)
        else:
            self._turn = None
            self._in_memory = False
            self._file = None
            self._engine = _postgresql_engine(self._url)
        self._reader = self._engine.execution_options(**{_READING: True})
        self._reads, self._writes = (
            OutageLog("sync.store.database", "database-unavailable", "database-available", transactions=kind)
            for kind in ("reading", "writing")
        )

    @property
    def url_without_password(self) -> str:
        """Driver, host and name, fit to be shown: without user, password and options."""
        return shown_address(self._url)

    @property
    def is_there(self) -> bool:
        """Whether there is something to open: a file of SQLite is made by `upgrade`, a server is taken to be there."""
        return self._file is None or _is_there(self._file)

    def make_sure_it_can_be_made(self) -> None:
        """Raises `SettingsError` when the file of SQLite could not be made; makes nothing that stays."""
        if self._file is None:
            return
        there = next(folder for folder in self._file.absolute().parents if _is_there(folder))
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            raise SettingsError(f"DATABASE_URL: {there} takes no file: {error.strerror}") from error

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Never nested in one thread. Raises `StoreUnavailable` when the database is away or locked; what the block did is
        then undone (only when the connection is lost in the very commit, it may have been kept).
        """
        with self._told_of(self._writes), self._waiting_turn(), self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, and so waits for no writer. Raises `StoreUnavailable` as `begin` does."""
        turn = self._waiting_turn() if self._in_memory else nullcontext()
        with self._told_of(self._reads), turn, self._translated(), self._reader.begin() as connection:
            yield connection

    def upgrade(self) -> None:
        """Brings the schema to the current revision; when several processes do so at once, one does the work.

        Makes the file of SQLite, and its folder, where they are not there. Raises `SettingsError` when it cannot.
        """
        from alembic import command

        if self._file is not None:
            _make_folder(self._file.parent)
        with self.begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            command.upgrade(_migrations(connection), "head")
            driver = connection.connection.driver_connection
            if isinstance(driver, sqlite3.Connection):
                _follow_clock(connection.dialect, driver)

    def schema_is_current(self) -> bool:
        """Whether the schema is at the newest revision that this program knows."""
        if not self.is_there:
            return False
        # Without Alembic, whose import would cost every command a fifth of a second.
        with self.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return False
            present = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        return present == [newest_revision()]

    def ping(self, *, writing: bool = False) -> None:
        """Raises `StoreUnavailable` when the database does not answer, or (`writing`) takes no writes at present.

        It may be locked by a writer that hangs, be a file that is read-only, or have become a stand-by.
        """
        if not writing:
            with self.read() as connection:
                connection.execute(text("SELECT 1"))
            return
        with self.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = version_num WHERE 1 = 0"))

    def dispose(self) -> None:
        """Closes all connections; new ones are opened when needed."""
        self._engine.dispose()

    @contextmanager
    def _waiting_turn(self) -> Iterator[None]:
        turn = self._turn
        if turn is None:
            yield
            return
        if not turn.acquire(timeout=BUSY_SECONDS):
            raise StoreUnavailable(f"database {self.url_without_password}: locked for {BUSY_SECONDS:.0f} s")
        try:
            yield
        finally:
            turn.release()

    @contextmanager
    def _told_of(self, transactions: OutageLog) -> Iterator[None]:
        """Logs once that the database is away, whoever meets that, and once that it is there again."""
        try:
            yield
        except StoreUnavailable as error:
            transactions.failed(str(error))
            raise
        transactions.worked()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeoutError) as error:
            if not _unavailable(error):
                raise
            cause = getattr(error, "orig", None) or error
            reason = without_secrets(str(cause).strip().partition("\n")[0], self._url)
            raise StoreUnavailable(f"database {self.url_without_password}: {reason}") from error


def newest_revision() -> str:
    """The revision that `upgrade` leads to; the files are named by their revisions, which are in order."""
    return max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _parsed(url: str) -> URL:
    try:
        return parse_database_address(url)
    except ValueError as error:
        raise SettingsError(f"DATABASE_URL: {error}") from None


def _sqlite_engine(url: URL, in_memory: bool, file: Path | None) -> Engine:
    arguments = _ENGINE | {"connect_args": {"timeout": BUSY_SECONDS, "check_same_thread": False}}
    if in_memory:
        arguments["poolclass"] = StaticPool
    else:
        arguments |= {"pool_size": POOL_SIZE, "max_overflow": POOL_OVERFLOW, "pool_timeout": BUSY_SECONDS}
    engine = create_engine(url, **arguments)
    if file is not None:
        event.listen(engine, "do_connect", lambda *_given: _make_private(file))
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "connect", lambda connection, _record: _follow_clock(engine.dialect, connection))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _is_there(path: Path) -> bool:
    """Whether a path leads to something, as far as this process may see."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"DATABASE_URL: the folder {folder} cannot be made: {error.strerror}") from error


def _make_private(file: Path) -> None:
    """Makes the file for its owner alone where it is not there; what SQLite puts beside it is as the file is."""
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        # It is there, or cannot be made: then SQLite says why.
        return


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Transactions are begun by `_begin_sqlite` alone, so that DDL is transactional and writers queue at their start.
    connection.isolation_level = None
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:
            # The change to WAL does not wait for other processes that open the new file at the same moment.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous=NORMAL")


def _follow_clock(dialect: Dialect, connection: sqlite3.Connection) -> None:
    if not shared_clock(dialect).is_known:
        shared_clock(dialect).follow_sqlite(connection)


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get(_READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _postgresql_engine(url: URL) -> Engine:
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        # A server that vanished without a word is noticed within seconds, not hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "application_name": "prisoner-to-nomis",
        # A pooler gives each transaction another connection to the server, which does not know what was prepared.
        "prepare_threshold": None,
    }
    engine = create_engine(
        url,
        connect_args={name: value for name, value in arguments.items() if name not in url.query},
        **_ENGINE,
        pool_pre_ping=True,
        # Conditional inserts tell by their row count whether they took effect.
        execution_options={"preserve_rowcount": True},
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_SECONDS,
    )
    clock = shared_clock(engine.dialect)
    event.listen(engine, "connect", lambda connection, _record: clock.follow_postgresql(connection))
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _begin_postgresql(connection: Connection) -> None:
    # By the transaction: a pooler refuses options of the connection, and would give it to others with what it was set.
    if not connection.get_execution_options().get(_READING, False):
        connection.exec_driver_sql(_WRITER_LIMITS)


def _unavailable(error: Exception) -> bool:
    if isinstance(error, PoolTimeoutError | InterfaceError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error, OperationalError):
        # SQLite reports faulty statements and missing tables as operational errors too: waiting does not mend those.
        return getattr(error.orig, "sqlite_errorcode", None) != _SQLITE_GENERIC_ERROR
    if isinstance(error, InternalError):
        # The server was made a stand-by under our feet.
        return getattr(error.orig, "sqlstate", None) == _READ_ONLY_TRANSACTION
    return error.connection_invalidated


def _migrations(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
