"""The command, run as people and Kubernetes run it: in a process of its own, with the settings of one test alone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox import Sandbox
from sandbox.forked_command import ForkedCommand
from sync.domains.registry import event_types
from sync.queues.aws import Aws
from sync.queues.queue import Queue
from sync.queues.setup import QueueOpener
from sync.settings.declaration import QUEUES
from sync.settings.loading import load_settings
from tests.harness.processes import run_command, start_command

COMMAND = str(Path(sys.executable).parent / "prisoner-to-nomis")
_KEPT = ("PATH", "LANG", "HOME", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it wrote to stdout, read as one JSON value."""
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        """What it wrote to stdout, read as one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def complaint(self) -> str:
        """The one line that the program itself wrote to stderr, besides its log."""
        (line,) = [line for line in self.err.splitlines() if not line.startswith("{")]
        return line


class Installed:
    """The installed command with the settings of one test, in a folder of its own."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.settings = settings

    def environment(self, **more: str) -> dict[str, str]:
        """The whole environment of the command."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return {**kept, **self.settings, **more}

    def run(self, *arguments: str, answer: str = "", **more: str) -> Ended:
        """Runs the command to its end; `more` are further settings, `answer` is what a person types."""
        return Ended(*run_command(arguments, self.environment(**more), self.folder, answer))

    def run_as_installed(self, *arguments: str, answer: str = "", **more: str) -> Ended:
        """Runs the command to its end as a shell would, in a process that has to import the program first."""
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
        """Starts the command; its log goes to the file `log` of the folder."""
        log = self.folder / "log"
        log.touch()
        return start_command(arguments, self.environment(**more), self.folder, err=log)

    def make_queues(self) -> None:
        """Makes queues and subscriptions before anything is published, as a program that ran before has."""
        settings = load_settings(self.settings)
        opener = QueueOpener(settings, Aws(settings), event_types)
        for queue in QUEUES:
            opener.open(queue)

    def main_queue(self, queue: str) -> Queue:
        """The main queue of a queue id, made where it is not there."""
        settings = load_settings(self.settings)
        return QueueOpener(settings, Aws(settings), event_types).open(queue).main

    def log(self) -> list[dict[str, Any]]:
        """The log lines that started commands have written so far."""
        text = (self.folder / "log").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


@pytest.fixture
def bare(tmp_path: Path) -> Installed:
    """The command with a database of its own and no services."""
    return Installed(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path}/test.db", "LOG_FORMAT": "json", "TZ": "UTC"})


@pytest.fixture
def installed(sandbox: Sandbox, tmp_path: Path) -> Installed:
    """The command against the sandbox, with a database of its own and short waits."""
    return Installed(
        tmp_path,
        {
            **sandbox.environment(),
            "DATABASE_URL": f"sqlite:///{tmp_path}/test.db",
            "REPORTS_LOCATION": str(tmp_path / "reports"),
            "HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "1,1,2",
            "RECONCILIATION_RECHECK_SECONDS": "0.1",
            "DRAIN_INTERVAL_SECONDS": "0.2",
            "EVENT_MINIMUM_AGE_SECONDS": "0",
            "DRAIN_GRACE_SECONDS": "20",
            "HEALTH_PORT": "0",
            "HEALTH_HOST": "127.0.0.1",
            "SCHEDULER_RECONCILIATION": "false",
            "SCHEDULER_HOUSEKEEPING": "false",
            "LOG_FORMAT": "json",
        },
    )


@pytest.fixture
def running(installed: Installed) -> Iterator[Callable[..., ForkedCommand]]:
    """Starts commands that are ended with the test."""
    started: list[ForkedCommand] = []

    def start(*arguments: str, **more: str) -> ForkedCommand:
        started.append(installed.start(*arguments, **more))
        return started[-1]

    yield start
    for command in started:
        command.kill()
