"""Fixtures shared by all tests."""

from tests.databases import database, database_url, postgres, postgres_template, sqlite_template
from tests.sandboxes import caller, running_sandbox, sandbox

__all__ = [
    "caller",
    "database",
    "database_url",
    "postgres",
    "postgres_template",
    "running_sandbox",
    "sandbox",
    "sqlite_template",
]
