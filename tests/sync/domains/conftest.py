"""A fixture for the tests of activities: the handlers with a schedule and an allocation."""

from __future__ import annotations

import pytest

from tests.harness.activities import create, put_allocation, put_schedule
from tests.harness.handlers import Harness, Prisoner


@pytest.fixture
def running(harness: Harness, prisoner: Prisoner) -> Harness:
    """The handlers, once a schedule has been created in NOMIS and the prisoner has been allocated to it in DPS."""
    put_schedule(harness, prisoner)
    create(harness)
    put_allocation(harness, prisoner)
    return harness
