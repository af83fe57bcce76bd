"""Joins the records of both sides by their keys: one row for each record that NOMIS or DPS has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reports.engine.compare import without_na
from sync.errors import SyncError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from reports.engine.units import SideName

#: Numbers are looked up by hash if the highest of them is more than this many times their count.
_SPARSE = 16


class RepeatedKey(SyncError):
    """A side has several records with the same key, so it is unknown which of them to compare."""

    def __init__(self, side: SideName, records: pd.DataFrame, key: Sequence[str]) -> None:
        repeated = records.loc[records.duplicated([*key]), [*key]].iloc[0]
        names = ", ".join(f"{name} {value}" for name, value in repeated.items())
        super().__init__(f"{side} has several records with {names}")


def join_sides(nomis: pd.DataFrame, dps: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The outer join of both sides by `key`: a row for each record, with the columns `in_nomis` and `in_dps` (`bool`).

    The rows of NOMIS come first, in their order, then those that only DPS has. If both sides have a column that is not
    part of the key, such as `prison_id`, its values are taken from NOMIS, or from DPS where NOMIS has none. The columns
    of fields are already named `nomis_…` and `dps_…`. Raises `RepeatedKey` if a side has a key twice. This function is
    several times faster than `merge`, which sorts and copies, because the result shares the columns of NOMIS unless DPS
    has records that NOMIS does not have.
    """
    wanted, numbers = _numbered(nomis, dps, key)
    of_dps = _places(wanted, numbers)
    if of_dps is None:
        raise RepeatedKey("DPS", dps, key)
    lacking = of_dps < 0
    is_found = np.zeros(len(dps) + 1, dtype=bool)
    is_found[of_dps] = True  # The place -1, of a row lacking in DPS, is the element after the last row.
    is_found = is_found[:-1]
    if np.count_nonzero(is_found) != np.count_nonzero(~lacking) or not pd.Index(wanted[lacking]).is_unique:
        raise RepeatedKey("NOMIS", nomis, key)
    further = np.flatnonzero(~is_found)
    if len(further):
        of_dps = np.concatenate([of_dps, further])
        lacking = of_dps < 0
        nomis = pd.concat([nomis, dps[[*key]].iloc[further]])
    nomis = nomis.reset_index(drop=True)
    columns: dict[Any, Any] = dict(nomis.items())
    for name in [name for name in dps if name not in key]:
        column = _taken(dps[name].array, of_dps, lacking)
        columns[name] = columns[name].combine_first(pd.Series(column)) if name in columns else column
    columns["in_nomis"] = np.arange(len(nomis)) < len(wanted)
    columns["in_dps"] = ~lacking
    return pd.DataFrame(columns, index=nomis.index, copy=False)


def _numbered(
    nomis: pd.DataFrame, dps: pd.DataFrame, key: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A number for the key of each row of both sides; equal keys have equal numbers."""
    if len(key) == 1:
        nomis_keys, dps_keys = (without_na(side[key[0]].array) for side in (nomis, dps))
        if nomis_keys is not None and dps_keys is not None:
            return nomis_keys.astype(np.int64, copy=False), dps_keys.astype(np.int64, copy=False)
    numbers = np.zeros(len(nomis) + len(dps), dtype=np.int64)
    for name in key:
        column, _ = pd.factorize(pd.concat([nomis[name], dps[name]], ignore_index=True), use_na_sentinel=False)
        numbers = pd.factorize(numbers * (column.max(initial=0) + 1) + column)[0]
    return numbers[: len(nomis)], numbers[len(nomis) :]


def _places(wanted: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.intp] | None:
    """The place in `numbers` of each number in `wanted`, or -1 if lacking; None if `numbers` has a number twice."""
    highest = max(wanted.max(initial=0), numbers.max(initial=0))
    if min(wanted.min(initial=0), numbers.min(initial=0)) < 0 or highest > _SPARSE * (len(wanted) + len(numbers)):
        index = pd.Index(numbers)
        return index.get_indexer(pd.Index(wanted)) if index.is_unique else None
    # Ids usually lie close together, so a table with an element for each possible id is faster than a hash table. The
    # elements are half as wide as an index, because a smaller table is faster too.
    table = np.full(highest + 1, -1, dtype=np.int32)
    table[numbers] = np.arange(len(numbers), dtype=np.int32)
    if np.count_nonzero(table >= 0) != len(numbers):
        return None
    return table.take(wanted).astype(np.intp)


def _taken(array: Any, places: NDArray[np.intp], lacking: NDArray[np.bool_]) -> Any:
    """The values of the column `array` at `places`, with NA for the `lacking` rows, which have the place -1."""
    values = without_na(array)
    if values is not None and len(values) and isinstance(array, pd.arrays.IntegerArray | pd.arrays.BooleanArray):
        # The mask of these arrays need not be reordered, as only the lacking rows are NA.
        return type(array)(values.take(places, mode="clip"), lacking.copy())
    return array.take(places, allow_fill=bool(lacking.any()))
