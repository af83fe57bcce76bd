"""Child processes that never outlive their test, whatever happens in it."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.context import ForkServerProcess
from typing import Any

from tests.harness.waiting import LONGEST_SECONDS

_PR_SET_PDEATHSIG = 1
CONTEXT = multiprocessing.get_context("forkserver")
# What most children need is imported once, so that each is there at once.
CONTEXT.set_forkserver_preload(["tests.sync.creation.creating", "tests.harness.imported"])


@contextmanager
def child(target: Callable[..., object], *arguments: Any) -> Iterator[ForkServerProcess]:
    """A process that calls `target`; killed at the end of the block when it has not ended by itself."""
    process = CONTEXT.Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(LONGEST_SECONDS)
        process.close()


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that speaks text; killed at the end of the block when it has not ended by itself."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def end_with_parent(by: signal.Signals) -> None:
    """Lets the process that calls it get this signal when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)


def kill(process: ForkServerProcess) -> None:
    """Ends a child as `kill -9` does, in the midst of its work."""
    process.kill()
    process.join(LONGEST_SECONDS)
    assert process.exitcode == -signal.SIGKILL


def exit_codes(target: Callable[..., object], *calls: tuple[Any, ...]) -> list[int | None]:
    """The exit codes of processes that work side by side, one for each tuple of arguments."""
    with ExitStack() as stack:
        started = [stack.enter_context(child(target, *arguments)) for arguments in calls]
        for process in started:
            process.join(LONGEST_SECONDS)
        return [process.exitcode for process in started]
