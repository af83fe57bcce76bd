"""The SQLAlchemy engines, which open connections to SQLite or PostgreSQL and begin transactions.

SQLite serves one machine, with many threads and processes; PostgreSQL serves production.
"""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Dialect, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import StaticPool

from sync.store.column_types import written_json
from sync.store.shared_clock import shared_clock

#: How long a writer waits for its turn before the database counts as unavailable. The address of a SQLite database can
#: set a different limit with the option `timeout`.
_BUSY_SECONDS = 30.0
_CONNECT_SECONDS = 5
#: How many connections a process keeps open, and how many more it opens under load. Transactions are short, so threads
#: can share these.
_POOL_SIZE = 5
_POOL_OVERFLOW = 15
#: The execution option of connections that only read.
READING = "sync_reading"

_SQLITE_GENERIC_ERROR = 1
_READ_ONLY_TRANSACTION = "25006"
#: A writer waits as long as on SQLite, and loses its locks if it hangs in a transaction. These limits are set in the
#: transaction: a pooler rejects connection options, and would pass on the settings of a connection to other clients.
#: They are in one statement with BEGIN, which saves a round trip.
_BEGIN_WRITING = "BEGIN; SET LOCAL lock_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '60s'"

_OPTIONS: dict[str, Any] = {
    "json_serializer": written_json,
    "json_deserializer": orjson.loads,
    # Error messages must not contain row data.
    "hide_parameters": True,
}
_POOL: dict[str, Any] = {"pool_size": _POOL_SIZE, "max_overflow": _POOL_OVERFLOW, "pool_timeout": _BUSY_SECONDS}


def busy_seconds(url: URL) -> float:
    """How long a writer waits for its turn, in seconds."""
    return float(str(url.query.get("timeout", _BUSY_SECONDS))) if url.get_backend_name() == "sqlite" else _BUSY_SECONDS


def sqlite_engine(url: URL, file: Path | None) -> Engine:
    """The engine of a SQLite database. `file` is None for an in-memory database and for a URL in SQLite's own form."""
    in_memory = url.database in (None, "", ":memory:")
    pool: dict[str, Any] = {"poolclass": StaticPool} if in_memory else _POOL
    connect: dict[str, Any] = {"timeout": busy_seconds(url), "check_same_thread": False}
    engine = create_engine(url, **_OPTIONS, **pool, connect_args=connect)
    if file is not None:
        event.listen(engine, "do_connect", lambda *_given: _create_private(file))
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "connect", lambda connection, _record: follow_sqlite_clock(engine.dialect, connection))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def postgresql_engine(url: URL) -> Engine:
    """The engine of a PostgreSQL database."""
    connect: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        # With these options, a server that disappears silently is noticed within seconds, not hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "application_name": "prisoner-to-nomis",
        # A pooler may use a different connection to the server for each transaction, without the prepared statements.
        "prepare_threshold": None,
        # Transactions are begun by `_begin_postgresql`.
        "autocommit": True,
    }
    engine = create_engine(
        url,
        **_OPTIONS,
        **_POOL,
        connect_args={name: value for name, value in connect.items() if name not in url.query},
        pool_pre_ping=True,
        # The row count of a conditional insert says whether it took effect.
        execution_options={"preserve_rowcount": True},
    )
    clock = shared_clock(engine.dialect)
    event.listen(engine, "connect", lambda connection, _record: clock.follow_postgresql(connection))
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def follow_sqlite_clock(dialect: Dialect, connection: sqlite3.Connection) -> None:
    """Reads the shared clock of a SQLite database, unless that clock is already known.

    The clock is stored in the database, so it cannot be read before the schema exists.
    """
    if not shared_clock(dialect).is_known:
        shared_clock(dialect).follow_sqlite(connection)


def is_unavailable(error: DBAPIError | PoolTimeoutError) -> bool:
    """Whether an error means that the database is unavailable, and not that a statement is wrong."""
    if isinstance(error, PoolTimeoutError | InterfaceError):
        return True
    if isinstance(error, OperationalError):
        # SQLite also reports faulty statements and missing tables as operational errors, which a retry does not fix.
        return getattr(error.orig, "sqlite_errorcode", None) != _SQLITE_GENERIC_ERROR
    if isinstance(error, InternalError):
        # The server has become a stand-by.
        return getattr(error.orig, "sqlstate", None) == _READ_ONLY_TRANSACTION
    return error.connection_invalidated


def _create_private(file: Path) -> None:
    """Creates `file` if it is missing, with access for its owner only.

    SQLite gives the same permissions to the files that it creates next to `file`.
    """
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        # The file exists, or it cannot be created, and SQLite will say why.
        return


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Transactions are begun by `_begin_sqlite`, so that DDL is transactional and writers queue at their start.
    connection.isolation_level = None
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:
            # The change to WAL fails at once if another process opens the new file at the same moment.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN" if _is_reading(connection) else "BEGIN IMMEDIATE")


def _begin_postgresql(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN" if _is_reading(connection) else _BEGIN_WRITING)


def _is_reading(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get(READING, False))
