"""Gives processes unique names, and finds out whether the process with a given name has ended.

On Linux, the name of a process consists of the boot id of the machine, and the namespace (a container has its own),
number and start time of the process. Such a name is never used again, and any process in the same namespace can find
out whether the named process still exists.
"""

import os
from pathlib import Path

_UNKNOWN_PLACE = "?"


def this_process() -> str:
    """The name of this process, for its leases. On Linux, no other process has, or will ever have, this name."""
    return f"{_place()}/{os.getpid()}/{_start_of(os.getpid())}"


def process_is_gone(name: str) -> bool:
    """Whether it is certain that the process called `name` has ended; False if this process cannot tell."""
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
    """When a process started, in ticks since boot; None if there is no such process, or if it is a zombie."""
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may itself contain spaces and brackets. The state and the numbers follow the last bracket.
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]
