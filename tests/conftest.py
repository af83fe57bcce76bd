"""Fixtures shared by all tests."""

import functools

import botocore.session

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

# A process of the program makes its clients of AWS once, a worker of the tests makes hundreds: what takes the most of
# their time, reading AWS's descriptions of its services, it does once too.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
