"""What both runs of `benchmarks.chaos` are made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from jobs.runtime.application import Application
from sync.settings.declaration import QUEUES
from tests.harness.databases import PostgresServer


def database_of(kind: str, folder: Path, stack: ExitStack) -> tuple[str, PostgresServer | None]:
    """The address of a fresh database, and its server where it is `postgresql`; `stack` ends it."""
    if kind == "sqlite":
        return f"sqlite:///{folder}/chaos.db", None
    server = PostgresServer()
    stack.callback(server.close)
    server.start()
    return server.url.render_as_string(hide_password=False), server


def depth(program: Application) -> int:
    """How many messages are on the queues, in whatever state."""
    return sum(program.queue_pair(queue).main.counts().total for queue in QUEUES)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for a condition; whether it came to hold in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def say(where: TextIO | None, text: str) -> None:
    """Tells how far it is, where somebody listens."""
    if where is not None:
        print(text, file=where, flush=True)
