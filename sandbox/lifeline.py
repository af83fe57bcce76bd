"""Ends a process of the sandbox with the one that started it, however that ends."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping


def hold(ended: Callable[[], None]) -> None:
    """Call `ended` (in a thread) once the other end of the standard input closes, as it does when the parent ends."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        ended()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def tell(told: Mapping[str, object]) -> None:
    """Write one line of JSON for the process that started this one; end when it is gone already."""
    try:
        os.write(sys.stdout.fileno(), json.dumps(told).encode() + b"\n")
    except BrokenPipeError:
        os._exit(0)
