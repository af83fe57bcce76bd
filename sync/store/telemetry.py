"""Custom events in the database and in the log."""

import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, or_, select

from sync.clock import now
from sync.store.database import Database, StoreUnavailable
from sync.store.tables import telemetry_events
from sync.telemetry import text_properties

#: So many gathered events are written without waiting for the end of a batch.
FLUSH_AT = 200
_PAGE = 1000
_INSERT = insert(telemetry_events)


class StoredTelemetry:
    """Logs each event at once and gathers it for the database; safe to share between threads.

    `logger` is a structlog logger (anything with `info(event, **fields)`).
    """

    def __init__(self, database: Database, logger: Any) -> None:
        self._database = database
        self._logger = logger
        self._gathered: list[dict[str, Any]] = []
        self._gathering = threading.Lock()
        self._writing = threading.Lock()

    def track(self, name: str, properties: Mapping[str, object]) -> None:
        """Tracks one event at the present moment; never fails for want of the database."""
        row = self._row(name, properties)
        with self._gathering:
            self._gathered.append(row)
            full = len(self._gathered) % FLUSH_AT == 0
        if full:
            try:
                self.flush()
            except StoreUnavailable as error:
                self._logger.debug("telemetry-kept", reason=str(error))

    def track_with(self, connection: Connection, name: str, properties: Mapping[str, object]) -> None:
        """Tracks one event in the transaction of `connection`: it is there exactly when what it tells of is."""
        connection.execute(_INSERT, self._row(name, properties))

    def flush(self) -> None:
        """Writes what was gathered, in one transaction. Raises `StoreUnavailable`; the events are then kept.

        An event that the database refuses keeps out no other: it stands in the log alone.
        """
        # Whoever flushes meanwhile waits, since the events it tracked may be among those being written.
        with self._writing:
            with self._gathering:
                rows, self._gathered = self._gathered, []
            if not rows:
                return
            try:
                self._write(rows)
            except BaseException:
                with self._gathering:
                    self._gathered[:0] = rows
                raise

    def _write(self, rows: list[dict[str, Any]]) -> None:
        """Takes out of `rows` what need not be written any more."""
        try:
            with self._database.begin() as connection:
                connection.execute(_INSERT, rows)
        except StoreUnavailable:
            raise
        except Exception:
            while rows:
                try:
                    with self._database.begin() as connection:
                        connection.execute(_INSERT, rows[0])
                except StoreUnavailable:
                    raise
                except Exception as error:
                    self._logger.error("telemetry-refused", event_name=rows[0]["name"], error=type(error).__name__)
                del rows[0]

    def _row(self, name: str, properties: Mapping[str, object]) -> dict[str, Any]:
        texts = text_properties(properties)
        log = self._logger.warning if name.endswith("-failed") else self._logger.info
        log(name, properties=texts)
        return {"name": name, "time": now(), "properties": texts}


def read_events(
    database: Database, name: str | None = None, since: datetime | None = None, newest: int | None = None
) -> Iterator[dict[str, Any]]:
    """The tracked events, oldest first, as `{"name", "time", "properties"}` with the time as ISO text in UTC.

    `name` and `since` (an aware time, inclusive) narrow them down, and of what is left `newest` takes so many at most.
    Read in pages, so that any number fits into memory.
    """
    columns = telemetry_events.c
    wanted = select(columns.id, columns.name, columns.time, columns.properties)
    if name is not None:
        wanted = wanted.where(columns.name == name)
    if since is not None:
        wanted = wanted.where(columns.time >= since)
    if newest is not None:
        backwards = wanted.order_by(columns.time.desc(), columns.id.desc())
        with database.read() as connection:
            first = connection.execute(backwards.offset(newest - 1).limit(1)).first()
        if first is not None:
            wanted = wanted.where(
                or_(columns.time > first.time, (columns.time == first.time) & (columns.id >= first.id))
            )
    query = wanted.order_by(columns.time, columns.id).limit(_PAGE)
    page = query
    while True:
        with database.read() as connection:
            rows = connection.execute(page).all()
        for row in rows:
            yield {"name": row.name, "time": row.time.isoformat(timespec="milliseconds"), "properties": row.properties}
        if len(rows) < _PAGE:
            return
        last = rows[-1]
        page = query.where(or_(columns.time > last.time, (columns.time == last.time) & (columns.id > last.id)))
