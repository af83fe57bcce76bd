"""Fixtures: the services of the sandbox, and a process whose breakers the tests check."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import Sandbox
from sync.settings.loading import load_settings
from sync.store.database import Database
from sync.upstream.services import Services
from tests.harness.breakers import Process
from tests.harness.recorded_calls import RecordedCalls


@pytest.fixture
def process(database: Database) -> Process:
    """The breakers of a process that starts with an empty database."""
    return Process(database)


@pytest.fixture
def recorded() -> RecordedCalls:
    """The observer that records the calls made through `services`."""
    return RecordedCalls()


@pytest.fixture
def services(sandbox: Sandbox, recorded: RecordedCalls) -> Iterator[Services]:
    """The services of the sandbox, with time-outs of one second."""
    services = Services(load_settings({**sandbox.environment(), "API_TIMEOUT_SECONDS": "1"}), (recorded,))
    yield services
    services.close()
