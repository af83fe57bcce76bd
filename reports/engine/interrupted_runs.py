"""Interrupted runs: runs without a result on which no live process is working. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from reports.engine import checkpoints, runs
from reports.engine.run_start import is_under_way
from sync.store.tables import reconciliation_pages

if TYPE_CHECKING:
    from collections.abc import Container
    from datetime import datetime

    from reports.engine.units import Population
    from sync.store.database import Database


@dataclass(frozen=True, slots=True)
class InterruptedRun:
    """A run without a result, because its process was killed or was asked to stop.

    started_at: aware. progress_at: when the run last finished a unit, aware; `started_at` if it finished none.
    percent_read: how much of its population the run has read, rounded down; None if it has not listed its population.
    shards: the number of its shards.
    """

    run_id: str
    reconciliation: str
    started_at: datetime
    progress_at: datetime
    percent_read: int | None
    shards: int

    @property
    def command(self) -> str:
        """The command that resumes the run. Each shard of several is resumed by itself, so its number is left open."""
        return runs.resume_command(self.reconciliation, self.run_id, self.shards, "NUMBER")


def last_interrupted(database: Database, name: str) -> InterruptedRun | None:
    """The newest run for everyone of the reconciliation `name`, if that run was interrupted; otherwise None."""
    with database.read() as connection:
        newest = runs.newest_over_everyone(connection, name)
    return None if newest is None else find_interrupted(database, newest.id)


def find_interrupted(database: Database, run_id: str) -> InterruptedRun | None:
    """The run `run_id`, if it was interrupted; None if it is unknown, has a result, or is in progress."""
    with database.read() as connection:
        record = runs.find_run(connection, run_id)
    if record is None or not record.is_open or is_under_way(database, record):
        return None
    pages = reconciliation_pages.c
    with database.read() as connection:
        # The run may have ended since the first query.
        record = runs.find_run(connection, run_id)
        if record is None or not record.is_open:
            return None
        last = connection.execute(select(func.max(pages.finished_at)).where(pages.run_id == run_id)).scalar()
        population = checkpoints.load_population(connection, run_id)
        read = checkpoints.unread_by_unit(connection, run_id)
    return InterruptedRun(
        run_id=run_id,
        reconciliation=record.reconciliation,
        started_at=record.started_at,
        progress_at=last or record.started_at,
        percent_read=None if population is None else _percent(population, read),
        shards=record.shards,
    )


def _percent(population: Population, read: Container[str]) -> int:
    """The share of the records of a population that are in the units `read`, in per cent, rounded down."""
    everything = sum(each.size for each in population.units)
    return 100 * sum(each.size for each in population.units if each.id in read) // everything if everything else 100
