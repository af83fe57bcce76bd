"""An empty database for a measurement, on SQLite or on PostgreSQL."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.postgres import PostgresServer

#: The databases that a measurement can use.
KINDS = ("sqlite", "postgresql")


@contextmanager
def empty_database(kind: str) -> Iterator[str]:
    """The address of an empty database of one of `KINDS`. The database is removed after the `with` block."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/bench.db"
        return
    server = PostgresServer()
    try:
        server.start()
        yield server.url.render_as_string()
    finally:
        server.close()
