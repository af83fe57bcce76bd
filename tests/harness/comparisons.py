"""A comparison against the sandbox without the engine: read, compared, looked at again and explained in one go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reports.engine.contract import Difference, Explanation, Gap, Reconciliation, Scope
from reports.engine.frame import concatenated, records
from reports.engine.parallel_reader import FailedRead
from sandbox import Sandbox
from sync.settings.loading import load_settings
from sync.upstream.services import connect
from sync.upstream.transport import Transport
from tests.harness.reads import PlainReads

#: What a comparison adds to the rows of a frame.
_ADDED = ("kind", "differs", "ignored")


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison gave: everything read, the rows that differ, and the differences with their explanations.

    ignored: the reasons for which rows are not reported, by key.
    """

    frame: pd.DataFrame
    rows: pd.DataFrame
    differences: list[Difference]
    explanations: list[Explanation]
    ignored: dict[tuple[Any, ...], str]
    gaps: tuple[Gap, ...]
    keys: tuple[str, ...] = field(default=())

    @property
    def kinds(self) -> dict[tuple[Any, ...], str]:
        """The kind of each difference to report, by key."""
        return {tuple(each.row[name] for name in self.keys): each.kind for each in self.differences}

    def explanation(self, **key: Any) -> Explanation:
        """The explanation of the difference with these values."""
        pairs = zip(self.differences, self.explanations, strict=True)
        return next(told for found, told in pairs if key.items() <= dict(found.row).items())


@contextmanager
def opened(
    kind: type[Reconciliation], sandbox: Sandbox, scope: Scope | None = None, **settings: str
) -> Iterator[Reconciliation]:
    """A reconciliation over the services of a sandbox; further settings by their names in lower case."""
    environment = {**sandbox.environment(), "DATABASE_URL": "sqlite://"}
    loaded = load_settings({**environment, **{name.upper(): value for name, value in settings.items()}})
    transport = Transport(loaded)
    try:
        yield kind(connect(transport), loaded, scope or Scope())
    finally:
        transport.close()


def compare(reconciliation: Reconciliation, given_up: Mapping[str, str] | None = None) -> Compared:
    """Reads everyone, and describes and explains what differs; `given_up` by the entity of a message."""
    reads = PlainReads()
    population = reconciliation.population(reads)
    frame = concatenated(reconciliation, [reconciliation.read(unit, reads).rows for unit in population.units])
    rows = reconciliation.describe(reconciliation.differing(frame), reads)
    if "ignored" not in rows:
        rows["ignored"] = pd.Series(pd.NA, index=rows.index, dtype="string")
    keys = tuple(reconciliation.key)
    differences = [_difference(reconciliation, row, given_up or {}) for row in records(rows[rows["ignored"].isna()])]
    explanations = []
    for told in reconciliation.explain(differences, reads):
        assert told is not None
        assert not isinstance(told, FailedRead)
        explanations.append(told)
    ignored = {tuple(row[name] for name in keys): str(row["ignored"]) for row in records(rows[rows["ignored"].notna()])}
    return Compared(frame, rows, differences, explanations, ignored, population.gaps, keys)


def _difference(reconciliation: Reconciliation, row: Mapping[str, Any], given_up: Mapping[str, str]) -> Difference:
    reasons = [given_up[entity] for entity in reconciliation.entities(row) if entity in given_up]
    columns = {name: value for name, value in row.items() if name not in _ADDED}
    return Difference(columns, str(row["kind"]), row["differs"], given_up=reasons[0] if reasons else None)
