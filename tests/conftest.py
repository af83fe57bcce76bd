"""Fixtures and hooks for all tests."""

import gc
from collections.abc import Iterator

import pytest

from tests.harness.app import app
from tests.harness.botocore_caches import forget_clients, share_botocore_caches
from tests.harness.compiled_statements import share_compiled_statements
from tests.harness.databases import (
    database,
    database_url,
    postgres,
    postgres_template,
    spare_databases,
    sqlite_template,
)
from tests.harness.sandboxes import caller, quiet_sandbox, running_sandbox, sandbox, unpatched_sandbox

__all__ = [
    "app",
    "caller",
    "database",
    "database_url",
    "postgres",
    "postgres_template",
    "quiet_sandbox",
    "running_sandbox",
    "sandbox",
    "spare_databases",
    "sqlite_template",
    "unpatched_sandbox",
]

# A process of the program makes its AWS clients and compiles its statements once; a test worker would otherwise do so
# hundreds of times.
share_botocore_caches()
share_compiled_statements()


def pytest_collection() -> None:
    """Turns the garbage collector off while the tests are imported, since what the imports create is never freed."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Turns the garbage collector on again, but makes it ignore the objects that the imports created.

    The collector then runs less often than by default.
    """
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


def pytest_runtest_setup() -> None:
    """Gives each test its own AWS clients."""
    forget_clients()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Gives each worker its share of the long tests first, so that no worker starts one at the very end."""
    yield
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if "end_to_end" in item.path.parts]
    short = [item for item in items if "end_to_end" not in item.path.parts]
    total = len(items)
    items.clear()
    for worker in range(workers):
        share = long[worker::workers]
        # xdist gives each worker in turn an equal, consecutive part of the list.
        others = max((total - len(items)) // (workers - worker) - len(share), 0)
        items += share + short[:others]
        del short[:others]
