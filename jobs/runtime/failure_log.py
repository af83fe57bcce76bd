"""Something the program needs is away: said once, and once more when it is back."""

import threading
import time

import structlog

from jobs.runtime.logging import traces_wanted
from sync.failures import one_line

#: Different reasons that are logged of one outage.
_MOST_REASONS = 10


class FailureLog:
    """Whether a piece of repeated work fails at present; logs its first failure, each new reason, and its recovery."""

    def __init__(self, what: str) -> None:
        """`what` names the work in the log, such as `drain of visit`."""
        self._what = what
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
        """The work failed; it will be tried again."""
        with self._lock:
            first = self._since is None
            if first:
                self._since = time.monotonic()
                self._failures = 0
                self._logged.clear()
            self._failures += 1
            self._reason = one_line(error)
            otherwise = self._reason not in self._logged and 0 < len(self._logged) < _MOST_REASONS
            if first or otherwise:
                self._logged.add(self._reason)
        if first:
            self._log.error(
                "work-failing",
                work=self._what,
                reason=self._reason,
                error=type(error).__name__,
                exc_info=traces_wanted(),
            )

        elif otherwise:
            self._log.error("work-fails-otherwise", work=self._what, reason=self._reason, error=type(error).__name__)

    def worked(self) -> None:
        """The work succeeded."""
        with self._lock:
            if self._since is None:
                return
            seconds, failures = time.monotonic() - self._since, self._failures
            self._since = None
        self._log.info("work-succeeds-again", work=self._what, seconds=round(seconds, 1), failures=failures)
