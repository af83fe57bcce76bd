"""Which bookings have another incentive level in NOMIS than in DPS.

No level on one side is a difference, on both sides it is not; codes are compared as they are. Whole columns are
compared: levels are small integers (the codes of a categorical column), and where booking ids lie close together the
join is two look-up tables of one byte for each possible id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    #: The level of each place: `_ABSENT`, `_NONE`, or the index of the level plus two.
    Codes = NDArray[np.int16] | NDArray[np.int8]

#: The tables are used while the ids span at most this many times the rows (plus a million).
SPARSEST_TABLE = 16
_SMALL_SPAN = 1_000_000
#: Rows converted at a time: few enough to stay in the cache of the processor.
_AT_ONCE = 1 << 16
_ABSENT = 0
_NONE = 1
_FIRST_LEVEL = 2
_MOST_SMALL_LEVELS = 120


def compare(nomis: pd.DataFrame, dps: pd.DataFrame) -> pd.DataFrame:
    """Compares two frames by their columns `booking_id` (integer, unique) and `level` (category or text).

    A booking that one frame lacks counts as one without a level there. Returns what differs, by booking id ascending:
    `booking_id` (int64), `nomis_level` and `dps_level` (category of level codes; missing for no level). Further columns
    are ignored, and neither frame is changed. Fastest with a categorical `level`. Raises `ValueError` for a booking
    that occurs twice.
    """
    levels, nomis_codes, dps_codes = _encoded(nomis["level"], dps["level"])
    nomis_ids = np.asarray(nomis["booking_id"], dtype=np.int64)
    dps_ids = np.asarray(dps["booking_id"], dtype=np.int64)
    if not len(nomis_ids) and not len(dps_ids):
        return _result(levels, nomis_ids, nomis_codes, dps_codes)
    lowest, highest = _span(nomis_ids, dps_ids)
    if highest - lowest < SPARSEST_TABLE * (len(nomis_ids) + len(dps_ids)) + _SMALL_SPAN:
        ours = _table(nomis_ids, nomis_codes, lowest, highest, "NOMIS")
        theirs = _table(dps_ids, dps_codes, lowest, highest, "DPS")
        places = _differing(ours, theirs)
        return _result(levels, places + lowest, ours[places], theirs[places])
    ids, ours, theirs = _joined(nomis_ids, nomis_codes, dps_ids, dps_codes)
    places = _differing(ours, theirs)
    order = places[np.argsort(ids[places], kind="stable")]
    return _result(levels, ids[order], ours[order], theirs[order])


def level_column(codes: Any, levels: list[str]) -> pd.Categorical:
    """Indexes into `levels` (-1 for none) as a categorical column. Copies nothing."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(levels, dtype="object"))


def _encoded(nomis: pd.Series[Any], dps: pd.Series[Any]) -> tuple[list[str], Codes, Codes]:
    """The levels of both columns, sorted, and each column as `Codes`."""
    columns = [each.array if isinstance(each.array, pd.Categorical) else _category(each) for each in (nomis, dps)]
    levels = sorted({str(code) for column in columns for code in column.categories})
    numbers = {code: place for place, code in enumerate(levels)}
    dtype = np.int8 if len(levels) < _MOST_SMALL_LEVELS else np.int16
    encoded = []
    for column in columns:
        # Index -1, the code of a missing value, is the last element.
        translation = np.array([*(numbers[str(code)] + _FIRST_LEVEL for code in column.categories), _NONE], dtype=dtype)
        encoded.append(translation[column.codes])
    return levels, encoded[0], encoded[1]


def _category(column: pd.Series[Any]) -> pd.Categorical:
    codes, uniques = pd.factorize(column, use_na_sentinel=True)
    return level_column(codes, [str(code) for code in uniques])


def _span(nomis_ids: NDArray[np.int64], dps_ids: NDArray[np.int64]) -> tuple[int, int]:
    filled = [ids for ids in (nomis_ids, dps_ids) if len(ids)]
    return min(int(ids.min()) for ids in filled), max(int(ids.max()) for ids in filled)


def _table(ids: NDArray[np.int64], codes: Codes, lowest: int, highest: int, side: str) -> Codes:
    table = np.zeros(highest - lowest + 1, dtype=codes.dtype)
    for start in range(0, len(ids), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        table[ids[part] - lowest] = codes[part]
    if np.count_nonzero(table) != len(ids):
        raise ValueError(f"{side} lists a booking twice")
    return table


def _joined(
    nomis_ids: NDArray[np.int64], nomis_codes: Codes, dps_ids: NDArray[np.int64], dps_codes: Codes
) -> tuple[NDArray[np.int64], Codes, Codes]:
    """The outer join of ids that lie far apart, in no order."""
    nomis_ids, nomis_codes = _sorted(nomis_ids, nomis_codes, "NOMIS")
    dps_ids, dps_codes = _sorted(dps_ids, dps_codes, "DPS")
    places = np.searchsorted(dps_ids, nomis_ids)
    both = places < len(dps_ids)
    both[both] = dps_ids[places[both]] == nomis_ids[both]
    theirs = np.zeros(len(nomis_ids), dtype=dps_codes.dtype)
    theirs[both] = dps_codes[places[both]]
    alone = np.ones(len(dps_ids), dtype=bool)
    alone[places[both]] = False
    absent = np.zeros(int(alone.sum()), dtype=nomis_codes.dtype)
    ids = np.concatenate([nomis_ids, dps_ids[alone]])
    return ids, np.concatenate([nomis_codes, absent]), np.concatenate([theirs, dps_codes[alone]])


def _sorted(ids: NDArray[np.int64], codes: Codes, side: str) -> tuple[NDArray[np.int64], Codes]:
    if not bool((ids[1:] > ids[:-1]).all()):
        order = np.argsort(ids)
        ids, codes = ids[order], codes[order]
        if bool((ids[1:] == ids[:-1]).any()):
            raise ValueError(f"{side} lists a booking twice")
    return ids, codes


def _differing(ours: Codes, theirs: Codes) -> NDArray[np.int64]:
    places = np.flatnonzero(ours != theirs)
    return places[(ours[places] > _NONE) | (theirs[places] > _NONE)]


def _result(levels: list[str], ids: NDArray[np.int64], ours: Codes, theirs: Codes) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "booking_id": ids.astype(np.int64, copy=False),
            "nomis_level": level_column(_numbers(ours), levels),
            "dps_level": level_column(_numbers(theirs), levels),
        }
    )


def _numbers(codes: Codes) -> Codes:
    return np.maximum(codes - _FIRST_LEVEL, -1)
