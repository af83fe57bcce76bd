"""A sandbox without queues, shared by the tests of a module, and consumers on both kinds of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import Sandbox
from tests.harness.creations import Consumer, consuming
from tests.harness.handlers import harness, prisoner

__all__ = ["harness", "prisoner"]


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
