"""Child processes that end with their test, and commands of the program in separate processes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from benchmarks.forked_command import CONTEXT, ForkedCommand, run_forked
from jobs.cli.app import PROGRAM, main
from tests.harness.waiting import LONGEST_SECONDS

# The modules that most children need are imported once, so that each child starts immediately.
CONTEXT.set_forkserver_preload(["sandbox.__main__", "tests.harness.creations", "tests.harness.preloaded"])


@contextmanager
def child(target: Callable[..., object], *arguments: Any) -> Iterator[ForkServerProcess]:
    """A process that calls `target`. It is killed at the end of the `with` block if it has not ended."""
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
    """A command with text streams. It is killed at the end of the `with` block if it has not ended."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def kill(process: ForkServerProcess) -> None:
    """Ends a child in the middle of its work, as `kill -9` does."""
    process.kill()
    process.join(LONGEST_SECONDS)
    assert process.exitcode == -signal.SIGKILL


def exit_codes(target: Callable[..., object], *calls: tuple[Any, ...]) -> list[int | None]:
    """Runs a function in parallel processes, one for each tuple of arguments, and returns their exit codes."""
    with ExitStack() as stack:
        started = [stack.enter_context(child(target, *arguments)) for arguments in calls]
        for process in started:
            process.join(LONGEST_SECONDS)
        return [process.exitcode for process in started]


def start_command(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, **streams: Path
) -> ForkedCommand:
    """Starts a command of the program in a forked process.

    `streams` may have `out` and `err`, the files for the output and the errors of the command.
    """
    return ForkedCommand(main, [PROGRAM, *arguments], environment, folder, **streams)


def run_command(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, typed: str = ""
) -> tuple[int, str, str]:
    """Runs a command of the program in a forked process, with `typed` as its input.

    Returns the exit code, the output and the errors of the command.
    """
    return run_forked(main, [PROGRAM, *arguments], environment, folder, typed)
