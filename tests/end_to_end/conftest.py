"""Fixtures for installations whose commands run in the test's process or in separate processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.forked_command import ForkedCommand
from sandbox import Sandbox
from tests.harness.app import App


@pytest.fixture
def bare(tmp_path: Path) -> App:
    """An installation that has neither services nor a database yet."""
    return App(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path}/test.db", "LOG_FORMAT": "json", "TZ": "UTC"})


@pytest.fixture
def installed(sandbox: Sandbox, tmp_path: Path) -> App:
    """An installation that uses the sandbox, with short intervals and no database yet."""
    return App(
        tmp_path,
        {
            **sandbox.environment(),
            "DATABASE_URL": f"sqlite:///{tmp_path}/test.db",
            "REPORTS_LOCATION": str(tmp_path / "reports"),
            "HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "1,1,2",
            "RECONCILIATION_RECHECK_SECONDS": "0.1",
            "DRAIN_INTERVAL_SECONDS": "0.2",
            "EVENT_MINIMUM_AGE_SECONDS": "0",
            "CREATION_SETTLING_SECONDS": "1",
            "DRAIN_GRACE_SECONDS": "20",
            "HEALTH_PORT": "0",
            "HEALTH_HOST": "127.0.0.1",
            "SCHEDULER_RECONCILIATION": "false",
            "SCHEDULER_HOUSEKEEPING": "false",
            "SCHEDULER_CONTRACTS": "false",
            "LOG_FORMAT": "json",
        },
        sandbox,
    )


@pytest.fixture
def running(installed: App) -> Iterator[Callable[..., ForkedCommand]]:
    """A function that starts a command in a separate process, which is killed at the end of the test."""
    started: list[ForkedCommand] = []

    def start(*arguments: str, **more: str) -> ForkedCommand:
        started.append(installed.start(*arguments, **more))
        return started[-1]

    yield start
    for command in started:
        command.kill()
