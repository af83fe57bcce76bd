"""An operator at the keyboard: the program's commands run in this process, against the sandbox."""

from __future__ import annotations

import functools
import io
import json
import logging
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import structlog
import typer.main

from jobs.cli import app as cli
from sandbox import Sandbox
from sync.domains.registry import event_types
from sync.queues.aws import Aws
from sync.queues.setup import QueueOpener, QueuePair
from sync.settings.declaration import QUEUES
from sync.settings.loading import load_settings


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended: exit code and what it wrote."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it wrote to stdout, read as JSON."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The line that the program itself wrote to stderr, besides its log."""
        return "\n".join(line for line in self.err.splitlines() if not line.startswith("{"))


class Terminal(io.StringIO):
    """A keyboard with somebody at it, who types `answer`; `before` happens while they think."""

    def __init__(self, answer: str, before: Callable[[], object] = lambda: None) -> None:
        super().__init__(answer)
        self._before = before

    def isatty(self) -> bool:
        """It is one."""
        return True

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        """A line that is typed."""
        self._before()
        return super().readline(-1 if size is None else size)


class _Queues(dict[str, QueuePair]):
    """The queues by their ids, each made when it is first asked for."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__()
        loaded = load_settings(settings)
        self._opener = QueueOpener(loaded, Aws(loaded), event_types)

    def __missing__(self, queue: str) -> QueuePair:
        self.make(queue)
        return self[queue]

    def make(self, *queues: str) -> None:
        """Makes queues and their subscriptions."""
        self.update({queue: self._opener.open(queue) for queue in queues})


#: A process makes its command line once; here hundreds of commands have one process.
_command_line = functools.cache(typer.main.get_command)


class Operator:
    """Runs commands with the settings of one test: those of the sandbox, a database and a folder of its own."""

    def __init__(self, sandbox: Sandbox, folder: Path, template: Path) -> None:
        self.sandbox = sandbox
        self.folder = folder
        self._template = template
        self.settings: dict[str, str] = {
            **sandbox.environment(),
            "REPORTS_LOCATION": str(folder / "reports"),
            "HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "0",
            "CREATION_WAIT_SECONDS": "0",
            "EVENT_MINIMUM_AGE_SECONDS": "0",
            "RECONCILIATION_RECHECK_SECONDS": "0",
            "RECONCILIATION_IN_FLIGHT_MINUTES": "0",
            "API_TIMEOUT_SECONDS": "60",
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "WARNING",
            "TZ": "UTC",
        }
        self._queues = _Queues(self.settings)
        self.use_database("operator")

    def use_database(self, name: str) -> None:
        """Goes on with another, empty database, as another installation of the program would."""
        self.database = self.folder / f"{name}.db"
        shutil.copyfile(self._template, self.database)
        self.settings["DATABASE_URL"] = f"sqlite:///{self.database}"

    def use_database_again(self, name: str) -> None:
        """Goes back to a database that was used before."""
        self.database = self.folder / f"{name}.db"
        self.settings["DATABASE_URL"] = f"sqlite:///{self.database}"

    def run(self, *arguments: str, answer: str | Terminal = "", **more: str) -> Done:
        """Runs a command to its end; `more` are further settings, `answer` is what is typed."""
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with (
            mock.patch.dict(os.environ, {**self.settings, **more}),
            mock.patch.object(typer.main, "get_command", _command_line),
            mock.patch.object(sys, "argv", ["prisoner-to-nomis", *arguments]),
            mock.patch.object(sys, "stdin", answer if isinstance(answer, Terminal) else io.StringIO(answer)),
            redirect_stdout(out),
            redirect_stderr(err),
            own_logging(),
        ):
            try:
                cli.main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
        return Done(code, out.getvalue(), err.getvalue())

    def does(self, *arguments: str, answer: str = "", **more: str) -> str:
        """Runs a command that must succeed; what it wrote."""
        done = self.run(*arguments, answer=answer, **more)
        assert done.code == 0, done.err
        return done.out

    def reads(self, *arguments: str) -> Any:
        """Runs a command that prints JSON; what it printed."""
        return json.loads(self.does(*arguments, "--json"))

    def drain(self, queue: str, **more: str) -> dict[str, Any]:
        """Drains what is on a queue, once; the counts."""
        return dict(json.loads(self.does("drain", queue, "--json", **more)))

    def drain_out(self, queue: str, **more: str) -> None:
        """Drains a queue until nothing is received, so that what fails is on its dead letter queue."""
        # One batch each time, since a drain until empty waits a second for company after each.
        for _ in range(20):
            if self.drain(queue, **more)["received"] == 0:
                return
        raise AssertionError(f"the {queue} queue does not get empty")

    def telemetry(self, name: str) -> list[dict[str, str]]:
        """The properties of the events of this name, oldest first."""
        lines = self.does("telemetry", "--name", name, "--json").splitlines()
        return [json.loads(line)["properties"] for line in lines]

    def alerts(self) -> list[str]:
        """What was posted to Slack."""
        return [message["text"] for message in self.sandbox.slack()["messages"]]

    def actions(self) -> list[tuple[str, str, str]]:
        """What was recorded that people did: action, target, outcome, oldest first."""
        with closing(sqlite3.connect(self.database)) as connection:
            rows = connection.execute("SELECT action, target, outcome FROM actions ORDER BY id")
            return [(action, target, outcome) for action, target, outcome in rows]

    def queues(self) -> Mapping[str, QueuePair]:
        """The queues themselves, each made when it is first asked for."""
        return self._queues

    def make_queues(self) -> None:
        """Makes all queues, so that what is published arrives."""
        self._queues.make(*QUEUES)

    def forget_queues(self) -> None:
        """Looks for the queues anew, after the world was replaced."""
        self._queues = _Queues(self.settings)

    def messages(self, queue: str) -> int:
        """How many messages lie on the dead letter queue."""
        return self.queues()[queue].dlq.counts().visible


@pytest.fixture
def operator(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> Operator:
    """An operator with queues that are there and empty."""
    made = Operator(sandbox, tmp_path, sqlite_template)
    made.make_queues()
    return made


@contextmanager
def own_logging() -> Iterator[None]:
    """Lets a command set up logging as it likes for the `with` block, and puts back what was there before."""
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
        root.setLevel(level)
        for name, each in root.manager.loggerDict.items():
            if isinstance(each, logging.Logger):
                each.setLevel(levels.get(name, logging.NOTSET))
