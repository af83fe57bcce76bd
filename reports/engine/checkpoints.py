"""Checkpoints of a run: its population and each finished unit, from which the run is resumed if it is interrupted."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, delete, func, insert, select, update

from reports.engine.units import Population, Unit, UnlistedPart, UnreadRecord
from sync.clock import now
from sync.store.column_types import written_json
from sync.store.tables import reconciliation_pages, reconciliation_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from reports.engine.reconciliation import Reconciliation
    from reports.engine.units import Reading

_RUNS = reconciliation_runs.c
_PAGES = reconciliation_pages.c
#: How many units are made into one frame at a time while a run is loaded.
_UNITS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class ReadUnits:
    """The content of the finished units of a run.

    frame: the rows of all units, sorted by key. unread: the records that could not be read. gaps: the parts that could
    not be listed. ids: the ids of the units.
    """

    frame: pd.DataFrame
    unread: tuple[UnreadRecord, ...]
    gaps: tuple[UnlistedPart, ...]
    ids: frozenset[str]


def save_population(connection: Connection, run_id: str, population: Population) -> None:
    """Records the population of a run."""
    listed = sum(unit.size for unit in population.units) if population.total is None else population.total
    values = {"total_elements": listed, "population": _packed(population)}
    connection.execute(update(reconciliation_runs).where(_RUNS.id == run_id).values(values))


def load_population(connection: Connection, run_id: str) -> Population | None:
    """The population of a run, or None if it has not been listed yet.

    Also None if an earlier version of the program stored it in another format.
    """
    packed = connection.execute(select(_RUNS.population).where(_RUNS.id == run_id)).scalar_one()
    content = {} if packed is None else unpacked(packed)
    if "units" not in content:
        return None
    return Population(
        units=tuple(Unit(**each) for each in content["units"]),
        total=content["total"],
        gaps=tuple(UnlistedPart(**each) for each in content["gaps"]),
        unread=tuple(UnreadRecord(**each) for each in content["unread"]),
        moving=content["moving"],
        detail=content["detail"],
    )


def list_again_on_resume(connection: Connection, run_id: str) -> None:
    """Marks the population of a run as moving, because it may have changed since it was listed."""
    population = load_population(connection, run_id)
    if population is not None:
        save_population(connection, run_id, replace(population, moving=True))


def save_unit(
    connection: Connection, run_id: str, shard: int, number: int, unit: str, reading: Reading, *, part: bool = False
) -> None:
    """Records the `reading` of a finished unit.

    number: the next number of the shard. unit: the id of the unit. part: whether `reading` covers only the records that
    an earlier reading of the unit left unread. If so, only those records are replaced; otherwise the whole earlier
    reading is replaced, if there is one.
    """
    content = {
        "unit": unit,
        "part": part,
        "rows": _plain_columns(reading.rows),
        "unread": reading.unread,
        "gaps": reading.gaps,
    }
    values = {"run_id": run_id, "shard": shard, "page": number, "finished_at": now(), "rows": _packed(content)}
    connection.execute(insert(reconciliation_pages), values)


def next_number(connection: Connection, run_id: str, shard: int) -> int:
    """The number for the next finished unit of a shard; the first unit has the number 0."""
    query = select(func.max(_PAGES.page)).where(_PAGES.run_id == run_id, _PAGES.shard == shard)
    last = connection.execute(query).scalar()
    return 0 if last is None else last + 1


def unread_by_unit(connection: Connection, run_id: str) -> dict[str, tuple[UnreadRecord, ...] | None]:
    """The unread records of each unit that was read, by unit id; None for a unit that must be read again as a whole."""
    found: dict[str, tuple[UnreadRecord, ...] | None] = {}
    for content in _contents(connection, run_id):
        unread = tuple(UnreadRecord(**each) for each in content["unread"])
        found[content["unit"]] = single_records(unread, content["gaps"])
    return found


def single_records(unread: tuple[UnreadRecord, ...], gaps: Sequence[object]) -> tuple[UnreadRecord, ...] | None:
    """The `unread` records of a unit, or None if they cannot be read again one by one.

    They cannot if the unit has `gaps`, or if an unread record has no key.
    """
    return None if gaps or not all(each.key for each in unread) else unread


def load_units(connection: Connection, run_id: str, reconciliation: Reconciliation) -> ReadUnits:
    """Everything that a run has read. If a record was read twice, the later reading counts."""
    from reports.engine.frame import concatenated, typed

    readings: dict[str, list[dict[str, Any]]] = {}
    for content in _contents(connection, run_id):
        earlier = readings.pop(content["unit"], [])
        readings[content["unit"]] = [*earlier, content] if content["part"] else [content]
    contents = [content for parts in readings.values() for content in parts]
    frames = []
    for start in range(0, len(contents), _UNITS_AT_ONCE):
        columns: dict[str, list[Any]] = {}
        length = 0
        for content in contents[start : start + _UNITS_AT_ONCE]:
            for name, values in content["rows"].items():
                columns.setdefault(name, [None] * length).extend(values)
            length += max(map(len, content.pop("rows").values()), default=0)
            for values in columns.values():
                values.extend([None] * (length - len(values)))
        frames.append(typed(reconciliation, columns))
    key = list(reconciliation.key)
    frame = concatenated(reconciliation, frames).drop_duplicates(key, keep="last")
    last = [parts[-1] for parts in readings.values()]
    return ReadUnits(
        frame.sort_values(key, ignore_index=True),
        tuple(UnreadRecord(**each) for content in last for each in content["unread"]),
        tuple(UnlistedPart(**each) for content in last for each in content["gaps"]),
        frozenset(readings),
    )


def forget_units(connection: Connection, run_id: str) -> None:
    """Deletes the units of a run, so that a resumed run reads everything again."""
    connection.execute(delete(reconciliation_pages).where(_PAGES.run_id == run_id))


def _contents(connection: Connection, run_id: str) -> Iterator[dict[str, Any]]:
    """The content of each finished unit, oldest first.

    Units that an earlier version of the program stored in another format are left out.
    """
    query = select(_PAGES.rows).where(_PAGES.run_id == run_id)
    for (packed,) in connection.execute(query.order_by(_PAGES.finished_at, _PAGES.shard, _PAGES.page)):
        content = unpacked(packed)
        if "unit" in content:
            yield content


def _plain_columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """The columns of a frame by name, each as a list of plain JSON values."""
    if frame.empty:
        # Most prisons have no records of a given kind: converting dozens of empty columns would take most of the time.
        return {str(name): [] for name in frame.columns}
    return {str(name): _plain(frame[name]) for name in frame.columns}


def _plain(column: pd.Series[Any]) -> list[Any]:
    """A column as a list of plain JSON values: times as text in ISO 8601, and None for NA."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column):
        return [None if pd.isna(each) else each.isoformat() for each in column]
    values = column.to_numpy(dtype=object, copy=True)
    values[column.isna().to_numpy()] = None
    return list(values.tolist())


def _packed(content: Mapping[str, Any] | Population) -> bytes:
    return zlib.compress(written_json(content).encode(), 1)


def unpacked(packed: bytes) -> dict[str, Any]:
    """The JSON object that is stored compressed in `packed`."""
    content: dict[str, Any] = orjson.loads(zlib.decompress(packed))
    return content
