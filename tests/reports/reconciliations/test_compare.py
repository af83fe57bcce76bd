"""The comparison against a plain comparison of dictionaries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from reports.reconciliations.incentives.compare import compare, level_column

LEVELS = st.sampled_from([None, "BAS", "STD", "ENH", "EN2"])
NEAR_IDS = st.integers(600_000, 600_040)
FAR_IDS = st.sampled_from([1, 2, 3, 10**9, 10**12, 10**15])


def frame(levels: Mapping[int, str | None], *, categorical: bool) -> pd.DataFrame:
    """A side as a frame."""
    found = list(levels.values())
    known = sorted({level for level in found if level is not None}, reverse=True)
    column: object = pd.Series(found, dtype="object")
    if categorical:
        column = level_column([known.index(level) if level else -1 for level in found], known)
    return pd.DataFrame({"booking_id": np.array(list(levels), dtype=np.int64), "level": column, "further": 1})


@settings(deadline=None)
@given(
    st.one_of(
        st.tuples(st.dictionaries(NEAR_IDS, LEVELS), st.dictionaries(NEAR_IDS, LEVELS)),
        st.tuples(st.dictionaries(FAR_IDS, LEVELS), st.dictionaries(FAR_IDS, LEVELS)),
    ),
    st.booleans(),
    st.booleans(),
)
def test_finds_what_a_plain_comparison_finds(
    sides: tuple[dict[int, str | None], dict[int, str | None]], first: bool, second: bool
) -> None:
    """Whatever the ids and the kind of column: the same differences, and nothing is changed."""
    nomis, dps = sides
    ours, theirs = frame(nomis, categorical=first), frame(dps, categorical=second)
    before = ours.copy(deep=True), theirs.copy(deep=True)
    found = compare(ours, theirs)
    everyone = sorted({*nomis, *dps})
    expected = [(each, nomis.get(each), dps.get(each)) for each in everyone if nomis.get(each) != dps.get(each)]
    rows = found.astype(object).where(found.notna(), None)
    assert [tuple(row) for row in rows.itertuples(index=False)] == expected
    assert_frame_equal(ours, before[0])
    assert_frame_equal(theirs, before[1])


def test_documents_its_columns() -> None:
    """Columns and dtypes are those the docstring promises, also when nothing differs."""
    sides: list[dict[int, str | None]] = [{1: "STD"}, {}]
    for levels in sides:
        side = frame(levels, categorical=True)
        differences = compare(side, side)
        assert list(differences.columns) == ["booking_id", "nomis_level", "dps_level"]
        assert differences["booking_id"].dtype == np.int64
        assert isinstance(differences["nomis_level"].dtype, pd.CategoricalDtype)


@pytest.mark.parametrize("ids", [[5, 5], [5, 10**15, 5]])
def test_refuses_a_booking_that_comes_twice(ids: list[int]) -> None:
    """A booking that comes twice would be counted twice or lost: it is an error, near ids or far."""
    twice = pd.DataFrame({"booking_id": ids, "level": ["STD"] * len(ids)})
    once = pd.DataFrame({"booking_id": [5], "level": ["STD"]})
    for sides in ((twice, once), (once, twice)):
        with pytest.raises(ValueError, match="twice"):
            compare(*sides)
