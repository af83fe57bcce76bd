"""Logs the failures of repeated work without flooding: the first, each other reason, and the recovery."""

import threading
import time

import structlog

from jobs.runtime.logging import traces_wanted
from sync.failures import one_line

#: The most different reasons that are logged of one outage.
_MOST_REASONS = 10


class FailureLog:
    """Whether a piece of repeated work fails at present. Safe to share between threads."""

    def __init__(self, work: str) -> None:
        """`work` names the work in the log, such as `drain of visit`."""
        self._work = work
        self._log = structlog.get_logger("jobs.runtime.failure_log")
        self._lock = threading.Lock()
        self._since: float | None = None
        self._reason = ""
        self._failures = 0
        self._logged: set[str] = set()

    @property
    def reason(self) -> str | None:
        """Why the work fails at present, None when it does not."""
        with self._lock:
            return self._reason if self._since is not None else None

    def failed(self, error: Exception) -> None:
        """Notes that the work failed, to be tried again."""
        with self._lock:
            first = self._since is None
            if first:
                self._since, self._failures = time.monotonic(), 0
                self._logged.clear()
            self._failures += 1
            self._reason = one_line(error)
            is_new = self._reason not in self._logged and len(self._logged) < _MOST_REASONS
            if is_new:
                self._logged.add(self._reason)
        fields = {"work": self._work, "reason": self._reason, "error": type(error).__name__}
        if first:
            self._log.error("work-failing", **fields, exc_info=traces_wanted())
        elif is_new:
            self._log.error("work-fails-otherwise", **fields)

    def worked(self) -> None:
        """Notes that the work succeeded."""
        with self._lock:
            if self._since is None:
                return
            seconds, failures = time.monotonic() - self._since, self._failures
            self._since = None
        self._log.info("work-succeeds-again", work=self._work, seconds=round(seconds, 1), failures=failures)
