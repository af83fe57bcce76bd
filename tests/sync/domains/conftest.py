"""The handlers in the state in which the tests of activities begin."""

from __future__ import annotations

import pytest

from tests.harness.activities import create, put_allocation, put_schedule
from tests.harness.handlers import Harness, Prisoner


@pytest.fixture
def running(harness: Harness, prisoner: Prisoner) -> Harness:
    """The handlers with a schedule in NOMIS, to which the prisoner is allocated in DPS."""
    put_schedule(harness, prisoner)
    create(harness)
    put_allocation(harness, prisoner)
    return harness
