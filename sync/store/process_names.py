"""Gives processes unique names, and finds out whether the process with a certain name has ended.

The name of a process consists of the boot id of its machine, its process namespace (a container has its own), its
number and its start time. A name is never used again, and any process in the same namespace can find out whether the
named process still exists.
"""

import os
from pathlib import Path

_UNKNOWN_PLACE = "?"


def this_process() -> str:
    """The name of this process, which leases contain. No other process has, or will ever have, this name."""
    return f"{_place()}/{os.getpid()}/{_start_of(os.getpid())}"


def process_is_gone(name: str) -> bool:
    """Whether the process called `name` has certainly ended; False if this process cannot know."""
    place, _, rest = name.partition("/")
    number, _, start = rest.partition("/")
    if not number.isdigit() or not start.isdigit() or place == _UNKNOWN_PLACE or place != _place():
        return False
    return _start_of(int(number)) != start


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return _UNKNOWN_PLACE
    return f"{boot[:13]}:{namespace.strip('pid:[]')}"


def _start_of(number: int) -> str | None:
    """When a process started, in ticks since boot; None if there is no such process or it is a zombie."""
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may itself contain spaces and brackets. The state and the numbers follow the last bracket.
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]
