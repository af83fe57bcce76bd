"""Compares a run with earlier runs: which mismatches are new, persisting or resolved, and what the trend is.

Only runs of the same reconciliation that covered everyone count, whether complete or incomplete. Runs that covered
chosen days, prisons or prisoners do not count. Of a run that failed, only the number of records that it listed is used.
A record that a run did not read keeps its state from the previous run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal

import orjson
from sqlalchemy import Connection, Row, select

from reports.engine.result import Standing, TrendPoint
from reports.engine.runs import AResult, Coverage, load_result, result_content
from sync.store.tables import reconciliation_mismatches, reconciliation_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from reports.engine.result import ReconciliationResult
    from reports.engine.runs import RunRecord

#: At most this many runs are in the trend: half a year of weekly runs.
TREND_RUNS = 26
_NOT_FAILED = ("complete", "incomplete")
_NEXT_DAY = timedelta(days=1)
_COLUMNS = reconciliation_runs.c
#: The columns of a stored mismatch that belong to its run; the others are values of the record.
_OF_THE_RUN = frozenset({"run_id", "reconciliation", "since", "standing", "cause"})


@dataclass(frozen=True, slots=True)
class Earlier:
    """A mismatch that was found when a run for everyone last read the record.

    key: the key of the record, as text. since: when the difference was first seen, aware. values: the values of the
    record, each by the name of its field in `reports.engine.result.Record`.
    """

    key: str
    since: datetime
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known about each record from the earlier runs for everyone, by the text of its key (`key_text`).

    run_id, started_at: the id of the last of those runs, and when it began (aware); both None if there is no run yet.
    mismatches: the mismatches that were open after that run. in_flight: the keys of the records with a difference that
    was in flight then.
    """

    run_id: str | None
    mismatches: Mapping[str, Earlier]
    started_at: datetime | None = None
    in_flight: frozenset[str] = frozenset()

    def differed(self, key: str) -> bool:
        """Whether the record `key` was known to differ after the earlier runs; a difference in flight counts too."""
        return key in self.mismatches or key in self.in_flight

    def classify(self, key: str, started_at: datetime) -> tuple[Standing, datetime]:
        """Whether the mismatch of the record `key` is new or persisting, and when it was first seen.

        started_at: when the run that found the mismatch began, aware.
        """
        earlier = self.mismatches.get(key)
        return ("new", started_at) if earlier is None else ("persisting", earlier.since)

    def resolved(
        self, equal: Callable[[str], bool], gone: Callable[[str], bool], examined: Callable[[Earlier], bool]
    ) -> Iterator[tuple[Earlier, Literal["equal", "gone"]]]:
        """Yields the earlier mismatches that are resolved, and how each was resolved, in order of booking id.

        equal: returns whether both sides of the record with the given key now agree. gone: returns whether the record
        with the given key is no longer in the population. If neither is true, the mismatch is not resolved. examined:
        returns whether this run can say anything about the record of a mismatch; if not, the mismatch is not resolved
        either.
        """
        for key, earlier in sorted(self.mismatches.items(), key=_in_order):
            if not examined(earlier):
                continue
            if equal(key):
                yield earlier, "equal"
            elif gone(key):
                yield earlier, "gone"


_NO_BASELINE = Baseline(None, {})


@dataclass(frozen=True, slots=True)
class EarlierRuns(Generic[AResult]):
    """What a run is compared with: its reconciliation's earlier runs for everyone.

    baseline: what is known about each record. trend: the runs that listed the whole population, oldest first. last: the
    result of the last run that did not fail. listed: how many records were listed by the failed run whose data this
    run accepts, or else by the last run of the trend. listed_before: how many were listed by the last run that began at
    least a day before this run, however it ended. `last`, `listed` and `listed_before` are None if there is no such
    run.
    """

    baseline: Baseline
    trend: tuple[TrendPoint, ...]
    last: AResult | None
    listed: int | None
    listed_before: int | None


def read_earlier_runs(connection: Connection, record: RunRecord, of: type[AResult]) -> EarlierRuns[AResult]:
    """What the run `record` is compared with; `of` is the class of the run's result."""
    name, before = record.reconciliation, record.started_at
    trend = read_trend(connection, name, before)
    listed_by = record.accepts or (trend[-1].run_id if trend else None)
    return EarlierRuns(
        read_baseline(connection, name, before),
        trend,
        _read_last(connection, name, before, of),
        None if listed_by is None else _read_listed(connection, listed_by),
        _read_listed_before(connection, name, before),
    )


def read_baseline(connection: Connection, reconciliation: str, before: datetime) -> Baseline:
    """What is known from the runs of `reconciliation` that covered everyone and began before `before` (aware)."""
    chain = []
    for row in _earlier_runs(connection, reconciliation, before, TREND_RUNS):
        chain.append(row)
        if row.status == "complete":
            break
    if not chain:
        return _NO_BASELINE
    known: dict[str, Earlier] = {}
    in_flight: set[str] = set()
    query = select(reconciliation_mismatches)
    for run in reversed(chain):
        content = result_content(connection, run.id)
        # Resolved mismatches are dropped; the mismatches of unread records stay.
        for key in _keys(content["resolved"]):
            known.pop(key, None)
        rows = connection.execute(query.where(reconciliation_mismatches.c.run_id == run.id))
        known |= {row.key: _earlier(row) for row in rows}
        in_flight &= _keys(content["unread"])
        in_flight |= _keys(content["inFlight"])
    return Baseline(chain[0].id, known, chain[0].started_at, frozenset(in_flight))


def read_trend(connection: Connection, reconciliation: str, before: datetime) -> tuple[TrendPoint, ...]:
    """Of the last `TREND_RUNS` runs, those that listed the whole population, oldest first.

    Only runs of `reconciliation` that covered everyone, began before `before` (aware), and did not fail are considered.
    """
    points = []
    for row in _earlier_runs(connection, reconciliation, before, TREND_RUNS):
        content = result_content(connection, row.id)
        if content["gaps"]:
            continue
        point = TrendPoint(
            run_id=row.id,
            started_at=row.started_at,
            compared=content["compared"],
            mismatches=len(content["mismatches"]),
            unread=len(content["unread"]),
            new=sum(each["standing"] == "new" for each in content["mismatches"]),
            resolved=len(content["resolved"]),
        )
        points.append(point)
    return tuple(reversed(points))


def read_last_complete(
    connection: Connection, reconciliation: str, before: datetime, of: type[AResult]
) -> AResult | None:
    """The result of the last complete run for everyone that began before `before` (aware), or None if there is none.

    of: the class of the result.
    """
    return _read_last(connection, reconciliation, before, of, ("complete",))


def _read_last(
    connection: Connection,
    reconciliation: str,
    before: datetime,
    of: type[AResult],
    statuses: Sequence[str] = _NOT_FAILED,
) -> AResult | None:
    for row in _earlier_runs(connection, reconciliation, before, 1, statuses):
        return load_result(connection, row.id, of)
    return None


def _read_listed(connection: Connection, run_id: str) -> int | None:
    return connection.execute(select(_COLUMNS.total_elements).where(_COLUMNS.id == run_id)).scalar_one_or_none()


def _read_listed_before(connection: Connection, reconciliation: str, before: datetime) -> int | None:
    query = select(_COLUMNS.total_elements).where(
        _COLUMNS.reconciliation == reconciliation,
        _COLUMNS.scope == Coverage.EVERYONE,
        _COLUMNS.finished_at.is_not(None),
        _COLUMNS.started_at <= before - _NEXT_DAY,
        _COLUMNS.total_elements.is_not(None),
    )
    return connection.execute(query.order_by(_COLUMNS.started_at.desc()).limit(1)).scalar_one_or_none()


def ended_differently(result: ReconciliationResult, previous: ReconciliationResult) -> bool:
    """Whether the `result` of a resumed run has different findings from the `previous` result of that run.

    If so, the new result is sent too.
    """
    return _findings(result) != _findings(previous)


def _findings(result: ReconciliationResult) -> tuple[object, ...]:
    return (
        result.status,
        result.failure,
        {each.finding for each in result.mismatches},
        {str(each.key) for each in result.in_flight},
        {(str(each.key), each.offender_no, each.unit) for each in result.unread},
        {each.what for each in result.gaps},
        {(str(each.key), each.still_differs) for each in result.excluded},
    )


def _earlier_runs(
    connection: Connection,
    reconciliation: str,
    before: datetime,
    limit: int,
    statuses: Sequence[str] = _NOT_FAILED,
) -> Sequence[Row[Any]]:
    query = select(_COLUMNS.id, _COLUMNS.started_at, _COLUMNS.status).where(
        _COLUMNS.reconciliation == reconciliation,
        _COLUMNS.scope == Coverage.EVERYONE,
        _COLUMNS.status.in_(statuses),
        _COLUMNS.started_at < before,
    )
    return connection.execute(query.order_by(_COLUMNS.started_at.desc()).limit(limit)).all()


def _keys(records: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The keys, as text, of `records` from a stored result; an unread unit has no key and is left out."""
    return frozenset(orjson.dumps(key).decode() for each in records if (key := each.get("key")))


def _earlier(row: Row[Any]) -> Earlier:
    values = {name: value for name, value in row._mapping.items() if name not in _OF_THE_RUN and value is not None}
    return Earlier(row.key, row.since, {**values, "key": orjson.loads(row.key)})


def _in_order(named: tuple[str, Earlier]) -> tuple[int, str]:
    key, earlier = named
    return earlier.values.get("booking_id") or 0, key
