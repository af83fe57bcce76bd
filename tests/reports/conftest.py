"""A sandbox without queues for the tests of the reports, and a set of parts against it for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sandbox import Sandbox
from tests.harness.reconciliations import Office, open_office

OpenOffice = Callable[..., Office]


@pytest.fixture(scope="session")
def reports_sandbox() -> Iterator[Sandbox]:
    """The processes, for as long as the worker lives."""
    with Sandbox.start(prisoners=20, moto=False) as started:
        yield started


@pytest.fixture
def world(reports_sandbox: Sandbox) -> Sandbox:
    """A sandbox that the test gives a world of its own, by `reset`."""
    reports_sandbox.reset(prisoners=20)
    return reports_sandbox


@pytest.fixture
def office(world: Sandbox, tmp_path: Path, sqlite_template: Path) -> Iterator[OpenOffice]:
    """Opens the program's parts against the world, with further settings; the same database each time."""
    path = tmp_path / "store.db"
    shutil.copyfile(sqlite_template, path)
    with ExitStack() as stack:

        def open_one(**settings: str) -> Office:
            return stack.enter_context(open_office(world.environment(), tmp_path, f"sqlite:///{path}", **settings))

        yield open_one
