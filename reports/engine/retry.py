"""Reads that fail are tried again, after growing waits, while that may help."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from sync.failures import BreakerOpen, SyncError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")

#: Waits before the 2nd, 3rd, … attempt at one read, in seconds, each lengthened by chance up to the double.
_WAITS = (0.1, 0.4, 1.6)
#: The longest wait that a service may ask for.
_LONGEST_ASKED_SECONDS = 60.0
#: How long until a service that is taken to be down is asked for again, lengthened by chance up to the double.
_HOLD_STEP_SECONDS = 1.0


def seconds_to_retry(error: Exception, attempt: int) -> float | None:
    """How long to wait after the failed `attempt`, counted from 0, before the next; None when it is not worth one."""
    if not isinstance(error, SyncError) or not error.recoverable or attempt >= len(_WAITS):
        return None
    asked = (error.retry_after if isinstance(error, UpstreamError) else None) or 0.0
    return max(_lengthened(_WAITS[attempt]), min(asked, _LONGEST_ASKED_SECONDS))


def read_patiently(read: Callable[[], Value], wait: Callable[[float], object], hold_seconds: float = 0.0) -> Value:
    """What `read` returns, tried again while that may help; raises the `SyncError` of the last attempt.

    `wait` is called with the seconds until the next attempt, and gives up by answering something true. A service that
    is taken to be down was not asked: it is waited for, up to `hold_seconds`, before that counts as attempts.
    """
    attempt, held = 0, 0.0
    while True:
        try:
            return read()
        except SyncError as error:
            if isinstance(error, BreakerOpen) and held < hold_seconds:
                pause = _lengthened(_HOLD_STEP_SECONDS)
                held += pause
            else:
                again_in = seconds_to_retry(error, attempt)
                if again_in is None:
                    raise
                pause = again_in
                attempt += 1
            if wait(pause):
                raise


def _lengthened(seconds: float) -> float:
    return seconds * (1 + random.random())
