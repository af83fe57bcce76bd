"""When one service counts as down: the rules of a breaker, without threads, pings or a database.

A record that a service cannot handle is not an outage, however often it is tried: a failure counts once for each
record, and a record that failed before says nothing new when it fails again.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sync.failures import UpstreamError
from sync.settings import times

#: The number of recent calls that count, and the number of records that must have failed among them.
WINDOW_CALLS = 20
_FAILURES_TO_OPEN = 3
#: How many records may fail, one after another, before the calls to a service that responds to pings stop again: the
#: records that opened the breaker may be the only ones that it cannot handle. Failures of which no record is the cause
#: always count.
TRIALS = 5


class BreakerState(StrEnum):
    """Whether calls are made, held back, or tried one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Circuit:
    """The state of one breaker. Not safe to share between threads: `Breakers` holds its lock."""

    state: BreakerState = BreakerState.CLOSED
    #: Set by `close`, until the first call after it.
    just_closed: bool = False
    recent: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=WINDOW_CALLS))
    #: The number of calls that failed since the last success, and when the first of them did.
    failed_in_a_row: int = 0
    failing_since: float = 0.0
    pause: float = field(default_factory=lambda: times.PING_SECONDS)
    next_ping: float = 0.0
    half_open_since: float = 0.0
    #: The number of trials that failed since the last ping, of those that count.
    failed_trials: int = 0
    trial_thread: int | None = None
    trial_since: float = 0.0
    #: The state in the database and when it was set, as last read.
    shared: tuple[str, datetime] | None = None
    #: The records that failed, the methods, and when each last failed.
    failed: dict[str, tuple[str, float]] = field(default_factory=dict)

    def open(self, moment: float, retry_after: float | None) -> None:
        """Marks the service as down; the pause before the next ping grows if it was only being tried."""
        tried = self.state is BreakerState.HALF_OPEN
        self.pause = min(self.pause * 2, times.MAX_PING_SECONDS) if tried else times.PING_SECONDS
        asked = min(retry_after or 0, times.MAX_RETRY_AFTER_SECONDS)
        self.next_ping = moment + max(self.pause if tried else times.FIRST_PING_SECONDS, asked)
        self.state = BreakerState.OPEN
        self._clear_window()

    def half_open(self, moment: float) -> None:
        """Allows one call at a time."""
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
        """Records the failure of a call that tried the service."""
        self.half_open_since = moment
        if self._is_first_failure(moment, record, method) or error.unavailable:
            self.failed_trials += 1
            if self.failed_trials >= TRIALS:
                self.open(moment, error.retry_after)

    def call_failed(self, moment: float, record: str, method: str, retry_after: float | None) -> None:
        """Records a failed call; if it was in flight when the breaker opened, only its record is noted."""
        if self._is_first_failure(moment, record, method) and self.state is BreakerState.CLOSED:
            self._count(moment, failed=True)
            if self._is_failing(moment):
                self.open(moment, retry_after)

    def call_succeeded(self, moment: float) -> None:
        """Records a successful call while the breaker is closed."""
        self._count(moment, failed=False)

    def failed_otherwise(self, record: str | None, method: str) -> bool:
        """Whether this record failed recently with another method."""
        return record in self.failed and self.failed[record][0] != method

    def recovered(self, record: str, method: str) -> None:
        """A record that failed and now succeeds with the same method shows that the service was to blame."""
        if record in self.failed and self.failed[record][0] == method:
            self.failed.clear()

    def _is_first_failure(self, moment: float, record: str, method: str) -> bool:
        _, last = self.failed.pop(record, ("", -times.FAILED_RECORD_SECONDS))
        self.failed[record] = (method, moment)
        # The oldest come first.
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
        """Whether most of the recent calls failed, or all for a while, and enough of them."""
        outcomes = [failed for time_, failed in self.recent if time_ >= moment - times.BREAKER_WINDOW_SECONDS]
        failures = sum(outcomes)
        if failures >= _FAILURES_TO_OPEN and 2 * failures > len(outcomes):
            return True
        return self.failed_in_a_row >= _FAILURES_TO_OPEN and moment - self.failing_since >= times.BREAKER_QUIET_SECONDS
