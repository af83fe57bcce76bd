"""Opens the database for short, explicit transactions with SQLAlchemy Core. No other module opens it."""

import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sync.errors import SyncError
from sync.failure_log import FailureLog
from sync.settings.loading import SettingsError
from sync.settings.parsing import parse_database_address, shown_address, without_secrets
from sync.store.engine import (
    READING,
    busy_seconds,
    follow_sqlite_clock,
    is_unavailable,
    postgresql_engine,
    sqlite_engine,
)

#: The key of the lock that lets only one process at a time change the schema of a PostgreSQL database.
_UPGRADE_LOCK = 7_311_905_224
_MIGRATIONS = Path(__file__).parent / "migrations"


class StoreUnavailable(SyncError):
    """The database is unreachable, full or locked, so a retry may help."""

    recoverable = True


class Database:
    """Runs transactions on one database. Threads can share an instance; each process needs a separate one."""

    def __init__(self, url: str) -> None:
        """Prepares the engine without opening a connection. Raises `SettingsError` if the address cannot be used."""
        self._url = _parsed(url)
        self.dialect = self._url.get_backend_name()
        self._file: Path | None = None
        self._in_memory = False
        # SQLite allows one writer. Threads queue here, fairly and without polling, while processes have to poll.
        self._writer = threading.Lock() if self.dialect == "sqlite" else None
        self._busy_seconds = busy_seconds(self._url)
        if self.dialect == "sqlite":
            self._in_memory = self._url.database in (None, "", ":memory:")
            # An address in SQLite's own form (a URI) may name something other than a file.
            own_form = self._in_memory or "uri" in self._url.query
            self._file = None if own_form else Path(self._url.database or "")
            self._engine = sqlite_engine(self._url, self._file)
        else:
            self._engine = postgresql_engine(self._url)
        self._reading_engine = self._engine.execution_options(**{READING: True})
        self._reads, self._writes = (
            FailureLog("sync.store.database", "database-unavailable", "database-available", transactions=kind)
            for kind in ("reading", "writing")
        )

    @property
    def url_without_password(self) -> str:
        """The driver, host, port and name of the database, to show to people: no user, password or options."""
        return shown_address(self._url)

    @property
    def exists(self) -> bool:
        """Whether there is a database to open.

        Only a SQLite file is looked for, and `upgrade` creates a missing one. Any other database is assumed to exist.
        """
        return self._file is None or _exists(self._file)

    def check_can_be_created(self) -> None:
        """Raises `SettingsError` if the SQLite file cannot be created. Leaves no file behind."""
        if self._file is None:
            return
        folder = next(folder for folder in self._file.absolute().parents if _exists(folder))
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise SettingsError(f"DATABASE_URL: no file can be created in {folder}: {error.strerror}") from error

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction, which is committed at the end of the `with` block, or rolled back if the block raises.

        Transactions must not be nested in a thread. Raises `StoreUnavailable` if the database is unreachable, full or
        locked. In that case the changes are undone, unless the connection was lost during the commit: then they may
        have been applied.
        """
        with self._transaction(self._engine, self._turn(), self._writes) as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, so it does not wait for writers, except on an in-memory database.

        Raises `StoreUnavailable` as `begin` does.
        """
        turn = self._turn() if self._in_memory else nullcontext()
        with self._transaction(self._reading_engine, turn, self._reads) as connection:
            yield connection

    def upgrade(self) -> None:
        """Upgrades the schema to the newest revision. If several processes do this at once, one does the work.

        A missing SQLite file and its folder are created. Raises `SettingsError` if the folder cannot be created, and
        `StoreUnavailable` as `begin` does.
        """
        from alembic import command

        if self._file is not None:
            _create_folder(self._file.parent)
        with self.begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            command.upgrade(_migrations(connection), "head")
            driver = connection.connection.driver_connection
            if isinstance(driver, sqlite3.Connection):
                follow_sqlite_clock(connection.dialect, driver)

    def schema_is_current(self) -> bool:
        """Whether the schema is at the newest revision that this program knows."""
        return self.revision() == newest_revision()

    def newer_schema(self) -> str | None:
        """If the schema comes from a newer version of the program, a message that says what to do; otherwise None.

        This version can neither use nor change a newer schema.
        """
        found, newest = self.revision(), newest_revision()
        if found is None or found <= newest:
            return None
        return (
            f"the database schema is {found}, from a newer version; this version works only with {newest}: deploy the "
            "newer version again, or restore the database as it was before the upgrade"
        )

    def revision(self) -> str | None:
        """The revision of the schema, or None for a database that is missing, empty or half upgraded."""
        if not self.exists:
            return None
        # Alembic is not used here, since its import would slow down every command by a fifth of a second.
        with self.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            present = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        return str(present[0]) if len(present) == 1 else None

    def ping(self, *, writing: bool = False) -> None:
        """Raises `StoreUnavailable` if the database does not respond or, with `writing`, does not accept writes now.

        A database does not accept writes if a writer that hangs has locked it, or if it is a read-only file or a
        stand-by.
        """
        if not writing:
            with self.read() as connection:
                connection.execute(text("SELECT 1"))
            return
        with self.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = version_num WHERE 1 = 0"))

    def dispose(self) -> None:
        """Closes all connections. New connections are opened when they are needed."""
        self._engine.dispose()

    @contextmanager
    def _transaction(
        self, engine: Engine, turn: AbstractContextManager[None], failure_log: FailureLog
    ) -> Iterator[Connection]:
        began_at = time.monotonic()
        try:
            with turn, engine.begin() as connection:
                yield connection
        except StoreUnavailable as error:
            failure_log.failed(str(error))
            raise
        except (DBAPIError, PoolTimeoutError) as error:
            if not is_unavailable(error):
                raise
            cause = getattr(error, "orig", None) or error
            reason = without_secrets(str(cause).strip().partition("\n")[0], self._url)
            unavailable = StoreUnavailable(f"database {self.url_without_password}: {reason}")
            failure_log.failed(str(unavailable))
            raise unavailable from error
        failure_log.worked(began_at)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits for this thread's turn to write, which lasts until the end of the `with` block."""
        if self._writer is None:
            yield
            return
        if not self._writer.acquire(timeout=self._busy_seconds):
            raise StoreUnavailable(f"database {self.url_without_password}: locked for {self._busy_seconds:g} s")
        try:
            yield
        finally:
            self._writer.release()


def newest_revision() -> str:
    """The revision that `upgrade` leads to: the highest number with which a migration file's name begins."""
    return max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _parsed(url: str) -> URL:
    try:
        return parse_database_address(url)
    except ValueError as error:
        raise SettingsError(f"DATABASE_URL: {error}") from None


def _exists(path: Path) -> bool:
    """Whether a path exists and this process can see it."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def _create_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"DATABASE_URL: the folder {folder} cannot be created: {error.strerror}") from error


def _migrations(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
