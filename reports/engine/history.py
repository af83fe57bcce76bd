"""Earlier runs: which mismatches are new, which persist and since when, which are resolved, and the trend.

Complete and incomplete runs over everyone count. A prisoner that a run did not read keeps the state of the run before.
Runs that failed, or covered chosen prisons or prisoners, do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, Row, select

from reports.engine.plausibility import Without
from reports.engine.result import Standing, TrendPoint
from reports.engine.runs import Scope, result_content
from reports.reconciliations.incentives.result import IncentiveResolved, MatrixCell
from sync.store.tables import reconciliation_mismatches, reconciliation_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reports.reconciliations.incentives.result import IncentiveResult

#: Runs in the trend: half a year of weeks.
TREND_RUNS = 26
_NEXT_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Earlier:
    """A mismatch of the last run that read the prisoner."""

    offender_no: str
    booking_id: int
    nomis_level: str | None
    dps_level: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Baseline:
    """The state after the last runs over everyone; `run_id` is the last of them, None if there was none yet.

    in_flight: the bookings whose difference was in flight then.
    """

    run_id: str | None
    mismatches: Mapping[int, Earlier]
    started_at: datetime | None = None
    in_flight: frozenset[int] = frozenset()

    def differed(self, booking_id: int) -> bool:
        """Whether the levels differed then, in flight or not."""
        return booking_id in self.mismatches or booking_id in self.in_flight

    def standing(self, booking_id: int, started_at: datetime) -> tuple[Standing, datetime]:
        """Whether a mismatch of a run that began at `started_at` is new or persisting, and since when it exists."""
        earlier = self.mismatches.get(booking_id)
        return ("new", started_at) if earlier is None else ("persisting", earlier.since)

    def resolved(
        self, equal: Callable[[int], bool], gone: Callable[[int], bool], examined: Callable[[int], bool]
    ) -> tuple[IncentiveResolved, ...]:
        """Earlier mismatches that no longer differ: read and `equal`, or `gone` from the list.

        A booking that was not read, or is not `examined` in this run, keeps its state.
        """
        found = []
        for booking_id, earlier in sorted(self.mismatches.items()):
            if not examined(booking_id):
                continue
            if equal(booking_id):
                found.append(_resolved(earlier, "equal"))
            elif gone(booking_id):
                found.append(_resolved(earlier, "released"))
        return tuple(found)


NO_BASELINE = Baseline(None, {})


def read_baseline(connection: Connection, before: datetime) -> Baseline:
    """The state after the runs over everyone that began before `before`."""
    chain = []
    for row in _earlier_runs(connection, before, TREND_RUNS):
        chain.append(row)
        if row.status == "complete":
            break
    if not chain:
        return NO_BASELINE
    columns = reconciliation_mismatches.c
    known: dict[int, Earlier] = {}
    in_flight: set[int] = set()
    for run in reversed(chain):
        content = result_content(connection, run.id)
        # Resolved mismatches are dropped; those of unread prisoners stay.
        for each in content["resolved"]:
            known.pop(each["bookingId"], None)
        query = select(columns.offender_no, columns.booking_id, columns.nomis_level, columns.dps_level, columns.since)
        rows = connection.execute(query.where(columns.run_id == run.id))
        known |= {row.booking_id: Earlier(**row._mapping) for row in rows}
        in_flight &= {each["bookingId"] for each in content["unread"]}
        in_flight |= {each["bookingId"] for each in content["inFlight"]}
    return Baseline(chain[0].id, known, chain[0].started_at, frozenset(in_flight))


def read_trend(connection: Connection, before: datetime) -> tuple[TrendPoint, ...]:
    """The runs over everyone that began before `before` and had the whole list, oldest first."""
    points = []
    for row in _earlier_runs(connection, before, TREND_RUNS):
        content = result_content(connection, row.id)
        if content["unreadPages"]:
            continue
        point = TrendPoint(
            run_id=row.id,
            started_at=row.started_at,
            compared=content["compared"],
            mismatches=len(content["mismatches"]),
            unread=len(content["unread"]),
        )
        points.append(point)
    return tuple(reversed(points))


def read_without_levels(connection: Connection, before: datetime) -> Without | None:
    """How many had no level in the last run that counts; None if there was none yet."""
    for row in _earlier_runs(connection, before, 1):
        return Without.of(MatrixCell.model_validate(cell) for cell in result_content(connection, row.id)["matrix"])
    return None


def read_listed_before(connection: Connection, before: datetime) -> int | None:
    """How many prisoners the last run over everyone listed that began at least a day earlier, however it ended."""
    columns = reconciliation_runs.c
    query = select(columns.total_elements).where(
        columns.scope == Scope.EVERYONE,
        columns.finished_at.is_not(None),
        columns.started_at <= before - _NEXT_DAY,
        columns.total_elements.is_not(None),
    )
    return connection.execute(query.order_by(columns.started_at.desc()).limit(1)).scalar_one_or_none()


def ended_differently(result: IncentiveResult, previous: IncentiveResult) -> bool:
    """Whether the resumed run ended differently."""
    return _findings(result) != _findings(previous)


def _findings(result: IncentiveResult) -> tuple[object, ...]:
    levels = {(each.booking_id, each.nomis_level, each.dps_level) for each in result.mismatches}
    unread = {(each.offender_no, each.booking_id) for each in result.unread}
    pages = {each.page for each in result.unread_pages}
    excluded = {(each.booking_id, each.still_differs) for each in result.excluded}
    return (
        result.status,
        result.failure,
        levels,
        {each.booking_id for each in result.in_flight},
        unread,
        pages,
        excluded,
    )


def _earlier_runs(connection: Connection, before: datetime, limit: int) -> Sequence[Row[Any]]:
    columns = reconciliation_runs.c
    query = select(columns.id, columns.started_at, columns.status).where(
        columns.scope == Scope.EVERYONE, columns.status.in_(("complete", "incomplete")), columns.started_at < before
    )
    return connection.execute(query.order_by(columns.started_at.desc()).limit(limit)).all()


def _resolved(earlier: Earlier, how: Literal["equal", "released"]) -> IncentiveResolved:
    return IncentiveResolved(
        offender_no=earlier.offender_no,
        booking_id=earlier.booking_id,
        nomis_level=earlier.nomis_level,
        dps_level=earlier.dps_level,
        since=earlier.since,
        how=how,
    )
