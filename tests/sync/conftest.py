"""A sandbox without queues, shared by the tests of a module, consumers on both kinds of database, and drivers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Sandbox
from sync.store.database import Database
from tests.harness.creations import Consumer, consuming
from tests.harness.handlers import Driver, Prisoner, driving, prisoner_at


@pytest.fixture(scope="module")
def quiet_sandbox() -> Iterator[Sandbox]:
    """Its world lives as long as the module: every test uses records of its own."""
    with Sandbox.start(prisoners=20, moto=False) as sandbox:
        yield sandbox


@pytest.fixture
def upstream(quiet_sandbox: Sandbox) -> Iterator[Sandbox]:
    """That sandbox without faults."""
    quiet_sandbox.clear_faults()
    yield quiet_sandbox
    quiet_sandbox.clear_faults()


@pytest.fixture
def consumer(upstream: Sandbox, database_url: str) -> Iterator[Consumer]:
    """A consumer on an empty database."""
    with consuming(upstream, database_url) as made:
        yield made


@pytest.fixture
def driver(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> Iterator[Driver]:
    """A driver on a database of its own."""
    database = Database(f"sqlite:///{shutil.copyfile(sqlite_template, tmp_path / 'sync.db')}")
    with driving(sandbox, database) as made:
        yield made
    database.dispose()


@pytest.fixture
def prisoner(sandbox: Sandbox) -> Prisoner:
    """The first prisoner of the population."""
    return prisoner_at(sandbox, 0)
