"""The fields of a record that are compared or shown, and where to find their values in the record of each side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from sync.clock import LONDON

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

#: Where a record has a value: the name of an attribute, or a function that takes the record and returns the value.
ValueSource = str | Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A field to compare or to show, with its values in the columns `nomis_<name>` and `dps_<name>` of the frame.

    label: its name in reports. dtype: the pandas dtype of both columns, one that supports NA (`Int64`, `string`,
    `category`, `datetime64[s]`). compared: false for a field that is not compared, but shown if the record differs.
    nomis, dps: where `side_frame` finds the value in the record of that side; None if that side does not have the
    value, or if the reconciliation does not make its frame with `side_frame`.
    """

    name: str
    label: str
    dtype: str
    compared: bool = True
    nomis: ValueSource | None = None
    dps: ValueSource | None = None


def side_frame(
    side: Literal["nomis", "dps"],
    fields: Iterable[Field],
    records: Mapping[Any, Any],
    key: tuple[str, str],
    changed_at: Callable[[Any], datetime | None],
    further: Mapping[str, tuple[str, ValueSource]] | None = None,
) -> pd.DataFrame:
    """The frame of one side, to be joined with the other side: a row for each record, in the order of `records`.

    records: the records by id; ids with None instead of a record are left out. key: the name and the dtype of the
    column for the ids. changed_at: returns when a record was last changed, in London time, or None if unknown.
    further: columns in addition to those of the fields: by name, the dtype and the source of the values.

    The frame has the column of the ids; `in_<side>` (`boolean`, true); `<side>_<name>` for each field that the side
    has, with the dtype of the field; the further columns; and `<side>_changed_at` (`datetime64[s, UTC]`). It has all
    these columns even if there are no records.
    """
    records = {number: record for number, record in records.items() if record is not None}
    columns = {f"{side}_{each.name}": (each.dtype, value) for each in fields if (value := getattr(each, side))}
    columns |= further or {}
    frame = {
        key[0]: pd.Series([*records], dtype=key[1]),
        f"in_{side}": pd.Series([True] * len(records), dtype="boolean"),
    }
    for name, (dtype, value) in columns.items():
        read = attrgetter(value) if isinstance(value, str) else value
        frame[name] = pd.Series([read(each) for each in records.values()], dtype=dtype)
    moments = pd.Series([changed_at(each) for each in records.values()], dtype=object)
    frame[f"{side}_changed_at"] = london_to_utc(pd.Series(pd.to_datetime(moments)).astype("datetime64[s]"))
    return pd.DataFrame(frame, index=pd.RangeIndex(len(records)))


def london_to_utc(times: pd.Series[Any]) -> pd.Series[Any]:
    """Times in London time (`datetime64[s]`) as `datetime64[s, UTC]`, NaT where unknown.

    A time in the hour that occurs twice in autumn counts as a time in the second occurrence of that hour. A change may
    therefore seem more recent than it is, but never older.
    """
    later = np.zeros(len(times), dtype=bool)
    local = times.dt.tz_localize(LONDON, ambiguous=later, nonexistent="shift_forward")
    converted: pd.Series[Any] = local.dt.tz_convert("UTC")
    return converted
