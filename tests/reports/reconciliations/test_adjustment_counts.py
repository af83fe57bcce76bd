"""Counting and comparing adjustments in whole columns gives the same results as doing so record by record."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.engine.frame import records
from reports.reconciliations.adjustments.counting import (
    FIELDS,
    NAMES,
    CountedAdjustment,
    count,
    differences_text,
    differing_bookings,
)

BOOKINGS = range(1_204_417, 1_204_429)
ADJUSTMENTS = st.builds(
    CountedAdjustment,
    id=st.just("SENTENCE 1"),
    counter=st.sampled_from(NAMES),
    days=st.one_of(st.none(), st.integers(1, 400)),
)
SIDE = st.dictionaries(st.sampled_from(BOOKINGS), st.lists(ADJUSTMENTS, max_size=5))
Side = dict[int, list[CountedAdjustment]]
#: Few examples with many rows, because comparing a frame of many rows takes as long as comparing one of few rows.
FEW = settings(deadline=None, max_examples=20)


def plain_days(found: list[CountedAdjustment], counter: str) -> int | None:
    """The sum of the days of the adjustments of type `counter`, or None if the days of any of them are unknown."""
    days = [each.days for each in found if each.counter == counter]
    return None if None in days else sum(each for each in days if each is not None)


def plain(found: list[CountedAdjustment]) -> dict[str, int | None]:
    """For each type, the number of adjustments and the sum of their days, calculated in plain Python."""
    counts = Counter(each.counter for each in found)
    return {
        **{name: counts[name] for name in NAMES},
        **{f"{name}Days": plain_days(found, name) for name in NAMES},
    }


@FEW
@given(SIDE, SIDE)
def test_the_counts_equal_those_of_a_plain_count(nomis: Side, dps: Side) -> None:
    """The frame has a row for every booking, even one without adjustments, with the figures that plain code finds."""
    frame = count({"nomis": nomis, "dps": dps}, list(BOOKINGS))
    assert list(frame["booking_id"]) == list(BOOKINGS)
    for row in records(frame):
        for side, name in ((nomis, "nomis"), (dps, "dps")):
            figures = {field.name: row[f"{name}_{field.name}"] for field in FIELDS}
            assert figures == plain(side.get(row["booking_id"], []))


def plain_difference(
    nomis: list[CountedAdjustment], dps: list[CountedAdjustment]
) -> tuple[str, tuple[str, ...]] | None:
    """The kind of a booking's difference and the fields that differ, or None if the booking does not differ."""
    of_nomis, of_dps = plain(nomis), plain(dps)
    counts = [name for name in NAMES if of_nomis[name] != of_dps[name]]
    days = [
        f"{name}Days"
        for name in NAMES
        if name not in counts
        and of_nomis[f"{name}Days"] is not None
        and of_dps[f"{name}Days"] is not None
        and of_nomis[f"{name}Days"] != of_dps[f"{name}Days"]
    ]
    if not counts and not days:
        return None
    return ("different-counts" if counts else "different-days"), (*counts, *days)


@FEW
@given(SIDE, SIDE)
def test_the_differences_equal_those_of_a_plain_comparison(nomis: Side, dps: Side) -> None:
    """The comparison finds the same differing bookings, kinds and fields as plain code, and changes no figure."""
    frame = count({"nomis": nomis, "dps": dps}, list(BOOKINGS)).assign(in_nomis=True, in_dps=True)
    frame = frame.astype({f"{side}_{field.name}": field.dtype for side in ("nomis", "dps") for field in FIELDS})
    before = frame.copy(deep=True)
    found = differing_bookings(frame)
    expected: dict[int, Any] = {
        each: difference
        for each in BOOKINGS
        if (difference := plain_difference(nomis.get(each, []), dps.get(each, []))) is not None
    }
    assert {row["booking_id"]: (row["kind"], row["differs"]) for row in records(found)} == expected
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(found[frame.columns], before.loc[found.index])


def test_the_text_of_a_difference_is_dps_minus_nomis() -> None:
    """For each field that differs, in the order of `FIELDS`, the text has the DPS figure minus the NOMIS figure."""
    values = {"taggedBail": (1, 0), "remand": (1, 2), "specialRemission": (1, 1)}
    assert differences_text(values) == "remand 1, taggedBail -1"
    assert differences_text({"remandDays": (20, 15)}) == "remandDays -5"
