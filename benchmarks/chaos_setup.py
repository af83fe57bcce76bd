"""The database, the processes and the queues of both runs of `benchmarks.chaos`."""

from __future__ import annotations

import json
import os
import pkgutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import jobs
import reports
import sync
from benchmarks.forked_command import CONTEXT, ForkedCommand, run_forked
from jobs.cli.app import PROGRAM, main
from jobs.runtime.application import Application
from sandbox.postgres import PostgresServer
from sync.settings.queues import QUEUES


def database_of(kind: str, folder: Path, stack: ExitStack) -> tuple[str, PostgresServer | None]:
    """The address of a fresh database, and its server (None for `sqlite`). Closing `stack` stops the server."""
    if kind == "sqlite":
        return f"sqlite:///{folder}/chaos.db", None
    server = PostgresServer()
    stack.callback(server.close)
    server.start()
    return server.url.render_as_string(hide_password=False), server


def start_command(arguments: tuple[str, ...], environment: Mapping[str, str], log: Path) -> ForkedCommand:
    """Starts a command of the program in a separate process, and appends its output to `log`."""
    return ForkedCommand(main, [PROGRAM, *arguments], {**os.environ, **environment}, Path.cwd(), log, log)


def retry_all_dead_letters(environment: Mapping[str, str]) -> int:
    """Sends dead-letter messages back, as the scheduled housekeeping does. Returns how many messages were sent back."""
    argv = [PROGRAM, "dlq", "retry-all", "--json"]
    code, out, err = run_forked(main, argv, {**os.environ, **environment}, Path.cwd())
    if code:
        raise RuntimeError(f"housekeeping ended with {code}: {err}")
    return sum(each["messagesRetriedCount"] for each in json.loads(out))


def preload_program() -> None:
    """Makes the fork server import the whole program once."""
    names = [
        module.name
        for package in (jobs, reports, sync)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    CONTEXT.set_forkserver_preload([name for name in names if "migrations" not in name])


def depth(program: Application) -> int:
    """How many messages are on the main queues, in any state."""
    return sum(program.queue_pair(queue).main.counts().total for queue in QUEUES)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits up to `seconds` until `condition` holds. Returns whether it held in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def say(where: TextIO | None, text: str) -> None:
    """Prints `text`, which reports progress, to `where`. Does nothing if `where` is None."""
    if where is not None:
        print(text, file=where, flush=True)
