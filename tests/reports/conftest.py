"""For the tests of the reports: a sandbox without queues, and the parts of the program that connect to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sandbox import Sandbox
from sync.settings import times
from tests.harness.reconciliations import OpenApp, ReportsApp, open_reports_app


@pytest.fixture
def upstream(quiet_sandbox: Sandbox) -> Sandbox:
    """A sandbox without queues, with a new world of 20 prisoners.

    A test that needs another world resets the sandbox.
    """
    quiet_sandbox.reset(prisoners=20)
    return quiet_sandbox


@pytest.fixture
def open_app(upstream: Sandbox, tmp_path: Path, sqlite_template: Path) -> Iterator[OpenApp]:
    """A function that opens the parts of the program with the settings for the sandbox and any further settings.

    Within a test, it always uses the same database.
    """
    url = f"sqlite:///{shutil.copyfile(sqlite_template, tmp_path / 'store.db')}"
    with ExitStack() as stack:

        def open_one(*, with_breakers: bool = False, **settings: str) -> ReportsApp:
            opening = open_reports_app(upstream.environment(), tmp_path, url, with_breakers=with_breakers, **settings)
            return stack.enter_context(opening)

        yield open_one


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed reads are tried again as many times as in production, but after shorter waits."""
    monkeypatch.setattr(times, "READ_RETRY_SECONDS", tuple(each / 20 for each in times.READ_RETRY_SECONDS))
    monkeypatch.setattr(times, "OPEN_BREAKER_PAUSE_SECONDS", times.OPEN_BREAKER_PAUSE_SECONDS / 20)
