"""One installation of the program: its settings, its database, its commands and its parts.

A command runs in the process of the test (`App.run`), which is fast, or in a separate process (`App.run_process`,
`App.start`), which has real exit codes, signals and streams. `open_application` opens the composition root itself.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import make_url, update

from benchmarks.forked_command import ForkedCommand
from jobs.runtime.application import Application
from jobs.runtime.metrics import Metrics
from sandbox import Sandbox
from sync.clock import now
from sync.domains.registry import event_types
from sync.queues.aws import Aws
from sync.queues.queue import Queue
from sync.queues.setup import QueueOpener, QueuePair
from sync.settings import times
from sync.settings.loading import load_settings
from sync.settings.queues import QUEUES
from sync.store.database import Database
from sync.store.tables import creations
from tests.harness.commands import Ended, Terminal, run_here
from tests.harness.databases import empty_sqlite_database
from tests.harness.processes import run_command, start_command

#: The installed command.
COMMAND = str(Path(sys.executable).parent / "prisoner-to-nomis")
#: The variables that a command in a separate process keeps from the environment of the tests.
_KEPT = ("PATH", "LANG", "HOME", "TMPDIR")

#: The tests need not wait: a failed message is redelivered at once, and the sandbox commits each record before it
#: publishes the event.
QUICK = {
    "EVENT_MINIMUM_AGE_SECONDS": "0",
    "HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "0",
    "CREATION_WAIT_SECONDS": "0",
    "RECONCILIATION_RECHECK_SECONDS": "0",
    "RECONCILIATION_IN_FLIGHT_MINUTES": "0",
}

#: The sandbox's description of the queues that the program created, by the settings of the queues.
_MADE_QUEUES: dict[frozenset[tuple[str, str]], dict[str, Any]] = {}


class _Queues(dict[str, QueuePair]):
    """The queues by their ids, each created on first use."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__()
        loaded = load_settings(settings)
        self._opener = QueueOpener(loaded, Aws(loaded), event_types)

    def __missing__(self, queue: str) -> QueuePair:
        self[queue] = self._opener.open(queue)
        return self[queue]


class App:
    """One installation in a separate folder. Without a sandbox, there are no services and no queues."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str], sandbox: Sandbox | None = None, template: Path | None = None
    ) -> None:
        self.folder = folder
        self._template = template
        self.settings = dict(settings)
        self._sandbox = sandbox
        self._queues: _Queues | None = None

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox that the installation uses."""
        assert self._sandbox is not None
        return self._sandbox

    @property
    def database(self) -> Path:
        """The file of the installation's SQLite database."""
        return Path(self.settings["DATABASE_URL"].removeprefix("sqlite:///"))

    def use_new_database(self, name: str) -> None:
        """Continues with a new, empty database, as another installation would have."""
        assert self._template is not None
        shutil.copyfile(self._template, self.folder / f"{name}.db")
        self.use_database(name)

    def use_database(self, name: str) -> None:
        """Continues with the database called `name`, which need not exist. The first database is called `app`."""
        self.settings["DATABASE_URL"] = f"sqlite:///{self.folder / name}.db"

    def run(self, *arguments: str, answer: str | Terminal = "", **more: str) -> Ended:
        """Runs a command to its end in this process.

        `more` has further settings, and `answer` is the command's standard input.
        """
        return run_here(arguments, {**self.settings, **more}, answer)

    def run_ok(self, *arguments: str, answer: str = "", **more: str) -> str:
        """Runs a command that must succeed, and returns its output."""
        ended = self.run(*arguments, answer=answer, **more)
        assert ended.code == 0, ended.err
        return ended.out

    def read_json(self, *arguments: str) -> Any:
        """Runs a command with `--json` that must succeed, and returns the value that it printed."""
        return json.loads(self.run_ok(*arguments, "--json"))

    def environment(self, **more: str) -> dict[str, str]:
        """The complete environment of a command in a separate process."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return {**kept, **self.settings, **more}

    def run_process(self, *arguments: str, answer: str = "", **more: str) -> Ended:
        """Runs a command to its end in a separate process."""
        return Ended(*run_command(arguments, self.environment(**more), self.folder, answer))

    def run_as_installed(self, *arguments: str, answer: str = "", **more: str) -> Ended:
        """Runs the installed command as a shell does, in a new process that first has to import the program."""
        done = subprocess.run(
            [COMMAND, *arguments],
            env=self.environment(**more),
            cwd=self.folder,
            input=answer,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **more: str) -> ForkedCommand:
        """Starts a command in a separate process.

        The command's log goes to the file `log` in the installation's folder.
        """
        log = self.folder / "log"
        log.touch()
        return start_command(arguments, self.environment(**more), self.folder, err=log)

    def log(self) -> list[dict[str, Any]]:
        """The log lines that started commands have written so far."""
        text = (self.folder / "log").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]

    def drain(self, queue: str, **more: str) -> dict[str, Any]:
        """Drains the queue once, and returns the counts."""
        return dict(json.loads(self.run_ok("drain", queue, "--json", **more)))

    def drain_out(self, queue: str, **more: str) -> None:
        """Drains a queue until it is empty and every failing message is on the dead letter queue."""
        # Batch by batch, since `drain --until-empty` waits a second for more messages after each batch.
        for _ in range(20):
            if self.drain(queue, **more)["received"] == 0:
                return
        raise AssertionError(f"the {queue} queue does not become empty")

    def telemetry(self, name: str) -> list[dict[str, str]]:
        """The properties of the telemetry events with this name, oldest first."""
        lines = self.run_ok("telemetry", "--name", name, "--json").splitlines()
        return [json.loads(line)["properties"] for line in lines]

    def alerts(self) -> list[str]:
        """The messages that were posted to Slack."""
        return [message["text"] for message in self.sandbox.slack()["messages"]]

    def actions(self) -> list[tuple[str, str, str]]:
        """The recorded actions of operators (action, target, outcome), oldest first."""
        with closing(sqlite3.connect(self.database)) as connection:
            rows = connection.execute("SELECT action, target, outcome FROM actions ORDER BY id")
            return [(action, target, outcome) for action, target, outcome in rows]

    def let_creates_end(self) -> None:
        """Sets the times of every creation to an hour ago, so that no create can still be under way in NOMIS."""
        database, earlier = Database(self.settings["DATABASE_URL"]), now() - timedelta(hours=1)
        with database.begin() as connection:
            connection.execute(update(creations).values(intended_at=earlier, updated_at=earlier))
        database.dispose()

    def queues(self) -> Mapping[str, QueuePair]:
        """The queues by their ids, each created on first use."""
        if self._queues is None:
            self._queues = _Queues(self.settings)
        return self._queues

    def main_queue(self, queue: str) -> Queue:
        """The main queue with this queue id."""
        return self.queues()[queue].main

    def make_queues(self) -> None:
        """Creates all queues and subscriptions, so that published events arrive."""
        chosen = frozenset((name, value) for name, value in self.settings.items() if name.startswith("HMPPS_SQS_"))
        if chosen in _MADE_QUEUES:
            # The program needs thirty calls to create them; the sandbox needs one.
            self.sandbox.make_queues(_MADE_QUEUES[chosen])
            return
        first = not self.sandbox.queues()["queues"]
        for queue in QUEUES:
            self.main_queue(queue)
        if first:
            _MADE_QUEUES[chosen] = self.sandbox.queues()

    def forget_queues(self) -> None:
        """Forgets the queues after a reset of the sandbox, so that each is created again on its next use."""
        self._queues = None

    def messages(self, queue: str) -> int:
        """The number of messages that are visible on the dead letter queue of `queue`."""
        return self.queues()[queue].dlq.counts().visible


def make_app(sandbox: Sandbox, folder: Path, template: Path) -> App:
    """An installation that uses the sandbox and logs only warnings and errors.

    Its databases are copies of the file `template`.
    """
    settings = {
        **sandbox.environment(),
        **QUICK,
        "REPORTS_LOCATION": str(folder / "reports"),
        "API_TIMEOUT_SECONDS": "60",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "WARNING",
        "TZ": "UTC",
    }
    made = App(folder, settings, sandbox, template)
    made.use_new_database("app")
    return made


@pytest.fixture
def app(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> App:
    """An installation whose queues exist and are empty."""
    made = make_app(sandbox, tmp_path, sqlite_template)
    made.make_queues()
    return made


@contextmanager
def open_application(
    environment: Mapping[str, str], database_url: str, metrics: Metrics | None = None, /, **settings: str
) -> Iterator[Application]:
    """The parts of the program, which are closed at the end of the `with` block.

    A message becomes a dead letter after three receives. A receive does not wait for messages. If `database_url` names
    a SQLite file that does not exist, the file is created with the current schema.
    """
    file = Path(make_url(database_url).database or "")
    if database_url.startswith("sqlite:") and not file.exists():
        # This takes a fiftieth of the time that all migrations would take.
        file.write_bytes(empty_sqlite_database())
    quick = {**QUICK, "HMPPS_SQS_MAX_RECEIVE_COUNT": "3", "CREATION_SETTLING_SECONDS": "0.1", "SLACK_TOKEN": ""}
    application = Application(
        load_settings({**environment, **quick, "DATABASE_URL": database_url, **settings}), metrics=metrics
    )
    try:
        with mock.patch.object(times, "LONG_POLL_SECONDS", 0):
            yield application
    finally:
        application.close()


def differing(app: App, cause: int) -> str:
    """Resets the sandbox to a world with one difference in incentive levels, which has this cause.

    Returns the number of the prisoner whose levels differ.
    """
    app.sandbox.reset(prisoners=40, mismatches={str(cause): 1})
    app.forget_queues()
    app.make_queues()
    (mismatch,) = app.sandbox.planted()["mismatches"]
    return str(mismatch["offenderNo"])
