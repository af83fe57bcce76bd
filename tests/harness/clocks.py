"""The monotonic clock of the program, which tests move forward instead of waiting."""

from __future__ import annotations

import time
from types import ModuleType

import pytest


class Clock:
    """Replaces the module `time`: the machine's own clock, `ahead` seconds later."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        """The seconds of the machine's clock, plus those by which it was moved forward."""
        return time.monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        """Sleeps."""
        time.sleep(seconds)


def clock_of(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Clock:
    """The clock that modules of the program read until the end of the test."""
    clock = Clock()
    for module in modules:
        monkeypatch.setattr(module, "time", clock)
    return clock
