"""Imports the whole program, with its late imports, so that no forked child has to import it again."""

import importlib
import pkgutil

import jobs
import reports
import sync
from tests.harness.botocore_caches import share_botocore_caches

for package in (jobs, reports, sync):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if "migrations" not in module.name:
            importlib.import_module(module.name)
for name in ("alembic.command", "boto3", "pandas", "psycopg", "sqlalchemy.dialects.sqlite", "slack_sdk"):
    importlib.import_module(name)
share_botocore_caches()
