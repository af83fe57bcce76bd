"""Logs when repeated work starts to fail and when it succeeds again, however often it fails in between."""

import threading
import time
from typing import Any

import structlog


class OutageLog:
    """The log of one piece of repeated work. Safe to share between threads."""

    def __init__(self, logger: str, begins: str, ends: str, **fields: Any) -> None:
        """Logs the events `begins` (a warning) and `ends` to `logger`, both with `fields`."""
        self._log = structlog.get_logger(logger)
        self._begins = begins
        self._ends = ends
        self._fields = fields
        self._lock = threading.Lock()
        self._since: float | None = None
        self._failures = 0

    def failed(self, reason: str, number: int = 1) -> None:
        """Notes `number` failures; the first of an outage is logged."""
        with self._lock:
            first = self._since is None
            if first:
                self._since, self._failures = time.monotonic(), 0
            self._failures += number
        if first:
            self._log.warning(self._begins, reason=reason, **self._fields)

    def worked(self) -> None:
        """Notes a success; the first after an outage is logged, with the outage's length and number of failures."""
        if self._since is None:
            return
        with self._lock:
            if self._since is None:
                return
            seconds, self._since = time.monotonic() - self._since, None
            failures = self._failures
        self._log.info(self._ends, seconds=round(seconds, 1), failures=failures, **self._fields)
