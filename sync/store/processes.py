"""Which process wrote something, and whether it is still there.

A process is named by the boot of its machine, its process namespace (a container's own), its number and its start: the
name is never used again, and any process of the same namespace can tell whether the one named is gone.
"""

import os
from pathlib import Path

_UNKNOWN = "?"


def this_process() -> str:
    """The name of the present process."""
    return f"{_place()}/{os.getpid()}/{_start_of(os.getpid())}"


def process_is_gone(name: str) -> bool:
    """Whether the process called `name` is certainly no more. False where that cannot be told from here."""
    place, _, rest = name.partition("/")
    number, _, start = rest.partition("/")
    if not number.isdigit() or not start.isdigit() or place == _UNKNOWN or place != _place():
        return False
    return _start_of(int(number)) != start


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return _UNKNOWN
    return f"{boot[:13]}:{namespace.strip('pid:[]')}"


def _start_of(number: int) -> str | None:
    """When a process was started, in ticks since boot; None when there is none, or one that only waits to be buried."""
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may hold spaces and brackets; what follows the last one are the state and numbers.
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]
