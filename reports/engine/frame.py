"""The frame of a run: one typed row for each record, with the columns of both sides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd
from pandas.api.types import union_categoricals
from pydantic.alias_generators import to_snake

from reports.engine.runs import key_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from reports.engine.contract import Reconciliation

#: Numbers whose range is more than this many times their count are looked up by hash.
_SPARSE = 8
#: The columns that every frame has, besides those of its reconciliation.
COMMON: Mapping[str, str] = {
    "prison_id": "string",
    "offender_no": "string",
    "booking_id": "Int64",
    "in_nomis": "boolean",
    "in_dps": "boolean",
    "nomis_changed_at": "datetime64[us, UTC]",
    "dps_changed_at": "datetime64[us, UTC]",
}


def columns_of(reconciliation: type[Reconciliation] | Reconciliation) -> dict[str, str]:
    """The columns of the frame of a reconciliation with their dtypes: key, common ones, both sides, further ones."""
    sides = {f"{side}_{field.name}": field.dtype for field in reconciliation.fields for side in ("nomis", "dps")}
    # A key column keeps its place and its dtype, even if it is a common one.
    return {**reconciliation.key, **COMMON, **reconciliation.key, **sides, **reconciliation.extra}


def typed(
    reconciliation: type[Reconciliation] | Reconciliation,
    rows: pd.DataFrame | Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]],
) -> pd.DataFrame:
    """Rows as a frame of the reconciliation: its columns in their order and dtypes, with NA for missing columns.

    rows: a frame, columns by name, or a mapping of names and values for each row. `in_nomis` and `in_dps` are false
    where missing. Raises `ValueError` for a column that the reconciliation does not have.
    """
    columns = columns_of(reconciliation)
    if isinstance(rows, Mapping):
        rows = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in rows.items()})
    elif not isinstance(rows, pd.DataFrame):
        listed = list(rows)
        rows = pd.DataFrame({name: [row.get(name) for row in listed] for name in _named(listed)}, dtype=object)
    unknown = sorted(set(rows.columns) - columns.keys())
    if unknown:
        raise ValueError(f"{reconciliation.name} has no column {', '.join(unknown)}")
    if not len(rows):
        # Most prisons have no records of most kinds, and making a column takes as long as making a hundred values.
        return _empty(tuple(columns.items())).copy()
    return _of_types(rows, columns)


@cache
def _empty(columns: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    return _of_types(pd.DataFrame(), dict(columns))


def _of_types(rows: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {name: _column(rows, name, dtype) for name, dtype in columns.items()}, index=pd.RangeIndex(len(rows))
    )
    for side in ("in_nomis", "in_dps"):
        frame[side] = frame[side].fillna(value=False)
    return frame


def join_sides(nomis: pd.DataFrame, dps: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The outer join of both sides by `key`, one row for each record, with `in_nomis` and `in_dps` (`bool`).

    The rows of NOMIS come first, in their order, then those that DPS alone has. Columns other than the key that both
    have (`prison_id`) are taken from NOMIS, or from DPS if NOMIS has no value; the columns of fields are already named
    `nomis_…` and `dps_…`. Raises `pandas.errors.MergeError` for a key that a side has twice. This is several times
    faster than `merge`, which sorts and copies: here the columns of NOMIS are shared unless DPS has further records.
    """
    found = _places(*_numbered(nomis, dps, key))
    matched = found >= 0
    alone = np.ones(len(dps), dtype=bool)
    alone[found if matched.all() else found[matched]] = False
    further = np.flatnonzero(alone)
    of_dps = np.concatenate([found, further]) if len(further) else found
    columns: dict[Any, pd.Series[Any]] = {}
    for name in nomis.columns:
        column = nomis[name].reset_index(drop=True)
        if not len(further):
            columns[name] = column
        elif name in key:
            columns[name] = pd.concat([column, dps[name].iloc[further]], ignore_index=True)
        else:
            columns[name] = column.reindex(pd.RangeIndex(len(of_dps)))
    has_gaps = not matched.all()
    for name in dps.columns.difference(list(key), sort=False):
        array: Any = dps[name].array.take(of_dps, allow_fill=has_gaps)
        column = pd.Series(array, copy=False)
        columns[name] = columns[name].combine_first(column) if name in columns else column
    joined = pd.DataFrame(columns, index=pd.RangeIndex(len(of_dps)), copy=False)
    joined["in_nomis"], joined["in_dps"] = np.arange(len(of_dps)) < len(nomis), of_dps >= 0
    return joined


def _numbered(
    nomis: pd.DataFrame, dps: pd.DataFrame, key: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A number from 0 for the key of each row of both sides; equal keys have equal numbers."""
    sides = [[side[name] for name in key] for side in (nomis, dps)]
    if len(key) == 1 and all(_is_whole(column) for (column,) in sides) and len(nomis) and len(dps):
        ours, theirs = (column.to_numpy(dtype=np.int64) for (column,) in sides)
        lowest = min(ours.min(), theirs.min())
        return ours - lowest, theirs - lowest
    numbers = np.zeros(len(nomis) + len(dps), dtype=np.int64)
    for ours_and_theirs in zip(*sides, strict=True):
        column, _ = pd.factorize(pd.concat(ours_and_theirs, ignore_index=True), use_na_sentinel=False)
        numbers = pd.factorize(numbers * (column.max(initial=0) + 1) + column)[0]
    return numbers[: len(nomis)], numbers[len(nomis) :]


def _is_whole(column: pd.Series[Any]) -> bool:
    """Whether a column holds only whole numbers, and no NA."""
    return pd.api.types.is_integer_dtype(column.dtype) and not column.hasnans


def _places(wanted: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of `wanted` is among `numbers`, or -1 if it is not. Raises `MergeError` for a repeated number."""
    most = int(max(wanted.max(initial=0), numbers.max(initial=0))) + 1
    if most > _SPARSE * (len(wanted) + len(numbers)):
        index = pd.Index(numbers)
        if not (index.is_unique and pd.Index(wanted).is_unique):
            raise pd.errors.MergeError("a side has a key twice")
        return index.get_indexer(pd.Index(wanted)).astype(np.int64)
    # Ids of records lie close together, so a table of their whole range is faster than a hash table.
    for each in (wanted, numbers):
        there = np.zeros(most, dtype=bool)
        there[each] = True
        if np.count_nonzero(there) != len(each):
            raise pd.errors.MergeError("a side has a key twice")
    place = np.full(most, -1, dtype=np.int64)
    place[numbers] = np.arange(len(numbers))
    return place[wanted]


def concatenated(reconciliation: type[Reconciliation] | Reconciliation, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One frame with the rows of all frames; a category column has the categories of all of them."""
    if not frames:
        return typed(reconciliation, [])
    joined = pd.concat(frames, ignore_index=True)
    for name, dtype in columns_of(reconciliation).items():
        if dtype == "category":
            joined[name] = union_categoricals([frame[name] for frame in frames], ignore_order=True)
    return joined


def keys_of(frame: pd.DataFrame, key: Iterable[str]) -> pd.Series[str]:
    """The texts of the keys of all rows, as `key_text` writes them, with the index of the frame."""
    columns = list(key)
    rows = zip(*(_plain(frame[column]) for column in columns), strict=True)
    return pd.Series([key_text(dict(zip(columns, row, strict=True))) for row in rows], index=frame.index, dtype=object)


def rows_of(
    frame: pd.DataFrame, reconciliation: type[Reconciliation] | Reconciliation, keys: Iterable[str]
) -> pd.DataFrame:
    """The rows of the records with these keys."""
    wanted = [{to_snake(name): value for name, value in orjson.loads(key).items()} for key in keys]
    columns = list(reconciliation.key)
    return frame.merge(typed(reconciliation, wanted)[columns].drop_duplicates(), on=columns)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as mappings of plain values, with None for NA; times are aware `datetime`s."""
    columns = {str(name): _plain(frame[name]) for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _named(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _column(rows: pd.DataFrame, name: str, dtype: Any) -> pd.Series[Any]:
    if name not in rows.columns:
        column = pd.Series([None] * len(rows), dtype=object)
    else:
        column = rows[name].reset_index(drop=True)
    if dtype.endswith("UTC]"):
        column = pd.to_datetime(column, utc=True)
    elif dtype == "category":
        column = column.astype("string")
    converted: pd.Series[Any] = column.astype(dtype)
    return converted


def _plain(column: pd.Series[Any]) -> list[Any]:
    return [_plain_value(each) for each in column]


def _plain_value(value: Any) -> Any:
    if isinstance(value, tuple | list | dict):
        return value
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.item() if hasattr(value, "item") else value
