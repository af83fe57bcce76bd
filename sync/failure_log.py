"""Logs when repeated work starts to fail and when it succeeds again, however often it fails in between."""

import logging
import math
import threading
import time
from typing import Any

import structlog

#: The maximum number of different reasons that are logged for one outage.
_MOST_REASONS = 10


class FailureLog:
    """Logs the outages of one piece of repeated work. Safe to share between threads.

    The events go to `logger`, all with `fields`. `begins` is logged at the first failure of an outage, and `changes`
    (if given) once for each further reason (up to ten reasons in all), both at `level`. `ends` is logged at the first
    success after the outage.
    """

    def __init__(
        self,
        logger: str,
        begins: str,
        ends: str,
        changes: str | None = None,
        *,
        level: int = logging.WARNING,
        **fields: Any,
    ) -> None:
        self._log = structlog.get_logger(logger)
        self._begins, self._ends, self._changes = begins, ends, changes
        self._level = level
        self._fields = fields
        self._lock = threading.Lock()
        self._since: float | None = None
        self._failures = 0
        self._reason = ""
        self._logged: set[str] = set()

    @property
    def reason(self) -> str | None:
        """Why the work is currently failing, or None if it is not failing."""
        with self._lock:
            return self._reason if self._since is not None else None

    def failed(self, reason: str, number: int = 1, **details: Any) -> None:
        """Records `number` failures for one reason; `details` are further fields of the logged event."""
        with self._lock:
            first = self._since is None
            if first:
                self._since, self._failures = time.monotonic(), 0
                self._logged.clear()
            self._failures += number
            self._reason = reason
            is_new = reason not in self._logged and len(self._logged) < _MOST_REASONS
            if is_new:
                self._logged.add(reason)
        event = self._begins if first else self._changes
        if is_new and event is not None:
            self._log.log(self._level, event, reason=reason, **self._fields, **details)

    def worked(self, began_at: float = math.inf) -> None:
        """Records a success. The first success after an outage is logged.

        The logged event gives the length of the outage in seconds, and the number of failures during the outage.

        began_at: when the work began, on the monotonic clock. The success of work that began before the outage does not
        end the outage.
        """
        if self._since is None:
            return
        with self._lock:
            if self._since is None or began_at < self._since:
                return
            seconds, self._since = time.monotonic() - self._since, None
            failures = self._failures
        self._log.info(self._ends, seconds=round(seconds, 1), failures=failures, **self._fields)
