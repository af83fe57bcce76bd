"""The handlers in the state that the tests of activities start from."""

from __future__ import annotations

import pytest

from tests.harness.activities import create, put_allocation, put_schedule
from tests.harness.handlers import Harness, Prisoner


@pytest.fixture
def running(harness: Harness, prisoner: Prisoner) -> Harness:
    """The handlers with the schedule in NOMIS and the prisoner allocated to it in DPS."""
    put_schedule(harness, prisoner)
    create(harness)
    put_allocation(harness, prisoner)
    return harness
