"""Joins the records of both sides by their keys: one row for each record that NOMIS or DPS has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Numbers are looked up by hash if their range is more than this many times their count.
_SPARSE = 8


def join_sides(nomis: pd.DataFrame, dps: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The outer join of both sides by `key`, one row for each record, with `in_nomis` and `in_dps` (`bool`).

    The rows of NOMIS come first, in their order, then those that only DPS has. Columns other than the key that both
    sides have (`prison_id`) are taken from NOMIS, or from DPS if NOMIS has no value; the columns of fields are already
    named `nomis_…` and `dps_…`. Raises `pandas.errors.MergeError` for a key that a side has twice. This is several
    times faster than `merge`, which sorts and copies: here the columns of NOMIS are shared unless DPS has further
    records.
    """
    of_dps = _places(*_numbered(nomis, dps, key))
    further = _without(of_dps, len(dps))
    if len(further):
        of_dps = np.concatenate([of_dps, further])
        nomis = pd.concat([nomis, dps[[*key]].iloc[further]])
    columns = dict(nomis.reset_index(drop=True).items())
    lacking = of_dps < 0
    for name in dps.columns.drop([*key]):
        column = _taken(dps[name], of_dps, lacking)
        columns[name] = columns[name].combine_first(column) if name in columns else column
    columns["in_nomis"] = pd.Series(np.arange(len(of_dps)) < len(of_dps) - len(further))
    columns["in_dps"] = pd.Series(~lacking)
    return pd.DataFrame(columns, copy=False)


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
    """The place of each of `wanted` in `numbers`, or -1 if it has none. Raises `MergeError` for a repeated number."""
    most = int(max(wanted.max(initial=0), numbers.max(initial=0))) + 1
    if most > _SPARSE * (len(wanted) + len(numbers)):
        index = pd.Index(numbers)
        if not (index.is_unique and pd.Index(wanted).is_unique):
            raise pd.errors.MergeError("a side has a key twice")
        return index.get_indexer(pd.Index(wanted)).astype(np.int64)
    # Ids of records lie close together, so a table of their whole range is faster than a hash table.
    place = np.full(most, -1, dtype=np.int64)
    place[numbers] = np.arange(len(numbers))
    is_wanted = np.zeros(most, dtype=bool)
    is_wanted[wanted] = True
    if np.count_nonzero(place >= 0) != len(numbers) or np.count_nonzero(is_wanted) != len(wanted):
        raise pd.errors.MergeError("a side has a key twice")
    return place[wanted]


def _without(places: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """The numbers below `rows` that are not among `places`. A place of -1 stands for no row; no row occurs twice."""
    named = places[places >= 0]
    if len(named) == rows:
        return np.empty(0, dtype=np.int64)
    unnamed = np.ones(rows, dtype=bool)
    unnamed[named] = False
    return np.flatnonzero(unnamed)


def _taken(column: pd.Series[Any], places: NDArray[np.int64], lacking: NDArray[np.bool_]) -> pd.Series[Any]:
    """The values of a column at these places, with NA for the `lacking` rows, which have the place -1."""
    array: Any = column.array
    if isinstance(array, pd.arrays.IntegerArray | pd.arrays.BooleanArray) and len(array) and not array.isna().any():
        # The mask of these arrays need not be reordered, as only the lacking rows are NA.
        return pd.Series(type(array)(array.to_numpy().take(places, mode="clip"), lacking.copy()), copy=False)
    return pd.Series(array.take(places, allow_fill=bool(lacking.any())), copy=False)
