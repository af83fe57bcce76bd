"""The program in a process of its own that need not start anew: forked from one that has imported everything.

What that is stands in `tests.harness.imported`. A command spends more than a second on importing before it does
anything, and the tests run hundreds of them.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import botocore.hooks
import botocore.session
from botocore.hooks import EventAliaser

from jobs.cli.app import PROGRAM, main
from tests.harness.children import CONTEXT, end_with_parent
from tests.harness.waiting import LONGEST_SECONDS

_ADDED = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_OPENED = (os.O_RDONLY, _ADDED, _ADDED)


class Command:
    """A running command of the program, in `folder`, with `environment` alone.

    What it writes is added to the files `out` and `err`; it reads `typed`, a file too, or nothing.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        out: Path = Path(os.devnull),
        err: Path = Path(os.devnull),
        typed: Path = Path(os.devnull),
    ) -> None:
        self._process = CONTEXT.Process(
            target=_run, args=(list(arguments), dict(environment), folder, (typed, out, err)), daemon=True
        )
        self._process.start()

    def poll(self) -> int | None:
        """Its exit code, the negative signal that ended it, or None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = LONGEST_SECONDS) -> int:
        """Its exit code when it has ended. Raises `TimeoutError` after `seconds`."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            raise TimeoutError(f"{self._process.name} goes on after {seconds} s")
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal; none when it has ended."""
        if self._process.exitcode is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Ends it as `kill -9` does, if it still runs."""
        self._process.kill()
        self._process.join(LONGEST_SECONDS)


class _RememberingAliaser(EventAliaser):  # type: ignore[misc]
    """Looks up once for the whole process what an event of botocore is called now; each client begins anew else."""

    _names: ClassVar[dict[str, str]] = {}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._alias_name_cache = self._names


def keep_what_never_changes() -> None:
    """Lets whatever runs in this process share what a process of the program works out once.

    That is what botocore reads about AWS's services, names of events and of parameters: most of the making of a client.
    """
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    botocore.session.EventAliaser = _RememberingAliaser
    botocore.hooks.accepts_kwargs = functools.lru_cache(2_048)(botocore.hooks.accepts_kwargs)


def run_command(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, answer: str = ""
) -> tuple[int, str, str]:
    """Runs a command of the program to its end; its exit code, output and errors. `answer` is what is typed."""
    with tempfile.TemporaryDirectory() as streams:
        typed, out, err = (Path(streams, name) for name in ("in", "out", "err"))
        typed.write_text(answer, encoding="utf-8")
        command = Command(arguments, environment, folder, out, err, typed)
        try:
            code = command.wait()
        finally:
            command.kill()
        return code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")


def _run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, streams: tuple[Path, Path, Path]
) -> None:
    end_with_parent(signal.SIGKILL)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    for number, (path, flags) in enumerate(zip(streams, _OPENED, strict=True)):
        os.dup2(os.open(path, flags), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    sys.argv = [PROGRAM, *arguments]
    main()
