"""Waiting for what comes about by itself: looked for often, given up so late that only a fault can be the reason."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic, sleep
from typing import ParamSpec, TypeVar

#: The guard of every wait, below the time limit of a test; a slow machine must not come near it.
LONGEST_SECONDS = 90
_LOOK_SECONDS = 0.01

Found = TypeVar("Found")
Given = ParamSpec("Given")


def until(look: Callable[[], Found | None], what: str = "what is waited for") -> Found:
    """What `look` gives, as soon as it gives something true."""
    deadline = monotonic() + LONGEST_SECONDS
    while True:
        found = look()
        if found:
            return found
        assert monotonic() < deadline, f"it did not happen: {what}"
        sleep(_LOOK_SECONDS)


def in_thread(call: Callable[Given, Found], *arguments: Given.args, **named: Given.kwargs) -> Future[Found]:
    """Has a call made in a thread of its own, which keeps no process alive; ask what came of it with `result_of`."""
    future: Future[Found] = Future()

    def work() -> None:
        try:
            future.set_result(call(*arguments, **named))
        except BaseException as error:  # for whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def result_of(future: Future[Found]) -> Found:
    """What a call in a thread gave, once it has ended; raises what it raised."""
    return future.result(LONGEST_SECONDS)


def failure_of(future: Future[Found]) -> BaseException | None:
    """What a call in a thread raised, once it has ended; None when it went well."""
    return future.exception(LONGEST_SECONDS)
