"""Loads, once for all forked children, the modules, command line, AWS service descriptions and templates they need."""

import functools
import gc
import importlib
import pkgutil

import boto3
import typer.main

import jobs
import reports
import sync
from jobs.cli.app import app
from reports.presentation.templates import environment
from tests.harness.botocore_caches import share_botocore_caches

for package in (jobs, reports, sync):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if "migrations" not in module.name:
            importlib.import_module(module.name)
for name in ("alembic.command", "pandas", "psycopg", "sqlalchemy.dialects.sqlite", "slack_sdk"):
    importlib.import_module(name)

typer.main.get_command = functools.cache(typer.main.get_command)
typer.main.get_command(app)

share_botocore_caches()
# The first client for a service reads the service's description, which is most of the cost of a client.
for service in ("sqs", "sns", "s3"):
    boto3.client(service, region_name="eu-west-2", aws_access_key_id="none", aws_secret_access_key="none")

for template in environment().list_templates(extensions=["j2"]):
    environment().get_template(template)

# The garbage collector of a child then skips the memory that the child shares with the others, and so does not copy it.
gc.freeze()
