"""Makes several reads at once, in daemon threads: a slow read delays neither the others nor the program's exit."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from sync.errors import one_line

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class ReadResult(Generic[T_co]):
    """The result of a read: the value, or a line that says why the value is `unknown`."""

    value: T_co | None = None
    unknown: str | None = None


def start(name: str, ask: Callable[[], T]) -> "Future[T]":
    """Calls `ask`, which must not raise an error, in a daemon thread called `name`. Returns a future for its result."""
    future: Future[T] = Future()
    threading.Thread(target=lambda: future.set_result(ask()), name=name, daemon=True).start()
    return future


def late_text(deadline_seconds: float) -> str:
    """The text for a read that got no response within `deadline_seconds`."""
    return f"no response within {deadline_seconds:g} s"


def reading_of(ask: Callable[[], T], *passed_on: type[Exception]) -> ReadResult[T]:
    """The result of one read.

    If the read raises an error, the result is unknown. An error of a type in `passed_on` is raised instead.
    """
    try:
        return ReadResult(ask())
    except passed_on:
        raise
    except Exception as error:  # a failing part does not hide any other
        return ReadResult(unknown=one_line(error))


def read_all(questions: Mapping[str, Callable[[], Any]], deadline_seconds: float) -> dict[str, ReadResult[Any]]:
    """The result of each read in `questions`, by the name of the read.

    A result is unknown if the read fails or takes longer than `deadline_seconds`.
    """
    asked = {name: start(f"read {name}", partial(reading_of, ask)) for name, ask in questions.items()}
    wait(asked.values(), deadline_seconds)
    late: ReadResult[Any] = ReadResult(unknown=late_text(deadline_seconds))
    return {name: future.result() if future.done() else late for name, future in asked.items()}
