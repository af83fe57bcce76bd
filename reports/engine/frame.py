"""The frame of a run: one typed row for each record, with the columns of both sides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd
from pandas.api.extensions import ExtensionArray
from pandas.api.types import pandas_dtype, union_categoricals
from pydantic.alias_generators import to_snake

from reports.engine.units import key_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.engine.reconciliation import Reconciliation

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
    """The columns of a reconciliation's frame, with their dtypes.

    The key columns come first, then the columns in `COMMON`, those of the fields of both sides, and those in `extra`.
    """
    sides = {f"{side}_{field.name}": field.dtype for field in reconciliation.fields for side in ("nomis", "dps")}
    # A key column keeps its place and its dtype, even if it is also a common column.
    return {**reconciliation.key, **COMMON, **reconciliation.key, **sides, **reconciliation.extra}


def typed(
    reconciliation: type[Reconciliation] | Reconciliation,
    rows: pd.DataFrame | Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]],
) -> pd.DataFrame:
    """`rows` as a frame with all columns of the reconciliation, in their order and with their dtypes.

    rows: a frame, the columns by name, or for each row a mapping of column names to values. Missing columns and values
    become NA, except that `in_nomis` and `in_dps` become false. Raises `ValueError` for a column that the
    reconciliation does not have.
    """
    columns = columns_of(reconciliation)
    given = _by_column(rows)
    unknown = sorted(set(given) - columns.keys())
    if unknown:
        raise ValueError(f"{reconciliation.name} has no column {', '.join(unknown)}")
    length = max(map(len, given.values()), default=0)
    if not length:
        # Most prisons have no records of most kinds.
        return _empty(tuple(columns.items())).copy()
    return _of_types(given, columns, length)


@cache
def _empty(columns: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    return _of_types({}, dict(columns), 0)


def _of_types(given: Mapping[str, pd.Series[Any]], columns: Mapping[str, str], length: int) -> pd.DataFrame:
    frame = {name: _column(given.get(name), dtype, length) for name, dtype in columns.items()}
    for side in ("in_nomis", "in_dps"):
        frame[side][frame[side].isna()] = False
    return pd.DataFrame(frame, index=pd.RangeIndex(length), copy=False)


def concatenated(reconciliation: type[Reconciliation] | Reconciliation, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One frame with the rows of all `frames`; a category column has the categories of all `frames`."""
    if not frames:
        return typed(reconciliation, [])
    if len(frames) == 1:
        return frames[0].reset_index(drop=True)
    joined = pd.concat(frames, ignore_index=True)
    for name, dtype in columns_of(reconciliation).items():
        if dtype == "category":
            joined[name] = union_categoricals([frame[name] for frame in frames], ignore_order=True)
    return joined


def keys_of(frame: pd.DataFrame, key: Iterable[str]) -> pd.Series[str]:
    """The key of each row, as the text that `key_text` writes, in a series with the index of the frame.

    key: the names of the key columns.
    """
    columns = list(key)
    rows = zip(*(_plain(frame[column]) for column in columns), strict=True)
    return pd.Series([key_text(dict(zip(columns, row, strict=True))) for row in rows], index=frame.index, dtype=object)


def rows_of(
    frame: pd.DataFrame, reconciliation: type[Reconciliation] | Reconciliation, keys: Iterable[str]
) -> pd.DataFrame:
    """The rows of `frame` whose keys, as written by `key_text`, are among `keys`."""
    wanted = [{to_snake(name): value for name, value in orjson.loads(key).items()} for key in keys]
    columns = list(reconciliation.key)
    return frame.merge(typed(reconciliation, wanted)[columns].drop_duplicates(), on=columns)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as mappings of column names to plain values: None for NA, and `datetime` for times."""
    columns = {str(name): _plain(frame[name]) for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _named(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _by_column(
    rows: pd.DataFrame | Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]],
) -> Mapping[str, pd.Series[Any]]:
    if isinstance(rows, pd.DataFrame):
        return {str(name): column for name, column in rows.items()}
    if not isinstance(rows, Mapping):
        listed = list(rows)
        rows = {name: [row.get(name) for row in listed] for name in _named(listed)}
    return {name: pd.Series(values, dtype=object) for name, values in rows.items()}


def _column(given: pd.Series[Any] | None, dtype: str, length: int) -> ExtensionArray:
    """The values of a column as an array of the dtype `dtype`, or NA in every row if there is no column.

    No other frame shares the array.

    Converting a column has a fixed cost, about as high as the cost of converting a hundred values. So a column is not
    converted if it already has the dtype, unless that is `category`, or if all its values are None.
    """
    if given is None or (given.dtype == object and all(value is None for value in given.array)):
        return _missing(dtype).take(np.zeros(length, dtype=np.intp))
    # A category column must not keep categories that none of its rows has, so it is always made again.
    if given.dtype == pandas_dtype(dtype) and dtype != "category":
        copied: ExtensionArray = given.array.copy()
        return copied
    return _converted(given, dtype)


@cache
def _missing(dtype: str) -> ExtensionArray:
    """An array of the dtype `dtype` with one missing value."""
    return _converted(pd.Series([None], dtype=object), dtype)


def _converted(column: pd.Series[Any], dtype: Any) -> ExtensionArray:
    if dtype.endswith("UTC]"):
        column = pd.to_datetime(column, utc=True)
    elif dtype == "category":
        column = column.astype("string")
    converted: ExtensionArray = column.astype(dtype).array
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
