"""A process whose breakers the tests look at."""

from __future__ import annotations

import pytest

from sync.store.database import Database
from tests.harness.breakers import Process


@pytest.fixture
def process(database: Database) -> Process:
    """A process on an empty database."""
    return Process(database)
