"""Tracks custom events by name, with text properties: logs them at once, and keeps them in the database."""

import threading
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from sync.clock import now
from sync.store.database import Database, StoreUnavailable
from sync.store.tables import telemetry_events
from sync.tracing import current_operation_id

#: The properties of an event. Values become text when the event is tracked, and those that are None are left out.
Properties = Mapping[str, object]

#: The number of buffered events that are written without waiting for the end of a batch.
FLUSH_AT = 200
_PAGE = 1000
_INSERT = insert(telemetry_events)


class Export(StrEnum):
    """Whether an event has been sent to Application Insights."""

    DUE = "due"
    SENT = "sent"
    #: Application Insights can never accept the event.
    REFUSED = "refused"


class Telemetry:
    """Logs each event at once and buffers it for the database. It is safe to share between threads.

    `logger` is a structlog logger, or an object with the same methods. If `exported` is true, the events are marked to
    be sent to Application Insights, and their table serves as the outbox for this.
    """

    def __init__(self, database: Database, logger: Any, *, exported: bool = False) -> None:
        self._database = database
        self._logger = logger
        self._export = Export.DUE if exported else None
        self._buffer: list[dict[str, Any]] = []
        self._buffering = threading.Lock()
        self._writing = threading.Lock()

    def track(self, name: str, properties: Mapping[str, object]) -> None:
        """Tracks one event with the current time. Does not fail if the database is unavailable."""
        row = self._row(name, properties)
        with self._buffering:
            self._buffer.append(row)
            full = len(self._buffer) % FLUSH_AT == 0
        if full:
            try:
                self.flush()
            except StoreUnavailable as error:
                self._logger.debug("telemetry-kept", reason=str(error))

    def track_with(self, connection: Connection, name: str, properties: Mapping[str, object]) -> None:
        """Tracks one event in the transaction of `connection`, so that it is stored only if its cause is stored."""
        connection.execute(_INSERT, self._row(name, properties))

    def flush(self) -> None:
        """Writes the buffered events in one transaction. If this raises `StoreUnavailable`, the events stay buffered.

        If the database rejects an event, the others are still written, and the rejected event is only in the log.
        """
        # A concurrent flush waits, since another thread may be writing its events.
        with self._writing:
            with self._buffering:
                rows, self._buffer = self._buffer, []
            if not rows:
                return
            try:
                self._write(rows)
            except BaseException:
                with self._buffering:
                    self._buffer[:0] = rows
                raise

    def _write(self, rows: list[dict[str, Any]]) -> None:
        """Writes `rows`. If this raises an error, `rows` keeps only those that need another attempt."""
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
        # An event `…-report-failed` is a difference that a reconciliation found, not a failure.
        failed = name.endswith("-failed") and not name.endswith("-report-failed")
        log = self._logger.warning if failed else self._logger.info
        log(name, properties=texts)
        return {
            "name": name,
            "time": now(),
            "properties": texts,
            "operation_id": current_operation_id(),
            "export": self._export,
        }


def as_text(value: object) -> str:
    """The text of a property value, as the replaced service wrote it: booleans become `true` and `false`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def text_properties(properties: Mapping[str, object]) -> dict[str, str]:
    """The properties as text, without those that are None."""
    return {name: as_text(value) for name, value in properties.items() if value is not None}


def read_events(
    database: Database, name: str | None = None, since: datetime | None = None, newest: int | None = None
) -> Iterator[dict[str, Any]]:
    """The tracked events, oldest first, as `{"name", "time", "properties"}` with the time as ISO text in UTC.

    name: only events with this name. since: only events at or after this time (aware). newest: the maximum number of
    events; if there are more, the latest are read. Events are read in pages, so the memory used does not grow with
    their number.
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


def due_events(connection: Connection, most: int) -> list[Row[Any]]:
    """At most `most` events that are still to be sent to Application Insights, oldest first.

    Each row has the fields of `CustomEvent`.
    """
    columns = telemetry_events.c
    wanted = select(columns.id, columns.name, columns.time, columns.properties, columns.operation_id)
    return list(connection.execute(wanted.where(columns.export == Export.DUE).order_by(columns.id).limit(most)))


def count_due_events(connection: Connection) -> int:
    """The number of events that are still to be sent to Application Insights."""
    wanted = select(func.count()).select_from(telemetry_events).where(telemetry_events.c.export == Export.DUE)
    return int(connection.execute(wanted).scalar_one())


def record_export(connection: Connection, ids: Collection[int], export: Export) -> None:
    """Stores `export` for the events with `ids`: whether Application Insights accepted them."""
    connection.execute(update(telemetry_events).where(telemetry_events.c.id.in_(ids)).values(export=export))
