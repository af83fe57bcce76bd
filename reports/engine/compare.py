"""Finds which rows of a frame differ, and in which fields, by comparing whole columns."""

from __future__ import annotations

from functools import cache
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from reports.engine.fields import Field


def differing(
    frame: pd.DataFrame,
    fields: Sequence[Field],
    kinds: tuple[str, str, str],
    same: Mapping[str, pd.Series[Any]] | None = None,
) -> pd.DataFrame:
    """The rows with a record on one side only, or with a compared field that differs between the sides.

    frame: in the form that `reports.engine.units.Reading` describes. kinds: the kind for a record that only NOMIS has,
    the kind for one that only DPS has, and the kind for one that differs. same: by field name, a column that says for
    each row whether unequal values of the field count as the same. NA counts as false, and so does any value in a row
    with a record on one side only. Two NA values are always the same. The rows keep the order and the index of the
    frame, and have the additional columns `kind` (`string`) and `differs` (tuples of the names of the fields that
    differ).
    """
    compared = [field for field in fields if field.compared]
    in_nomis, in_dps = (frame[side].to_numpy(dtype=bool) for side in ("in_nomis", "in_dps"))
    unequal = [_unequal(frame[f"nomis_{field.name}"], frame[f"dps_{field.name}"]) for field in compared]
    for field, column in zip(compared, unequal, strict=True):
        if same and field.name in same:
            column &= ~(in_nomis & in_dps & is_true(same[field.name]).to_numpy())
    differs = in_nomis != in_dps
    for column in unequal:
        differs |= column
    places = np.flatnonzero(differs)
    rows = frame.iloc[places]
    nomis, dps = in_nomis[places], in_dps[places]
    rows["kind"] = pd.array(kinds, dtype="string").take(np.select([nomis & ~dps, dps & ~nomis], [0, 1], 2))
    rows["differs"] = _names([column[places] for column in unequal], [field.name for field in compared], len(places))
    return rows


def with_kinds(rows: pd.DataFrame, choices: Sequence[tuple[str, pd.Series[Any]]]) -> pd.DataFrame:
    """The rows to which a choice applies, with the kind of the first such choice in the column `kind` (`string`).

    choices: kinds, each with a column that says which rows the choice applies to; NA counts as false. Rows of the kind
    "" are left out too.
    """
    conditions = [is_true(condition).to_numpy() for _, condition in choices]
    kinds = np.select(conditions, [kind for kind, _ in choices], "")
    found: pd.DataFrame = rows.assign(kind=pd.array(kinds, dtype="string")).loc[kinds != ""]
    return found


def is_true(column: pd.Series[Any]) -> pd.Series[bool]:
    """A column of truth values, converted to the dtype `bool`; NA becomes false."""
    return column.astype("boolean").fillna(value=False).astype(bool)


def without_na(array: Any) -> NDArray[Any] | None:
    """The values of a pandas array of whole numbers or truth values as a numpy array; None if any of them is NA.

    Also None for an array of any other dtype. Nothing is copied.
    """
    if array.dtype.kind not in "iub":
        return None
    values: NDArray[Any] = array.to_numpy()
    # If a value is NA, pandas turns whole numbers into floats, and truth values into objects.
    return values if values.dtype.kind == array.dtype.kind else None


def _unequal(nomis: pd.Series[Any], dps: pd.Series[Any]) -> NDArray[np.bool_]:
    """A mask of the rows where two columns of the same dtype differ, or where only one of them has a value."""
    if isinstance(nomis.dtype, pd.CategoricalDtype):
        categories = nomis.cat.categories.union(dps.cat.categories)
        nomis_codes, dps_codes = (side.cat.set_categories(categories).cat.codes for side in (nomis, dps))
        return (nomis_codes != dps_codes).to_numpy()
    nomis_values, dps_values = without_na(nomis.array), without_na(dps.array)
    if nomis_values is not None and dps_values is not None:
        whole: NDArray[np.bool_] = nomis_values != dps_values
        return whole
    nomis_na, dps_na = nomis.isna().to_numpy(), dps.isna().to_numpy()
    unequal = (nomis != dps).to_numpy(dtype=bool, na_value=False)
    found: NDArray[np.bool_] = (unequal & ~nomis_na & ~dps_na) | (nomis_na != dps_na)
    return found


def _names(unequal: Sequence[NDArray[np.bool_]], names: Sequence[str], rows: int) -> list[tuple[str, ...]]:
    """For each row, the names of its unequal fields; rows with the same names share a tuple."""
    if not unequal:
        return [()] * rows
    named = cache(lambda pattern: tuple(compress(names, pattern)))
    return [named(pattern) for pattern in zip(*(column.tolist() for column in unequal), strict=True)]
