"""A sandbox without queues, shared by the tests of a module, and a consumer with each kind of database in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import Sandbox
from tests.harness.creations import Consumer, consuming
from tests.harness.handlers import harness, prisoner

__all__ = ["harness", "prisoner"]


@pytest.fixture(scope="module")
def module_sandbox(quiet_sandbox: Sandbox) -> Sandbox:
    """A sandbox whose world lasts as long as the test module, so each test needs its own records."""
    quiet_sandbox.reset(prisoners=20)
    return quiet_sandbox


@pytest.fixture
def upstream(module_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The module's sandbox, without faults."""
    module_sandbox.clear_faults()
    yield module_sandbox
    module_sandbox.clear_faults()


@pytest.fixture
def consumer(upstream: Sandbox, database_url: str) -> Iterator[Consumer]:
    """A consumer with an empty database."""
    with consuming(upstream, database_url) as made:
        yield made
