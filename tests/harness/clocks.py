"""A monotonic clock for the program. Tests move the clock forward instead of waiting."""

from __future__ import annotations

import time
from types import ModuleType

import pytest


class Clock:
    """A replacement for the module `time`, with a clock that is `ahead` seconds ahead of the machine's."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        """The machine's monotonic time in seconds, plus `ahead`."""
        return time.monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        """Sleeps for `seconds` of real time."""
        time.sleep(seconds)


def clock_of(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Clock:
    """A clock that the given modules of the program read until the end of the test."""
    clock = Clock()
    for module in modules:
        monkeypatch.setattr(module, "time", clock)
    return clock
