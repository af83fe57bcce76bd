"""A made-up reconciliation, for which each test supplies the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pandas as pd

from reports.engine.causes import Difference, Explanation
from reports.engine.fields import Field
from reports.engine.frame import records, typed
from reports.engine.parallel_reader import FailedRead
from reports.engine.reconciliation import Reads, Reconciliation
from reports.engine.result import Mismatch, ReconciliationResult
from reports.engine.telemetry import Event, Events
from reports.engine.units import Population, Reading, Unit, UnreadRecord

#: The values of a row, by column.
Row = Mapping[str, Any]


class SampleEvents(Events):
    """One event for each mismatch, and a summary event at the end of the run."""

    report = "made-up-report"
    more = "made-up-more"

    def mismatch(self, mismatch: Mismatch) -> Event:
        """Returns the event for a mismatch, with the mismatch's booking."""
        return Event("made-up-mismatch", {"bookingId": mismatch.booking_id})

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """Returns the summary event, with the numbers of mismatches and units."""
        return (Event(self.report, {"mismatches": len(result.mismatches), "units": len(units)}),)


class SampleReconciliation(Reconciliation):
    """Compares counts by prison and booking.

    `units` holds the rows of each unit, or the error that reading the unit raises.
    """

    name = "made-up"
    title = "Made-up counts"
    counted = "counts"
    counted_singular = "count"
    key: ClassVar = {"prison_id": "string", "booking_id": "Int64"}
    fields: ClassVar[tuple[Field, ...]] = (Field("count", "Count", "Int64"),)
    domain = "activities"
    units: ClassVar[dict[str, list[Row] | Exception]] = {}

    def population(self, reads: Reads) -> Population:  # noqa: ARG002 - nothing is called
        """Returns the units that the test supplied."""
        return Population(tuple(map(Unit, self.units)), None)

    def read(self, unit: Unit, reads: Reads) -> Reading:  # noqa: ARG002
        """Returns the rows that the test supplied for a unit, or raises the error that it supplied."""
        given = self.units[unit.id]
        if isinstance(given, Exception):
            raise given
        return Reading(typed(type(self), given))

    def reread(self, rows: pd.DataFrame, reads: Reads) -> Reading:  # noqa: ARG002
        """Returns the rows of all units that can be read.

        The records in `rows` that belong to other units are returned as unread.
        """
        given = [row for unit in self.units.values() if not isinstance(unit, Exception) for row in unit]
        failed = {name: str(unit) for name, unit in self.units.items() if isinstance(unit, Exception)}
        unread = [
            UnreadRecord({name: row[name] for name in self.key}, None, None, failed[row["prison_id"]])
            for row in records(rows)
            if row["prison_id"] in failed
        ]
        return Reading(typed(type(self), given), tuple(unread))

    def explain(
        self,
        differences: Sequence[Difference],
        reads: Reads,  # noqa: ARG002
    ) -> Sequence[Explanation | FailedRead | None]:
        """Returns None for each difference, since there are no explanations."""
        return [None for _ in differences]

    def events(self) -> Events:
        """Returns the made-up events."""
        return SampleEvents()
