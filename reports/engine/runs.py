"""The recorded runs of reconciliations: their start, their finished shards, their resumption and their results."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, not_, or_, select, update

from reports.engine.checkpoints import list_again_on_resume, unpacked
from reports.engine.units import Scope, key_text
from sync.alerting import command
from sync.clock import now
from sync.store.tables import reconciliation_mismatches, reconciliation_pages, reconciliation_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reports.engine.result import Mismatch, ReconciliationResult

AResult = TypeVar("AResult", bound="ReconciliationResult")
_RUNS = reconciliation_runs.c
_PAGES = reconciliation_pages.c
RUNNING = "running"
#: Runs in the index: at most INDEXED_RUNS for everyone of each reconciliation, and INDEXED_PARTIAL_RUNS partial runs.
INDEXED_RUNS = 100
INDEXED_PARTIAL_RUNS = 100


class Coverage(StrEnum):
    """What a run covers. Only runs for everyone are compared with later runs."""

    EVERYONE = "everyone"
    DAYS = "days"
    PRISONS = "prisons"
    PRISONERS = "prisoners"

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Coverage:
        """The coverage of a run with these parameters."""
        if parameters.get("offender_nos"):
            return cls.PRISONERS
        if parameters.get("prisons"):
            return cls.PRISONS
        return cls.DAYS if parameters.get("days_chosen") else cls.EVERYONE


class _Covering:
    """What a run covers, according to its parameters."""

    __slots__ = ()
    parameters: Mapping[str, Any]

    @property
    def covers_everyone(self) -> bool:
        """Whether no prisoners, prisons or days were chosen; only such a run is compared with later runs."""
        return Coverage.of(self.parameters) is Coverage.EVERYONE


@dataclass(frozen=True, slots=True)
class RunRecord(_Covering):
    """A run as recorded.

    status: `running`, or the status of its result. parameters: as returned by `ReconciliationParameters.recorded`.
    started_at, finished_at: aware; `finished_at` is None while the run is open. total_elements: how many records its
    population has, or None before it is listed. shards: how many shards the run has. finished_shards: the numbers,
    counted from 0, of the shards that have read all their units.
    """

    id: str
    reconciliation: str
    status: str
    parameters: Mapping[str, Any]
    started_at: datetime
    finished_at: datetime | None
    total_elements: int | None
    shards: int
    finished_shards: tuple[int, ...]

    @property
    def scope(self) -> Scope:
        """What the run covers."""
        days = (self.parameters.get(name) for name in ("from_date", "to_date"))
        from_date, to_date = (None if day is None else date.fromisoformat(day) for day in days)
        return Scope(
            prisons=tuple(self.parameters.get("prisons", ())),
            offender_nos=tuple(self.parameters.get("offender_nos", ())),
            from_date=from_date,
            to_date=to_date,
            days_chosen=bool(self.parameters.get("days_chosen", False)),
        )

    @property
    def accepts(self) -> str | None:
        """The id of the failed run whose implausible data this run accepts, or None if there is no such run."""
        return self.parameters.get("accept")

    @property
    def notify(self) -> bool:
        """Whether the result of the run is sent."""
        return bool(self.parameters.get("notify", True))

    @property
    def is_open(self) -> bool:
        """Whether the run has no result yet."""
        return self.status == RUNNING

    @property
    def all_read(self) -> bool:
        """Whether every shard has read all its units."""
        return len(self.finished_shards) == self.shards


def resume_command(reconciliation: str, run_id: str, shards: int, shard: int | str | None = None) -> str:
    """The command that resumes a run.

    shards: the number of shards of the run. shard: the shard that the command resumes, or the text that stands for its
    number, if the run has several; None for a run whose shards have all finished, since any of them reads the rest.
    """
    of_shards: list[int | str] = ["--shards", shards] if shards > 1 else []
    if of_shards and shard is not None:
        of_shards += ["--shard", shard]
    return command("reconcile", reconciliation, "--resume", run_id, *of_shards)


@dataclass(frozen=True, slots=True)
class EndedRun(_Covering):
    """A run that has ended, with the figures that the index shows.

    counted: what is counted as compared, in the plural. started_at, finished_at: aware. compared, mismatches, new,
    unread, resolved: numbers of records. gaps: how many parts of the population could not be listed. suspicious:
    whether unusually many records differ.
    """

    run_id: str
    reconciliation: str
    title: str
    counted: str
    status: str
    started_at: datetime
    finished_at: datetime
    compared: int
    mismatches: int
    new: int
    unread: int
    gaps: int
    suspicious: bool
    parameters: Mapping[str, Any]
    resolved: int = 0

    @property
    def has_figures(self) -> bool:
        """Whether the figures are meaningful. They are not if the run compared nothing and is not complete."""
        return self.compared > 0 or self.status == "complete"


_RECORD = (
    _RUNS.id,
    _RUNS.reconciliation,
    _RUNS.status,
    _RUNS.parameters,
    _RUNS.started_at,
    _RUNS.finished_at,
    _RUNS.total_elements,
    _RUNS.shards,
    _RUNS.finished_shards,
)


def create_run(
    connection: Connection,
    reconciliation: str,
    run_id: str,
    parameters: Mapping[str, Any],
    shards: int,
    started_at: datetime | None = None,
) -> RunRecord:
    """Records and returns a new run of a reconciliation. started_at: when the run starts, aware, or None for now."""
    values: dict[str, Any] = {
        "id": run_id,
        "reconciliation": reconciliation,
        "status": RUNNING,
        "scope": Coverage.of(parameters),
        "parameters": dict(parameters),
        "started_at": started_at or now(),
        "shards": shards,
        "finished_shards": [],
    }
    connection.execute(insert(reconciliation_runs), values)
    return get_run(connection, run_id)


def get_run(connection: Connection, run_id: str) -> RunRecord:
    """The run with this id; raises `NoResultFound` if it is unknown."""
    return _record(connection.execute(select(*_RECORD).where(_RUNS.id == run_id)).one())


def find_run(connection: Connection, run_id: str) -> RunRecord | None:
    """The run with this id, or None if it is unknown."""
    row = connection.execute(select(*_RECORD).where(_RUNS.id == run_id)).one_or_none()
    return None if row is None else _record(row)


def newest_run(
    connection: Connection, reconciliation: str, parameters: Mapping[str, Any], since: datetime
) -> RunRecord | None:
    """The newest of a reconciliation's runs that have these parameters and began at `since` (aware) or later.

    None if there is none.
    """
    query = select(*_RECORD).where(
        _RUNS.reconciliation == reconciliation, _RUNS.scope == Coverage.of(parameters), _RUNS.started_at >= since
    )
    query = query.order_by(_RUNS.started_at.desc())
    wanted = dict(parameters)
    return next((_record(row) for row in connection.execute(query) if row.parameters == wanted), None)


def newest_over_everyone(connection: Connection, reconciliation: str) -> RunRecord | None:
    """A reconciliation's newest run for everyone, whether or not that run has ended; None if there is none."""
    everyone = (_RUNS.scope == Coverage.EVERYONE) & (_RUNS.reconciliation == reconciliation)
    query = select(*_RECORD).where(everyone).order_by(_RUNS.started_at.desc(), _RUNS.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _record(row)


def reopen_run(connection: Connection, run_id: str, shard: int) -> frozenset[int]:
    """Reopens a run that ended incomplete or failed. Its population is listed again; what the run has read is kept.

    Returns the numbers of the shards whose remaining units `shard` has to read: its own number, and those of the other
    finished shards, which do not restart.
    """
    row = connection.execute(select(_RUNS.finished_shards).where(_RUNS.id == run_id).with_for_update()).one()
    others = [each for each in row.finished_shards if each != shard]
    values: dict[str, Any] = {"status": RUNNING, "finished_at": None, "finished_shards": others}
    connection.execute(update(reconciliation_runs).where(_RUNS.id == run_id).values(values))
    list_again_on_resume(connection, run_id)
    return frozenset({shard, *others})


def finish_shard(connection: Connection, run_id: str, shard: int) -> RunRecord:
    """Records that a shard has read all its units; returns the updated run."""
    row = connection.execute(select(*_RECORD).where(_RUNS.id == run_id).with_for_update()).one()
    finished = sorted({*row.finished_shards, shard})
    connection.execute(update(reconciliation_runs).where(_RUNS.id == run_id).values(finished_shards=finished))
    return get_run(connection, run_id)


def save_result(connection: Connection, result: ReconciliationResult) -> None:
    """Records the result of a run, with its mismatches.

    If the run is complete, its units are deleted. If it also covers everyone, the units of the reconciliation's earlier
    runs for everyone are deleted too, as those runs are no longer worth resuming.
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
        if Coverage.of(result.parameters) is Coverage.EVERYONE:
            earlier = select(_RUNS.id).where(
                _RUNS.reconciliation == result.reconciliation,
                _RUNS.scope == Coverage.EVERYONE,
                _RUNS.started_at < result.started_at,
            )
            done = or_(done, _PAGES.run_id.in_(earlier))
        connection.execute(delete(reconciliation_pages).where(done))
    connection.execute(delete(reconciliation_mismatches).where(reconciliation_mismatches.c.run_id == run_id))
    rows = [_mismatch_row(result, each) for each in result.mismatches]
    if rows:
        connection.execute(insert(reconciliation_mismatches), rows)


def _mismatch_row(result: ReconciliationResult, mismatch: Mismatch) -> dict[str, Any]:
    """The row of a mismatch, with a value for each column; the value is None if the mismatch has none."""
    values = {column.name: getattr(mismatch, column.name, None) for column in reconciliation_mismatches.columns}
    return values | {
        "run_id": result.run_id,
        "key": key_text(mismatch.key),
        "reconciliation": result.reconciliation,
        "differences": [part.model_dump(by_alias=True) for part in mismatch.differences],
        "cause": None if mismatch.diagnosis is None else mismatch.diagnosis.known_as,
    }


def load_result(connection: Connection, run_id: str, of: type[AResult]) -> AResult | None:
    """The result of a run as an instance of `of`; None if the run has no result yet or is unknown."""
    text = result_text(connection, run_id)
    return None if text is None else of.model_validate_json(text)


def result_text(connection: Connection, run_id: str) -> bytes | None:
    """The JSON of the result of a run; None if the run has no result yet or is unknown."""
    packed = connection.execute(select(_RUNS.result).where(_RUNS.id == run_id)).scalar_one_or_none()
    return None if packed is None else zlib.decompress(packed)


def result_content(connection: Connection, run_id: str) -> dict[str, Any]:
    """The result of a run as parsed JSON. The run must have a result.

    The result is not validated, because validation is slow.
    """
    return unpacked(connection.execute(select(_RUNS.result).where(_RUNS.id == run_id)).scalar_one())


def ended_runs(connection: Connection) -> list[EndedRun]:
    """The most recent of the runs that have ended, newest first.

    The number of partial runs, and for each reconciliation the number of runs for everyone, are limited separately, so
    that partial and daily runs do not displace weekly runs.
    """
    everyone = _RUNS.scope == Coverage.EVERYONE
    rows = list(_ended(connection, not_(everyone), INDEXED_PARTIAL_RUNS))
    for name in connection.execute(select(_RUNS.reconciliation).distinct()).scalars():
        rows += _ended(connection, everyone & (_RUNS.reconciliation == name), INDEXED_RUNS)
    return [_ended_run(row) for row in sorted(rows, key=lambda row: (row.started_at, row.id), reverse=True)]


def last_runs(connection: Connection, reconciliation: str) -> tuple[EndedRun | None, EndedRun | None]:
    """Of a reconciliation's runs for everyone, the last one that has ended and the last complete one.

    Each is None if there is no such run.
    """
    everyone = (_RUNS.scope == Coverage.EVERYONE) & (_RUNS.reconciliation == reconciliation)
    found = (_ended(connection, which, 1) for which in (everyone, everyone & (_RUNS.status == "complete")))
    last, complete = (next(map(_ended_run, rows), None) for rows in found)
    return last, complete


def _ended_run(row: Row[Any]) -> EndedRun:
    content = unpacked(row.result)
    return EndedRun(
        run_id=row.id,
        reconciliation=content["reconciliation"],
        title=content["title"],
        counted=content["counted"],
        status=content["status"],
        started_at=datetime.fromisoformat(content["startedAt"]),
        finished_at=datetime.fromisoformat(content["finishedAt"]),
        compared=content["compared"],
        mismatches=len(content["mismatches"]),
        new=sum(each["standing"] == "new" for each in content["mismatches"]),
        unread=len(content["unread"]),
        gaps=len(content["gaps"]),
        suspicious=content["suspicious"] is not None,
        parameters=content["parameters"],
        resolved=len(content["resolved"]),
    )


def _ended(connection: Connection, which: ColumnElement[bool], limit: int) -> Sequence[Row[Any]]:
    columns = (_RUNS.id, _RUNS.started_at, _RUNS.result)
    query = select(*columns).where(_RUNS.result.is_not(None), which)
    return connection.execute(query.order_by(_RUNS.started_at.desc(), _RUNS.id.desc()).limit(limit)).all()


def _record(row: Row[Any]) -> RunRecord:
    values = dict(row._mapping)
    return RunRecord(**values | {"finished_shards": tuple(values["finished_shards"])})
