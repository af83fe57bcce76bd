"""What of a reconciliation survives the death of its process: run, population, finished pages, result."""

from __future__ import annotations

import zlib
from array import array
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, not_, or_, select, update

from reports.engine.listing import Listing, PageFailure
from reports.engine.parallel_reader import Unreadable
from reports.engine.result import ReconciliationResult
from reports.presentation.html import RunLine
from reports.presentation.summary import scope
from reports.reconciliations.incentives.levels import NONE, Codebook
from reports.reconciliations.incentives.snapshot import PageLevels
from sync.clock import now
from sync.store.tables import reconciliation_mismatches, reconciliation_pages, reconciliation_runs
from sync.store.types import written_json
from sync.upstream.prisoners import PrisonerId, UnusableRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_RUNS = reconciliation_runs.c
_PAGES = reconciliation_pages.c
RUNNING = "running"
#: Runs in the index: so many over everyone, and so many of the others.
INDEXED_RUNS = 500
INDEXED_PARTIAL_RUNS = 100


class Scope(StrEnum):
    """Whom a run looks at; only those over everyone are measures for later ones."""

    EVERYONE = "everyone"
    PRISONS = "prisons"
    PRISONERS = "prisoners"

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Scope:
        """The scope of a run with these parameters."""
        if parameters.get("offender_nos"):
            return cls.PRISONERS
        return cls.PRISONS if parameters.get("prisons") else cls.EVERYONE


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as it is recorded. `finished_shards` are the shards that have read all their prisoners."""

    id: str
    status: str
    parameters: Mapping[str, Any]
    started_at: datetime
    finished_at: datetime | None
    total_elements: int | None
    shards: int
    finished_shards: tuple[int, ...]

    @property
    def is_open(self) -> bool:
        """Whether the run has no result yet."""
        return self.status == RUNNING

    @property
    def all_read(self) -> bool:
        """Whether every shard has read its prisoners."""
        return len(self.finished_shards) == self.shards


_RECORD = (
    _RUNS.id,
    _RUNS.status,
    _RUNS.parameters,
    _RUNS.started_at,
    _RUNS.finished_at,
    _RUNS.total_elements,
    _RUNS.shards,
    _RUNS.finished_shards,
)


def create_run(connection: Connection, run_id: str, parameters: Mapping[str, Any], shards: int) -> RunRecord:
    """Records a new run."""
    values: dict[str, Any] = {"id": run_id, "status": RUNNING, "parameters": dict(parameters), "started_at": now()}
    values["scope"] = Scope.of(parameters)
    connection.execute(insert(reconciliation_runs), values | {"shards": shards, "finished_shards": []})
    return run_of(connection, run_id)


def run_of(connection: Connection, run_id: str) -> RunRecord:
    """The run of this id, which there must be."""
    return _record(connection.execute(select(*_RECORD).where(_RUNS.id == run_id)).one())


def find_run(connection: Connection, run_id: str) -> RunRecord | None:
    """The run of this id, None when there is none."""
    row = connection.execute(select(*_RECORD).where(_RUNS.id == run_id)).one_or_none()
    return None if row is None else _record(row)


def newest_run(connection: Connection, parameters: Mapping[str, Any], since: datetime) -> RunRecord | None:
    """The newest run with these parameters that began after `since`, None when there is none."""
    scope = Scope.of(parameters)
    query = select(*_RECORD).where(_RUNS.scope == scope, _RUNS.started_at >= since).order_by(_RUNS.started_at.desc())
    wanted = dict(parameters)
    return next((_record(row) for row in connection.execute(query) if row.parameters == wanted), None)


def reopen_run(connection: Connection, run_id: str, shard: int) -> frozenset[int]:
    """Opens a run again that ended incomplete or failed, and lets it be listed anew; what was read stays.

    Gives back the shards whose rest falls to `shard`: its own, and those that had finished, which nobody starts again.
    """
    row = connection.execute(select(_RUNS.finished_shards).where(_RUNS.id == run_id).with_for_update()).one()
    others = [each for each in row.finished_shards if each != shard]
    values: dict[str, Any] = {"status": RUNNING, "finished_at": None, "finished_shards": others}
    connection.execute(update(reconciliation_runs).where(_RUNS.id == run_id).values(values))
    listing = load_population(connection, run_id)
    if listing is not None:
        save_population(connection, run_id, replace(listing, looked_again=False))
    return frozenset({shard, *others})


def finish_shard(connection: Connection, run_id: str, shard: int) -> RunRecord:
    """Records that a shard has read all its prisoners; the run as it stands then."""
    row = connection.execute(select(*_RECORD).where(_RUNS.id == run_id).with_for_update()).one()
    finished = sorted({*row.finished_shards, shard})
    connection.execute(update(reconciliation_runs).where(_RUNS.id == run_id).values(finished_shards=finished))
    return run_of(connection, run_id)


def save_population(connection: Connection, run_id: str, listing: Listing) -> None:
    """Records who is to be read."""
    content = {
        "bookings": [each.booking_id for each in listing.prisoners],
        "offenders": [each.offender_no for each in listing.prisoners],
        "total": listing.total_elements,
        "failedPages": [[each.page, each.reason] for each in listing.failed_pages],
        "repeats": listing.repeats,
        "foundAgain": listing.found_again,
        "lookedAgain": listing.looked_again,
        "notFound": list(listing.not_found),
        "unusable": [
            [each.page, each.row, each.booking_id, each.offender_no, each.reason] for each in listing.unusable
        ],
    }
    values = {"total_elements": listing.total_elements, "population": _packed(content)}
    connection.execute(update(reconciliation_runs).where(_RUNS.id == run_id).values(values))


def load_population(connection: Connection, run_id: str) -> Listing | None:
    """Who is to be read, None when nobody has listed them yet."""
    packed = connection.execute(select(_RUNS.population).where(_RUNS.id == run_id)).scalar_one()
    if packed is None:
        return None
    content = _unpacked(packed)
    prisoners = zip(content["bookings"], content["offenders"], strict=True)
    failures = tuple(PageFailure(page, reason) for page, reason in content["failedPages"])
    return Listing(
        tuple(PrisonerId(booking_id, offender_no) for booking_id, offender_no in prisoners),
        content["total"],
        failures,
        content["repeats"],
        content["foundAgain"],
        content["lookedAgain"],
        tuple(content["notFound"]),
        # Runs begun by an earlier version kept none.
        tuple(UnusableRow(*each) for each in content.get("unusable", ())),
    )


def save_page(
    connection: Connection, run_id: str, shard: int, page: PageLevels, levels: Codebook, prisons: Codebook
) -> None:
    """The checkpoint: a finished page is never read again."""
    content = {
        "bookings": [each.booking_id for each in page.prisoners],
        "offenders": [each.offender_no for each in page.prisoners],
        "nomis": page.nomis.tolist(),
        "dps": page.dps.tolist(),
        "prisons": page.prisons.tolist(),
        "levelCodes": list(levels.texts),
        "prisonCodes": list(prisons.texts),
        "unreadable": [[booking, why.reason, why.network] for booking, why in page.unreadable.items()],
    }
    values = {"run_id": run_id, "shard": shard, "page": page.number, "finished_at": now(), "rows": _packed(content)}
    connection.execute(insert(reconciliation_pages), values)


def next_page(connection: Connection, run_id: str, shard: int) -> int:
    """The number of the first page that a shard has not finished."""
    query = select(func.max(_PAGES.page)).where(_PAGES.run_id == run_id, _PAGES.shard == shard)
    last = connection.execute(query).scalar()
    return 0 if last is None else last + 1


def load_pages(connection: Connection, run_id: str, levels: Codebook, prisons: Codebook) -> Iterator[PageLevels]:
    """The finished pages of a run, oldest first, in the numbers of the given codebooks."""
    query = select(_PAGES.page, _PAGES.rows).where(_PAGES.run_id == run_id)
    for number, packed in connection.execute(query.order_by(_PAGES.finished_at, _PAGES.shard, _PAGES.page)):
        content = _unpacked(packed)
        level_numbers = [*(levels.number(code) for code in content["levelCodes"]), NONE]
        prison_numbers = [*(prisons.number(code) for code in content["prisonCodes"]), NONE]
        yield PageLevels(
            number,
            [PrisonerId(*each) for each in zip(content["bookings"], content["offenders"], strict=True)],
            nomis=array("h", [level_numbers[each] for each in content["nomis"]]),
            dps=array("h", [level_numbers[each] for each in content["dps"]]),
            prisons=array("h", [prison_numbers[each] for each in content["prisons"]]),
            unreadable={booking: Unreadable(reason, network) for booking, reason, network in content["unreadable"]},
        )


def forget_pages(connection: Connection, run_id: str) -> None:
    """Drops what a run read, so that whoever goes on with it reads everyone again."""
    connection.execute(delete(reconciliation_pages).where(_PAGES.run_id == run_id))


def save_result(connection: Connection, result: ReconciliationResult) -> None:
    """Records how a run ended.

    A complete run needs its pages no more. One over everyone leaves nothing to resume of those over everyone before it.
    """
    run_id = result.run_id
    values: dict[str, Any] = {
        "status": result.status,
        "finished_at": result.finished_at,
        "result": zlib.compress(result.to_json().encode(), 6),
    }
    connection.execute(update(reconciliation_runs).where(_RUNS.id == run_id).values(values))
    if result.status == "complete":
        done = _PAGES.run_id == run_id
        if Scope.of(result.parameters) is Scope.EVERYONE:
            earlier = select(_RUNS.id).where(_RUNS.scope == Scope.EVERYONE, _RUNS.started_at < result.started_at)
            done = or_(done, _PAGES.run_id.in_(earlier))
        connection.execute(delete(reconciliation_pages).where(done))
    connection.execute(delete(reconciliation_mismatches).where(reconciliation_mismatches.c.run_id == run_id))
    rows = [
        {
            "run_id": run_id,
            "booking_id": each.booking_id,
            "offender_no": each.offender_no,
            "prison_id": each.prison_id,
            "nomis_level": each.nomis_level,
            "dps_level": each.dps_level,
            "since": each.since,
            "standing": each.standing,
            "cause": str(each.diagnosis.number) if each.diagnosis else None,
        }
        for each in result.mismatches
    ]
    if rows:
        connection.execute(insert(reconciliation_mismatches), rows)


def load_result(connection: Connection, run_id: str) -> ReconciliationResult | None:
    """The result of a run, None when it has none or there is no such run."""
    packed = connection.execute(select(_RUNS.result).where(_RUNS.id == run_id)).scalar_one_or_none()
    return None if packed is None else ReconciliationResult.from_json(zlib.decompress(packed))


def _packed(content: Mapping[str, Any]) -> bytes:
    return zlib.compress(written_json(content).encode(), 1)


def _unpacked(packed: bytes) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads(zlib.decompress(packed))
    return content


def _record(row: Row[Any]) -> RunRecord:
    values = dict(row._mapping)
    return RunRecord(**values | {"finished_shards": tuple(values["finished_shards"])})


def run_lines(connection: Connection) -> list[RunLine]:
    """The runs that ended, newest first, as the index shows them; looks at single prisoners crowd out no weekly run."""
    everyone = _RUNS.scope == Scope.EVERYONE
    found = [*_ended(connection, everyone, INDEXED_RUNS), *_ended(connection, not_(everyone), INDEXED_PARTIAL_RUNS)]
    lines = []
    for row in sorted(found, key=lambda row: (row.started_at, row.id), reverse=True):
        content = _unpacked(row.result)
        lines.append(
            RunLine(
                run_id=row.id,
                status=content["status"],
                started_at=datetime.fromisoformat(content["startedAt"]),
                compared=content["compared"],
                mismatches=len(content["mismatches"]),
                new=sum(each["standing"] == "new" for each in content["mismatches"]),
                unread=len(content["unread"]),
                scope=scope(content["parameters"]),
                unread_pages=len(content["unreadPages"]),
            )
        )
    return lines


def _ended(connection: Connection, which: ColumnElement[bool], limit: int) -> Sequence[Row[Any]]:
    query = select(_RUNS.id, _RUNS.started_at, _RUNS.result).where(_RUNS.result.is_not(None), which)
    return connection.execute(query.order_by(_RUNS.started_at.desc(), _RUNS.id.desc()).limit(limit)).all()
