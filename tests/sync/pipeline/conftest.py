"""The process of the program whose drains the tests look at; a module says what is different about its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.runtime.application import Application
from sandbox import Sandbox
from tests.harness.app import application


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The address of a database that is made when first used."""
    return f"sqlite:///{tmp_path}/one.db"


@pytest.fixture
def queues() -> tuple[str, ...]:
    """The queues that are made before the test."""
    return ("visit",)


@pytest.fixture
def settings() -> dict[str, str]:
    """The settings that differ from those of all tests."""
    return {}


@pytest.fixture
def one(sandbox: Sandbox, url: str, queues: tuple[str, ...], settings: dict[str, str]) -> Iterator[Application]:
    """One process of the program on a SQLite file; a message is received three times before it is a dead letter."""
    with application(sandbox.environment(), url, **settings) as made:
        for queue in queues:
            made.queue_pair(queue)
        yield made
