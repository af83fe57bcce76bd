"""Fixtures shared by all tests."""

import gc

from tests.databases import database, database_url, postgres, postgres_template, spare_databases, sqlite_template
from tests.forked import keep_what_never_changes
from tests.sandboxes import caller, running_sandbox, sandbox

__all__ = [
    "caller",
    "database",
    "database_url",
    "postgres",
    "postgres_template",
    "running_sandbox",
    "sandbox",
    "spare_databases",
    "sqlite_template",
]

# A process of the program makes its clients of AWS once, a worker of the tests makes hundreds.
keep_what_never_changes()


def pytest_collection() -> None:
    """Keeps the collector off while everything is imported, since nothing of it goes again."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keeps the collector off all that stays until the end, the program and the tests themselves, for good."""
    gc.freeze()
    gc.enable()
