"""The clock that all processes of a database share, independent of the wall clock of each.

On PostgreSQL it is the clock of the server; on SQLite, which serves one machine, the time since the machine started,
counted from a moment stored in the database. A process follows it by the machine's monotonic clock, so that a step of
the wall clock neither extends nor shortens a lease. Rows hold times of this clock (`SharedDateTime`); in the program
they are times of the process's own wall clock, like all others.
"""

import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect

from sync.clock import now

#: Smaller differences are ignored: the clocks are read one after the other.
_NO_DIFFERENCE = timedelta(milliseconds=250)
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class SharedClock:
    """The shared clock of one database, as this process follows it. Safe to share between threads."""

    def __init__(self) -> None:
        self._zero: datetime | None = None
        self._ahead = timedelta()

    @property
    def is_known(self) -> bool:
        """Whether the shared clock has been read; until then this process's own clock is used."""
        return self._zero is not None

    def ahead(self) -> timedelta:
        """How far the shared clock is currently ahead of this process's wall clock."""
        if self._zero is None:
            return self._ahead
        ahead = self._zero + _since_boot() - now()
        if abs(ahead - self._ahead) > _NO_DIFFERENCE:
            self._ahead = ahead
        return self._ahead

    def follow_sqlite(self, connection: sqlite3.Connection) -> None:
        """Reads the shared clock of a SQLite database; the first process since the machine's start sets it."""
        try:
            boot = _BOOT.read_text().strip()
            read = "SELECT started_at FROM clocks WHERE boot = ?"
            found = connection.execute(read, (boot,)).fetchone()
            if found is None:
                started = (now() - _since_boot()).replace(tzinfo=None).isoformat(" ")
                connection.execute("INSERT OR IGNORE INTO clocks (boot, started_at) VALUES (?, ?)", (boot, started))
                found = connection.execute(read, (boot,)).fetchone()
            self._zero = datetime.fromisoformat(found[0]).replace(tzinfo=UTC)
        except (OSError, sqlite3.OperationalError):
            # Not Linux, or the database is not created yet, or is read-only: then nothing is written by this clock.
            return

    def follow_postgresql(self, connection: Any) -> None:
        """Reads the clock of the server of a psycopg connection."""
        sent = _since_boot()
        (moment,) = connection.execute("SELECT clock_timestamp()").fetchone()
        connection.rollback()
        self._zero = moment.astimezone(UTC) - (sent + _since_boot()) / 2


_CLOCKS: WeakKeyDictionary[Dialect, SharedClock] = WeakKeyDictionary()


def shared_clock(dialect: Dialect) -> SharedClock:
    """The clock of the database whose engine has this `dialect`."""
    return _CLOCKS.setdefault(dialect, SharedClock())


def _since_boot() -> timedelta:
    return timedelta(seconds=time.clock_gettime(_STEADY))
