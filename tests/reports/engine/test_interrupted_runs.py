"""Which run was interrupted, how far it had got, and the command that resumes it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from reports.engine.checkpoints import save_population, save_unit
from reports.engine.interrupted_runs import InterruptedRun, find_interrupted, last_interrupted
from reports.engine.run_start import ReconciliationParameters, acquire_run
from reports.engine.runs import create_run
from reports.engine.units import Population, Reading, Unit
from sync.store.database import Database
from sync.store.leases import Leases

UNITS = (Unit("one", size=30), Unit("two", size=10))


def interrupted(database: Database, *, read: tuple[str, ...], listed: bool = True, shards: int = 1) -> InterruptedRun:
    """A run of `visits` that has no process, and has read the units `read`."""
    with database.begin() as connection:
        create_run(connection, "visits", "run-1", ReconciliationParameters(shards=shards).recorded(), shards)
        if listed:
            save_population(connection, "run-1", Population(UNITS, total=None))
        for number, unit in enumerate(read):
            save_unit(connection, "run-1", 0, number, unit, Reading(pd.DataFrame()))
    found = last_interrupted(database, "visits")
    assert found is not None
    assert find_interrupted(database, "run-1") == found
    return found


@pytest.mark.parametrize(("read", "percent"), [((), 0), (("one",), 75), (("one", "one"), 75), (("one", "two"), 100)])
def test_an_interrupted_run_says_how_much_it_has_read(database: Database, read: tuple[str, ...], percent: int) -> None:
    """The share is that of the records in the units that were read. A unit that was read twice counts once."""
    found = interrupted(database, read=read)
    assert found.percent_read == percent
    assert (found.progress_at > found.started_at) == bool(read)
    assert found.command == "prisoner-to-nomis reconcile visits --resume run-1"


def test_a_run_that_has_listed_nothing_has_no_share(database: Database) -> None:
    """Before the population is listed, the share is unknown. The command leaves the number of a shard open."""
    found = interrupted(database, read=(), listed=False, shards=3)
    assert found.percent_read is None
    assert found.command == "prisoner-to-nomis reconcile visits --resume run-1 --shards 3 --shard NUMBER"


@pytest.mark.parametrize("chosen", [{}, {"offender_nos": ("A1234BC",)}])
def test_a_run_with_a_live_process_is_not_interrupted(database: Database, chosen: dict[str, Any]) -> None:
    """A run is interrupted only after its process has released its lease, whatever the run covers."""
    leases, parameters = Leases(database, "a process", 60), ReconciliationParameters(**chosen)
    with acquire_run(database, leases, "run-1", "visits", parameters, None, lambda _seconds: None):
        assert find_interrupted(database, "run-1") is None
    assert find_interrupted(database, "run-1") is not None
    assert (last_interrupted(database, "visits") is None) == bool(chosen)
    assert find_interrupted(database, "run-2") is None
