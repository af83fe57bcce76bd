"""The clock that all processes using the same database share. It is independent of their wall clocks.

On PostgreSQL it is the clock of the server. On SQLite, which serves one machine, it is the time since the machine
started, added to a time that is stored in the database. A process follows the shared clock with the monotonic clock of
its machine, so a change to the wall clock does not extend or shorten a lease. Columns of the type `SharedDateTime`
store times of the shared clock. When these times are read, they are converted to the process's own wall clock, which
all other times in the program follow.
"""

import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect

from sync.clock import now

#: Smaller differences are ignored, since the clocks are read one after the other.
_NO_DIFFERENCE = timedelta(milliseconds=250)
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class SharedClock:
    """This process's view of the shared clock of one database. It is safe to share between threads."""

    def __init__(self) -> None:
        self._zero: datetime | None = None
        self._ahead = timedelta()

    @property
    def is_known(self) -> bool:
        """Whether the shared clock has been read. Until then, this process uses its own clock."""
        return self._zero is not None

    def ahead(self) -> timedelta:
        """How far the shared clock is ahead of this process's wall clock now."""
        if self._zero is None:
            return self._ahead
        ahead = self._zero + _since_boot() - now()
        if abs(ahead - self._ahead) > _NO_DIFFERENCE:
            self._ahead = ahead
        return self._ahead

    def follow_sqlite(self, connection: sqlite3.Connection) -> None:
        """Reads the shared clock of a SQLite database.

        The first process that does so after the machine has started also sets the clock.
        """
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
            # The system is not Linux, or the database is read-only or does not exist yet: the process uses its own
            # clock.
            return

    def follow_postgresql(self, connection: Any) -> None:
        """Reads the clock of the server over a psycopg connection."""
        sent = _since_boot()
        (moment,) = connection.execute("SELECT clock_timestamp()").fetchone()
        connection.rollback()
        self._zero = moment.astimezone(UTC) - (sent + _since_boot()) / 2


_CLOCKS: WeakKeyDictionary[Dialect, SharedClock] = WeakKeyDictionary()


def shared_clock(dialect: Dialect) -> SharedClock:
    """The shared clock of the database whose engine has `dialect`."""
    return _CLOCKS.setdefault(dialect, SharedClock())


def _since_boot() -> timedelta:
    return timedelta(seconds=time.clock_gettime(_STEADY))
