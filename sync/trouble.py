"""Something that keeps failing: logged when it begins and when it is over, however often it fails between."""

import threading
import time
from typing import Any

import structlog


class Trouble:
    """Whether a piece of repeated work fails at present. Safe to share between threads."""

    def __init__(self, logger: str, begins: str, ends: str, **told: Any) -> None:
        """Logs as `logger` the events `begins` (a warning) and `ends`, both with `told`."""
        self._log = structlog.get_logger(logger)
        self._begins = begins
        self._ends = ends
        self._told = told
        self._lock = threading.Lock()
        self._since: float | None = None
        self._failures = 0

    def failed(self, reason: str, number: int = 1) -> None:
        """It failed, `number` times."""
        with self._lock:
            first = self._since is None
            if first:
                self._since, self._failures = time.monotonic(), 0
            self._failures += number
        if first:
            self._log.warning(self._begins, reason=reason, **self._told)

    def worked(self) -> None:
        """It succeeded."""
        if self._since is None:
            return
        with self._lock:
            if self._since is None:
                return
            seconds, self._since = time.monotonic() - self._since, None
            failures = self._failures
        self._log.info(self._ends, seconds=round(seconds, 1), failures=failures, **self._told)
