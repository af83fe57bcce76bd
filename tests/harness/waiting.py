"""Waits for what a test does not cause directly.

The functions wait so long before they give up that there must be a fault.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic, sleep
from typing import ParamSpec, TypeVar

#: The limit of every wait, in seconds. It is below the time limit of a test, and far above what a slow machine needs.
LONGEST_SECONDS = 90
#: The first and the longest pause between two polls, in seconds. A poll also costs the polled process time.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 0.1

Found = TypeVar("Found")
Given = ParamSpec("Given")


def until(poll: Callable[[], Found | None], what: str = "what is waited for") -> Found:
    """Calls `poll` until its result is true, and returns that result. Fails after `LONGEST_SECONDS`, naming `what`."""
    start = monotonic()
    while True:
        found = poll()
        if found:
            return found
        waited = monotonic() - start
        assert waited < LONGEST_SECONDS, f"did not happen in time: {what}"
        sleep(min(max(waited / 10, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS))


def in_thread(call: Callable[Given, Found], *arguments: Given.args, **named: Given.kwargs) -> Future[Found]:
    """Starts a call in a daemon thread. `result_of` waits for the result of the call."""
    future: Future[Found] = Future()

    def work() -> None:
        try:
            future.set_result(call(*arguments, **named))
        except BaseException as error:  # raised again by `result_of`
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def result_of(future: Future[Found]) -> Found:
    """Waits until a call in a thread has ended, and returns its result. Raises what the call raised."""
    return future.result(LONGEST_SECONDS)


def failure_of(future: Future[Found]) -> BaseException | None:
    """Waits until a call in a thread has ended. Returns the error that the call raised, or None if it succeeded."""
    return future.exception(LONGEST_SECONDS)
