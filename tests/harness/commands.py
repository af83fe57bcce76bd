"""Runs the program's commands in the process that runs the test."""

from __future__ import annotations

import functools
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest import mock

import structlog
import typer.main

from jobs.cli.app import PROGRAM, main
from sync.settings import times


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit code and the output of a command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The JSON value that the command wrote to stdout."""
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        """The JSON values that the command wrote to stdout, one on each line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def errors(self) -> list[str]:
        """The lines that the command wrote to stderr, apart from the log."""
        return [line for line in self.err.splitlines() if not line.startswith("{")]

    @property
    def error(self) -> str:
        """The line that the command wrote to stderr, apart from the log. There must be exactly one."""
        (line,) = self.errors
        return line


class Terminal(io.StringIO):
    """A terminal at which a person types `answer`. `before` is called each time the command reads a line."""

    def __init__(self, answer: str, before: Callable[[], object] = lambda: None) -> None:
        super().__init__(answer)
        self._before = before

    def isatty(self) -> bool:
        """Returns True."""
        return True

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        """Calls `before`, and returns the typed line."""
        self._before()
        return super().readline(-1 if size is None else size)


#: A real process builds its command line once. In the tests, hundreds of commands share a process and its command line.
_command_line = functools.cache(typer.main.get_command)


def run_here(arguments: Sequence[str], settings: Mapping[str, str], answer: str | Terminal = "") -> Ended:
    """Runs a command in this process until it ends, with `settings` added to the environment.

    `answer` is the command's standard input: a terminal, or text that comes through a pipe.
    """
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.dict(os.environ, settings),
        mock.patch.object(typer.main, "get_command", _command_line),
        # Published events are already on the queue, so no receive has to wait for them.
        mock.patch.object(times, "LONG_POLL_SECONDS", 0),
        mock.patch.object(sys, "argv", [PROGRAM, *arguments]),
        mock.patch.object(sys, "stdin", answer if isinstance(answer, Terminal) else io.StringIO(answer)),
        redirect_stdout(out),
        redirect_stderr(err),
        own_logging(),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return Ended(code, out.getvalue(), err.getvalue())


@contextmanager
def own_logging() -> Iterator[None]:
    """Lets a command set up logging during the `with` block. Afterwards, the previous set-up is restored."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {name: each.level for name, each in root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    configured, before = structlog.is_configured(), structlog.get_config()
    try:
        yield
    finally:
        structlog.reset_defaults()
        if configured:
            structlog.configure(**before)
        root.handlers = handlers
        for name, each in root.manager.loggerDict.items():
            if isinstance(each, logging.Logger):
                each.level = levels.get(name, logging.NOTSET)
        # The loop changes levels without emptying the loggers' caches. This call empties the caches of all loggers.
        root.setLevel(level)
