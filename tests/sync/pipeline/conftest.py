"""Fixtures for one process of the program, whose drains the tests check. A test module can override them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.settings import times
from tests.harness.app import open_application


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The address of a database, which is created when it is first used."""
    return f"sqlite:///{tmp_path}/one.db"


@pytest.fixture
def queues() -> tuple[str, ...]:
    """The queues that are created before each test."""
    return ("visit",)


@pytest.fixture
def settings() -> dict[str, str]:
    """The settings in addition to those of the sandbox: none, unless a test module overrides this fixture."""
    return {}


@pytest.fixture
def application(sandbox: Sandbox, url: str, queues: tuple[str, ...], settings: dict[str, str]) -> Iterator[Application]:
    """One process of the program, with a SQLite file as its database.

    A message becomes a dead letter after three receives.
    """
    with open_application(sandbox.environment(), url, **settings) as application:
        for queue in queues:
            application.queue_pair(queue)
        yield application


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes waiting messages visible again at once."""
    for name in ("FIRST_REQUEUE_SECONDS", "LONGEST_REQUEUE_SECONDS"):
        monkeypatch.setattr(times, name, 0)


@pytest.fixture
def quick_creates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a create be sent only within a second of its intent, so that an unknown outcome can soon be resolved."""
    monkeypatch.setattr(times, "SEND_WITHIN_SECONDS", 1.0)


@pytest.fixture
def impatient_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the program pause only for a moment before it pings or tries a service, or tries a parked message."""
    pings = ("FIRST_PING_SECONDS", "PING_SECONDS", "MAX_PING_SECONDS")
    for name in (*pings, "TRIAL_SECONDS", "UPSTREAM_POLL_SECONDS", "POLL_SECONDS", "LEASE_POLL_SECONDS"):
        monkeypatch.setattr(times, name, 0.02)
