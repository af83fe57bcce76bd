"""Progress of long work: bars on a terminal, otherwise an occasional line, always on stderr."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from jobs.cli.output import plain

#: Receives the stage, how much of it is done, and how much there is (0 while that is unknown).
ProgressCallback = Callable[[str, int, int], None]


@contextmanager
def live_progress(stream: TextIO | None = None, every_seconds: float = 60) -> Iterator[ProgressCallback]:
    """A callback that any thread may call.

    Without a terminal a stage is printed when it begins, every `every_seconds`, and when it ends.
    """
    out = stream or sys.stderr
    if out.isatty():
        with _bars(out) as callback:
            yield callback
    else:
        yield _Lines(out, every_seconds).report


@contextmanager
def _bars(out: TextIO) -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    lock = threading.Lock()
    with Progress(*columns, console=Console(file=out)) as bars:

        def report(stage: str, done: int, total: int) -> None:
            stage = plain(stage)
            with lock:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total or None)
                bars.update(tasks[stage], completed=done, total=total or None)

        yield report


class _Lines:
    """Progress as lines of text."""

    def __init__(self, out: TextIO, every_seconds: float) -> None:
        self._out = out
        self._every = every_seconds
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self._ended: set[str] = set()

    def report(self, stage: str, done: int, total: int) -> None:
        stage, now = plain(stage), time.monotonic()
        with self._lock:
            ended = 0 < total <= done
            if stage in self._ended or not (ended or now - self._said.get(stage, float("-inf")) >= self._every):
                return
            self._said[stage] = now
            if ended:
                self._ended.add(stage)
            share = f"{done:,} of {total:,} ({100 * done // total} %)" if total else f"{done:,}"
            self._out.write(f"{stage}: {share}\n")
            self._out.flush()
