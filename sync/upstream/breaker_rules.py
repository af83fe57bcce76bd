"""The rules that decide when a service counts as down. `breaker.py` handles the threads, the pings and the database.

A record that a service cannot handle does not show that the service is down, however many calls for that record fail.
Therefore, only the first failure of each record counts. A record that has not failed for `FAILED_RECORD_SECONDS` counts
again at its next failure.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sync.errors import UpstreamError
from sync.settings import times

#: How many of the most recent calls count, and for how many records they must fail to open the breaker.
WINDOW_CALLS = 20
_FAILURES_TO_OPEN = 3
#: How many records may fail, one after another, before calls to a service that responds to pings stop again. It is more
#: than one, since the records that opened the breaker may be the only ones that the service cannot handle. A failure
#: that no record causes always counts.
TRIALS = 5


class BreakerState(StrEnum):
    """Whether calls are made (closed), held back (open), or made one at a time (half open)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Circuit:
    """The state of one breaker. Not safe to share between threads without the lock of `Breakers`."""

    state: BreakerState = BreakerState.CLOSED
    #: True from `close` until the first call after it.
    just_closed: bool = False
    recent: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=WINDOW_CALLS))
    #: The number of calls that failed since the last success, and when the first of them did.
    failed_in_a_row: int = 0
    failing_since: float = 0.0
    pause: float = field(default_factory=lambda: times.PING_SECONDS)
    next_ping: float = 0.0
    half_open_since: float = 0.0
    #: How many of the trials that count have failed since the last ping.
    failed_trials: int = 0
    trial_thread: int | None = None
    trial_since: float = 0.0
    #: When the current outage began, for people. `Breakers` sets it.
    opened_at: datetime | None = None
    #: The state in the database and when it was set, as last read.
    shared: tuple[str, datetime] | None = None
    #: For each record that failed, the method and the time of its last failure.
    failed: dict[str, tuple[str, float]] = field(default_factory=dict)

    def open(self, moment: float, retry_after: float | None) -> None:
        """Marks the service as down. If it was being tried, the pause before the next ping doubles, up to a maximum.

        The next ping comes at least `retry_after` seconds after `moment`, or `MAX_RETRY_AFTER_SECONDS` if that is less.
        """
        tried = self.state is BreakerState.HALF_OPEN
        self.pause = min(self.pause * 2, times.MAX_PING_SECONDS) if tried else times.PING_SECONDS
        asked = min(retry_after or 0, times.MAX_RETRY_AFTER_SECONDS)
        self.next_ping = moment + max(self.pause if tried else times.FIRST_PING_SECONDS, asked)
        self.state = BreakerState.OPEN
        self._clear_window()

    def half_open(self, moment: float) -> None:
        """Lets one call at a time try the service."""
        self.state = BreakerState.HALF_OPEN
        self.half_open_since = moment
        self.failed_trials = 0
        self.trial_thread = None

    def close(self) -> None:
        """Closes the breaker, so that all calls are made again."""
        self.state = BreakerState.CLOSED
        self.just_closed = True
        self.pause = times.PING_SECONDS
        self._clear_window()

    def trial_failed(self, moment: float, record: str, method: str, error: UpstreamError) -> None:
        """Records the failure of a call that tried the service. Opens the breaker after `TRIALS` such failures.

        A further failure of the same record counts only if the error shows that the service is unavailable.
        """
        self.half_open_since = moment
        if self._is_first_failure(moment, record, method) or error.unavailable:
            self.failed_trials += 1
            if self.failed_trials >= TRIALS:
                self.open(moment, error.retry_after)

    def call_failed(self, moment: float, record: str, method: str, retry_after: float | None) -> None:
        """Records a failed call, and opens the breaker if enough recent calls have failed.

        A call that was in flight when the breaker opened only adds its record to `failed`.
        """
        if self._is_first_failure(moment, record, method) and self.state is BreakerState.CLOSED:
            self._count(moment, failed=True)
            if self._is_failing(moment):
                self.open(moment, retry_after)

    def call_succeeded(self, moment: float) -> None:
        """Records that a call succeeded while the breaker was closed."""
        self._count(moment, failed=False)

    def failed_otherwise(self, record: str | None, method: str) -> bool:
        """Whether `record` has failed recently, and last failed with a method other than `method`."""
        return record in self.failed and self.failed[record][0] != method

    def recovered(self, record: str, method: str) -> None:
        """Records that a call for `record` succeeded.

        If the last failed call for `record` used the same `method`, the service was to blame, so all failed records are
        forgotten.
        """
        if record in self.failed and self.failed[record][0] == method:
            self.failed.clear()

    def _is_first_failure(self, moment: float, record: str, method: str) -> bool:
        _, last = self.failed.pop(record, ("", -times.FAILED_RECORD_SECONDS))
        self.failed[record] = (method, moment)
        # The dict is in the order of the failures, oldest first.
        while (oldest := next(iter(self.failed.items())))[1][1] <= moment - times.FAILED_RECORD_SECONDS:
            del self.failed[oldest[0]]
        return last <= moment - times.FAILED_RECORD_SECONDS

    def _clear_window(self) -> None:
        self.recent.clear()
        self.failed_in_a_row = 0

    def _count(self, moment: float, failed: bool) -> None:
        self.recent.append((moment, failed))
        if not failed:
            self.failed_in_a_row = 0
            return
        if not self.failed_in_a_row:
            self.failing_since = moment
        self.failed_in_a_row += 1

    def _is_failing(self, moment: float) -> bool:
        """Whether three or more calls have failed, and enough of them to count as an outage.

        It is enough if they are most of the recent calls, or every call for at least `BREAKER_QUIET_SECONDS`.
        """
        outcomes = [failed for time_, failed in self.recent if time_ >= moment - times.BREAKER_WINDOW_SECONDS]
        failures = sum(outcomes)
        if failures >= _FAILURES_TO_OPEN and 2 * failures > len(outcomes):
            return True
        return self.failed_in_a_row >= _FAILURES_TO_OPEN and moment - self.failing_since >= times.BREAKER_QUIET_SECONDS
