"""A driver for the tests of the domains, and a prisoner to work on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Sandbox
from sync.store.database import Database
from tests.sync.domains.driving import Driver, Prisoner, driving, prisoner_at


@pytest.fixture
def driver(sandbox: Sandbox, tmp_path: Path) -> Iterator[Driver]:
    """A driver on a database of its own."""
    database = Database(f"sqlite:///{tmp_path}/sync.db")
    database.upgrade()
    with driving(sandbox, database) as made:
        yield made
    database.dispose()


@pytest.fixture
def prisoner(sandbox: Sandbox) -> Prisoner:
    """The first prisoner of the population."""
    return prisoner_at(sandbox, 0)
