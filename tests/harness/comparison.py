"""A comparison run to its end without the engine: everything is read, what differs is read again and described."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.engine.contract import Gap, Population, Reconciliation, UnreadRecord
from reports.engine.frame import records, typed
from tests.harness.reads import PlainReads


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found: `frame` is everything that was read first, `confirmed` what still differed."""

    population: Population
    frame: pd.DataFrame
    confirmed: pd.DataFrame
    unread: tuple[UnreadRecord, ...]
    gaps: tuple[Gap, ...]

    def found(self, *columns: str) -> set[tuple[Any, ...]]:
        """The confirmed differences that are to be reported: these columns of each."""
        rows = self.confirmed[self.confirmed["ignored"].isna()] if "ignored" in self.confirmed else self.confirmed
        return {tuple(row[name] for name in columns) for row in records(rows)}


def compare(reconciliation: Reconciliation, reads: PlainReads | None = None) -> Compared:
    """Runs the comparison, one call after another."""
    reads = reads or PlainReads()
    population = reconciliation.population(reads)
    readings = [reconciliation.read(unit, reads) for unit in population.units]
    frame = _together(reconciliation, (each.rows for each in readings))
    again = reconciliation.reread(reconciliation.differing(frame), reads)
    confirmed = reconciliation.describe(reconciliation.differing(again.rows), reads)
    both = (*readings, again)
    unread = tuple(unread for each in both for unread in each.unread)
    return Compared(
        population, frame, confirmed, unread, (*population.gaps, *(gap for each in both for gap in each.gaps))
    )


def _together(reconciliation: Reconciliation, frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    listed = [each for each in frames if len(each)]
    return pd.concat(listed, ignore_index=True) if listed else typed(reconciliation, [])
