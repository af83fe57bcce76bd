"""A reconciliation without the engine: everything is read, what differs is read again, described and explained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.engine.contract import (
    Difference,
    Explanation,
    Gap,
    Population,
    Reads,
    Reconciliation,
    UnreadRecord,
)
from reports.engine.frame import records
from reports.engine.parallel_reader import FailedRead
from tests.harness.reads import PlainReads


@dataclass(frozen=True)
class Compared:
    """What a comparison found: the rows read, those that still differed when read again, and what was not read.

    ignored: those that differ, but are not to be reported.
    """

    population: Population
    frame: pd.DataFrame
    differing: list[dict[str, Any]]
    unread: tuple[UnreadRecord, ...]
    gaps: tuple[Gap, ...] = ()
    ignored: tuple[dict[str, Any], ...] = ()

    def kinds(self) -> dict[Any, str]:
        """The kinds of the differences by the first key column."""
        return {next(iter(row.values())): row["kind"] for row in self.differing}

    def found(self, *columns: str) -> set[tuple[Any, ...]]:
        """These columns of the differences."""
        return {tuple(row[name] for name in columns) for row in self.differing}


def compare(reconciliation: Reconciliation, reads: Reads | None = None) -> Compared:
    """Reads all units and then the differences again."""
    reads = reads or PlainReads()
    population = reconciliation.population(reads)
    readings = [reconciliation.read(unit, reads) for unit in population.units]
    unread = [*population.unread, *(each for reading in readings for each in reading.unread)]
    gaps = (*population.gaps, *(each for reading in readings for each in reading.gaps))
    if not readings:
        return Compared(population, pd.DataFrame(), [], tuple(unread), gaps)
    frame = pd.concat([reading.rows for reading in readings], ignore_index=True)
    again = reconciliation.reread(reconciliation.differing(frame), reads)
    confirmed = reconciliation.describe(reconciliation.differing(again.rows), reads)
    reported = [row for row in records(confirmed) if not row.get("ignored")]
    ignored = tuple(row for row in records(confirmed) if row.get("ignored"))
    return Compared(population, frame, reported, (*unread, *again.unread), gaps, ignored)


def explain(reconciliation: Reconciliation, row: Mapping[str, Any]) -> Explanation | FailedRead | None:
    """Why a difference is there."""
    return reconciliation.explain([Difference(row, row["kind"], row["differs"])], PlainReads())[0]
