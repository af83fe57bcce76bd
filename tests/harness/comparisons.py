"""Runs a reconciliation against the sandbox, but without the engine.

`compare` reads the records, rereads the rows that differ, and describes them. `Compared.explained` and `explain`
explain the differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.engine.causes import Difference, Explanation
from reports.engine.frame import concatenated, records
from reports.engine.parallel_reader import FailedRead
from reports.engine.reconciliation import Reads, Reconciliation
from reports.engine.units import Population, Scope, UnlistedPart, UnreadRecord
from sandbox import Sandbox
from sync.settings.loading import load_settings
from sync.upstream.services import Services
from tests.harness.reads import PlainReads

#: The columns that the comparison adds to the frame.
_ADDED = ("kind", "differs", "ignored")


@dataclass(frozen=True, slots=True)
class Compared:
    """The result of a comparison.

    frame: all records that were read. rows: the rows that still differ at the end, including those that are not
    reported, with their descriptions. differences: the rows that are reported. unread: the records that could not be
    read. gaps: the parts of the population that could not be listed.
    """

    reconciliation: Reconciliation
    reads: Reads
    population: Population
    frame: pd.DataFrame
    rows: pd.DataFrame
    differences: list[Difference]
    unread: tuple[UnreadRecord, ...]
    gaps: tuple[UnlistedPart, ...]

    @property
    def differing(self) -> list[dict[str, Any]]:
        """The rows that are reported, each as a dictionary of plain values."""
        return records(self.rows[self.rows["ignored"].isna()])

    @property
    def ignored(self) -> dict[Any, str]:
        """The reason why each unreported row is not reported, by the key of the row."""
        return {self._key(row): row["ignored"] for row in records(self.rows[self.rows["ignored"].notna()])}

    @property
    def kinds(self) -> dict[Any, str]:
        """The kind of each difference, by the difference's key.

        The key is a tuple or, if it has only one column, the bare value.
        """
        return {self._key(each.row): each.kind for each in self.differences}

    def found(self, *columns: str) -> set[tuple[Any, ...]]:
        """The tuple of the values of `columns` for each row that is reported."""
        return {tuple(row[name] for name in columns) for row in self.differing}

    def explained(self) -> dict[Any, Explanation]:
        """The explanation of each difference, by the difference's key. Each difference must have an explanation."""
        found = {}
        explanations = self.reconciliation.explain(self.differences, self.reads)
        for difference, explanation in zip(self.differences, explanations, strict=True):
            assert isinstance(explanation, Explanation)
            found[self._key(difference.row)] = explanation
        return found

    def explanation(self, **key: Any) -> Explanation:
        """The explanation of the first difference that has the values in `key`."""
        pairs = zip(self.differences, self.explained().values(), strict=True)
        return next(explanation for found, explanation in pairs if key.items() <= dict(found.row).items())

    def _key(self, row: Mapping[str, Any]) -> Any:
        values = tuple(row[name] for name in self.reconciliation.key)
        return values if len(values) > 1 else values[0]


@contextmanager
def open_reconciliation(
    kind: type[Reconciliation], sandbox: Sandbox, scope: Scope | None = None, **settings: str
) -> Iterator[Reconciliation]:
    """A reconciliation of the class `kind` with the services of a sandbox, for the `with` block.

    `settings` has further settings, with their names in lower case.
    """
    environment = {**sandbox.environment(), "DATABASE_URL": "sqlite://"}
    loaded = load_settings({**environment, **{name.upper(): value for name, value in settings.items()}})
    services = Services(loaded)
    try:
        yield kind(services, loaded, scope or Scope())
    finally:
        services.close()


def compare(
    reconciliation: Reconciliation,
    reads: Reads | None = None,
    *,
    given_up: Mapping[str, str] | None = None,
    again: bool = True,
) -> Compared:
    """Reads all units and compares the sides. With `again`, rereads the rows that differ.

    `given_up` has the reasons why the program gave up on messages, by the entity that each message is about.
    """
    reads = reads or PlainReads()
    population = reconciliation.listed = reconciliation.population(reads)
    readings = [reconciliation.read(unit, reads) for unit in population.units]
    frame = concatenated(reconciliation, [each.rows for each in readings])
    rows = reconciliation.differing(frame)
    if again and not rows.empty:
        readings.append(reconciliation.reread(rows[frame.columns], reads))
        rows = reconciliation.differing(readings[-1].rows)
    rows = reconciliation.describe(rows, reads)
    if "ignored" not in rows:
        rows["ignored"] = pd.Series(pd.NA, index=rows.index, dtype="string")
    return Compared(
        reconciliation,
        reads,
        population,
        frame,
        rows,
        [_difference(reconciliation, row, given_up or {}) for row in records(rows[rows["ignored"].isna()])],
        (*population.unread, *(each for reading in readings for each in reading.unread)),
        (*population.gaps, *(each for reading in readings for each in reading.gaps)),
    )


def explain(reconciliation: Reconciliation, row: Mapping[str, Any]) -> Explanation | FailedRead | None:
    """The explanation of the difference in `row`, or the failed read that prevented an explanation.

    None if nothing explains the difference.
    """
    return reconciliation.explain([Difference(row, row["kind"], row["differs"])], PlainReads())[0]


def _difference(reconciliation: Reconciliation, row: Mapping[str, Any], given_up: Mapping[str, str]) -> Difference:
    reasons = [given_up[entity] for entity in reconciliation.entities(row) if entity in given_up]
    columns = {name: value for name, value in row.items() if name not in _ADDED}
    return Difference(columns, str(row["kind"]), row["differs"], given_up=reasons[0] if reasons else None)
