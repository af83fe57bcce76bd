"""A driver for the tests of the domains, and a prisoner to work on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Sandbox
from sync.store.database import Database
from tests.harness.handlers import Driver, Prisoner, driving, prisoner_at


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
