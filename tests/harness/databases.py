"""Real databases for the tests: SQLite files, and a PostgreSQL server for each test worker.

If `TEST_DATABASE_URL` has the address of a PostgreSQL server on which databases may be created, the tests of all
workers use that server instead.
"""

import functools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, event
from sqlalchemy.engine import URL, make_url

from sandbox.child_processes import end_with_parent
from sandbox.postgres import UNPRIVILEGED, PostgresServer
from sync.store.database import Database
from sync.store.leases import Leases
from tests.harness.waiting import LONGEST_SECONDS, until


@contextmanager
def event_listener(event_name: str, listener: Callable[..., object]) -> Iterator[None]:
    """During the `with` block, calls `listener` whenever an event occurs in any SQLAlchemy engine.

    `event_name` is the name of the event, such as `before_cursor_execute`.
    """
    event.listen(Engine, event_name, listener)
    try:
        yield
    finally:
        event.remove(Engine, event_name, listener)


class Pooler:
    """A PgBouncer in transaction mode in front of a server.

    It accepts many clients, but opens at most two connections to each database on the server.
    """

    def __init__(self, server: URL) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            pytest.skip("there is no pgbouncer on this machine (Debian: apt-get install pgbouncer)")
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        host = server.host or server.query["host"]
        settings = {
            "listen_port": 6432,
            "unix_socket_dir": self._folder,
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": 2,
        }
        password = f" password={server.password}" if server.password else ""
        (self._folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={host} port={server.port or 5432} user={server.username}{password}\n[pgbouncer]\n"
            + "\n".join(f"{name} = {value}" for name, value in settings.items())
        )
        as_nobody: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_nobody = {"user": UNPRIVILEGED, "extra_groups": []}
            shutil.chown(self._folder, UNPRIVILEGED)
        self._process = subprocess.Popen(
            [program, "-q", str(self._folder / "pgbouncer.ini")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=functools.partial(end_with_parent, signal.SIGQUIT),
            **as_nobody,
        )
        until((self._folder / ".s.PGSQL.6432").exists, "the pooler listens")

    def url(self, database: str) -> str:
        """The address of a database on the server, through the pooler."""
        return f"postgresql://postgres@/{database}?host={self._folder}&port=6432"

    def close(self) -> None:
        """Ends the pooler and removes its files."""
        self._process.terminate()
        self._process.wait(LONGEST_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)


def make_database(server: URL, template: str | None = None) -> URL:
    """Creates a database on `server`, as a copy of `template` if one is given. Returns the address of the database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
        copy = f" TEMPLATE {template}" if template else ""
        if template and connection.info.server_version >= 150_000:
            # This is twice as fast as the default strategy, which suits larger databases.
            copy += " STRATEGY FILE_COPY"
        connection.execute(f"CREATE DATABASE {name}{copy}".encode())
    return server.set(database=name)


def empty_database(url: URL) -> None:
    """Ends all other connections to a database, and makes the database like a new copy of the template."""
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        for (table,) in connection.execute(tables).fetchall():
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        connection.execute("SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'")


def drop_database(server: URL, name: str) -> None:
    """Ends all connections to a database, and removes the database."""
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    """The address of the PostgreSQL server that this test worker uses."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield make_url(given).set(drivername="postgresql")
        return
    server = PostgresServer()
    try:
        server.start()
        yield server.url
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_template(postgres: URL) -> Iterator[str]:
    """The name of a database with the current schema, to be copied."""
    url = make_database(postgres)
    database = Database(url.render_as_string(hide_password=False))
    database.upgrade()
    database.dispose()
    assert url.database is not None
    yield url.database
    drop_database(postgres, url.database)


@functools.cache
def empty_sqlite_database() -> bytes:
    """The content of a SQLite file with the current schema and no rows, made once in each test process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "template.db")
        database = Database(f"sqlite:///{path}")
        database.upgrade()
        database.dispose()
        return path.read_bytes()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the current schema, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    path.write_bytes(empty_sqlite_database())
    return path


@pytest.fixture(scope="session")
def spare_databases(postgres: URL, postgres_template: str) -> Iterator[list[URL]]:
    """Empty databases, with the current schema, that earlier tests have left on the server."""
    spare: list[URL] = []
    yield spare
    for url in spare:
        assert url.database is not None
        drop_database(postgres, url.database)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database with the current schema.

    A test that uses this fixture runs once with each kind of database.
    """
    if request.param == "sqlite":
        path = tmp_path / "store.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server: URL = request.getfixturevalue("postgres")
    spare: list[URL] = request.getfixturevalue("spare_databases")
    url = spare.pop() if spare else make_database(server, request.getfixturevalue("postgres_template"))
    yield url.render_as_string(hide_password=False)
    # Emptying a database takes a fifth of the time that creating one takes.
    empty_database(url)
    spare.append(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database with the current schema.

    A test that uses this fixture runs once with each kind of database.
    """
    database = Database(database_url)
    yield database
    database.dispose()


def hold(url: str, key: str, held: Event) -> None:
    """The code of a process that acquires a lease, sets `held`, and holds the lease until the process is killed."""
    process_leases = Leases(Database(url), "holder", 600)
    assert process_leases.acquire(key)
    held.set()
    threading.Event().wait()
