"""Ends a child process with the process that started it, however that ends."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping

_PR_SET_PDEATHSIG = 1


def watch_parent(on_end: Callable[[], None]) -> None:
    """Calls `on_end` (in a thread) once the other end of the standard input closes, as it does when the parent ends."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        on_end()

    threading.Thread(target=wait, name="parent watch", daemon=True).start()


def report_to_parent(report: Mapping[str, object]) -> None:
    """Writes one line of JSON for the process that started this one; ends when that is gone already."""
    try:
        os.write(sys.stdout.fileno(), json.dumps(report).encode() + b"\n")
    except BrokenPipeError:
        os._exit(0)


def end_with_parent(by: signal.Signals) -> None:
    """Lets the process that calls this receive the signal when its parent ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
