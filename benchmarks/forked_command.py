"""Runs a program's `main` in a process forked from one that has already imported it.

A cold start spends more than a second on imports; a forked process begins its work at once.
`CONTEXT.set_forkserver_preload` sets the modules that are imported beforehand.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from sandbox.child_processes import end_with_parent

CONTEXT = multiprocessing.get_context("forkserver")
#: The longest time to wait for a command to end, unless the caller gives another time.
LONGEST_SECONDS = 90.0
_SHOWN_CHARACTERS = 20_000

Main: TypeAlias = Callable[[], object]

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_OPEN_FLAGS = (os.O_RDONLY, _APPEND, _APPEND)
_NOWHERE = Path(os.devnull)


class ForkedCommand:
    """A running command: `main` with the command line `argv`, in `folder`, with only the variables of `environment`.

    Its output is appended to the files `out` and `err`; it reads its input from the file `stdin`.
    """

    def __init__(
        self,
        main: Main,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        out: Path = _NOWHERE,
        err: Path = _NOWHERE,
        stdin: Path = _NOWHERE,
    ) -> None:
        self._err = err
        self._process = CONTEXT.Process(
            target=_run, args=(main, list(argv), dict(environment), folder, (stdin, out, err)), daemon=True
        )
        self._process.start()

    def poll(self) -> int | None:
        """The exit code, the negative number of the signal that ended the process, or None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = LONGEST_SECONDS) -> int:
        """Waits for the end and returns the exit code.

        Raises `TimeoutError` after `seconds`, with the end of stderr, which says what each thread of the command was
        doing.
        """
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self.send_signal(signal.SIGABRT)
            self._process.join(seconds)
            written = self._err.read_text(encoding="utf-8", errors="replace")[-_SHOWN_CHARACTERS:]
            raise TimeoutError(f"{self._process.name} is still running after {seconds} s:\n{written}")
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Sends the process a signal, unless it has ended."""
        if self._process.exitcode is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Ends the process as `kill -9` does, if it is still running."""
        self._process.kill()
        self._process.join(LONGEST_SECONDS)


def run_forked(
    main: Main, argv: Sequence[str], environment: Mapping[str, str], folder: Path, typed: str = ""
) -> tuple[int, str, str]:
    """Runs a command to its end, and returns its exit code, output and errors. `typed` is its input."""
    with tempfile.TemporaryDirectory() as streams:
        stdin, out, err = (Path(streams, name) for name in ("in", "out", "err"))
        stdin.write_text(typed, encoding="utf-8")
        command = ForkedCommand(main, argv, environment, folder, out, err, stdin)
        try:
            code = command.wait()
        finally:
            command.kill()
        return code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")


def _run(
    main: Main, argv: list[str], environment: Mapping[str, str], folder: Path, streams: tuple[Path, Path, Path]
) -> None:
    end_with_parent(signal.SIGKILL)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    for number, (path, flags) in enumerate(zip(streams, _OPEN_FLAGS, strict=True)):
        os.dup2(os.open(path, flags), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    # SIGABRT makes it write what each thread is doing.
    faulthandler.enable()
    sys.argv = argv
    main()
