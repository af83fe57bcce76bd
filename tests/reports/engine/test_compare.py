"""Joining the sides and finding the rows that differ give the same results as plain code that uses dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from reports.engine.compare import differing, with_kinds
from reports.engine.fields import Field
from reports.engine.frame import columns_of, concatenated, keys_of, records, rows_of, typed
from reports.engine.join import RepeatedKey, join_sides
from tests.harness.sample_reconciliation import SampleReconciliation

KINDS = ("nomis-only", "dps-only", "different")
#: The values of a record: two that are compared, one of which is a category, and one that is only shown.
RECORD = st.fixed_dictionaries(
    {
        "count": st.one_of(st.none(), st.integers(0, 3)),
        "level": st.sampled_from([None, "BAS", "STD", "ENH"]),
        "note": st.sampled_from([None, "x", "y"]),
    }
)
KEYS = st.tuples(st.sampled_from(["MDI", "LEI"]), st.integers(1, 12))
Side = dict[tuple[str, int], dict[str, Any]]
SIDE: st.SearchStrategy[Side] = st.dictionaries(KEYS, RECORD, max_size=3) | st.dictionaries(KEYS, RECORD, min_size=12)
#: Few examples are enough, since a frame of many rows takes hardly longer to compare than one of few rows.
FEW = settings(deadline=None, max_examples=25)


class Compared(SampleReconciliation):
    """A reconciliation with two compared fields and one field that is only shown."""

    fields = (
        Field("count", "Count", "Int64"),
        Field("level", "Level", "category"),
        Field("note", "Note", "string", compared=False),
    )


def side_frame(side: Side, name: str) -> pd.DataFrame:
    """The records of one side as a frame: the key columns, and a column for each field.

    The names of the columns of fields begin with `name`, the name of the side.
    """
    rows = [
        {"prison_id": prison, "booking_id": booking, **{f"{name}_{field}": value for field, value in record.items()}}
        for (prison, booking), record in side.items()
    ]
    return typed(Compared, rows)[["prison_id", "booking_id", *(f"{name}_{field.name}" for field in Compared.fields)]]


def frame_of(nomis: Side, dps: Side) -> pd.DataFrame:
    """The records of both sides as one frame, joined by their keys."""
    return typed(Compared, join_sides(side_frame(nomis, "nomis"), side_frame(dps, "dps"), list(Compared.key)))


def naively(nomis: Side, dps: Side) -> dict[tuple[str, int], tuple[str, tuple[str, ...]]]:
    """Compares both sides record by record; returns the kind of each difference and the fields that differ, by key."""
    found = {}
    nothing: Mapping[str, Any] = dict.fromkeys(("count", "level", "note"))
    for key in {*nomis, *dps}:
        ours, theirs = nomis.get(key, nothing), dps.get(key, nothing)
        names = tuple(name for name in ("count", "level") if ours[name] != theirs[name])
        kind = KINDS[0] if key not in dps else KINDS[1] if key not in nomis else KINDS[2]
        if names or kind != KINDS[2]:
            found[key] = (kind, names)
    return found


@FEW
@given(SIDE, SIDE)
def test_the_comparison_finds_what_a_plain_one_finds(nomis: Side, dps: Side) -> None:
    """For any two sides, comparing a frame finds the same differences as comparing the sides record by record.

    The frame is not changed.
    """
    frame = frame_of(nomis, dps)
    before = frame.copy(deep=True)
    rows = records(differing(frame, Compared.fields, KINDS))
    assert {(row["prison_id"], row["booking_id"]): (row["kind"], row["differs"]) for row in rows} == naively(nomis, dps)
    assert_frame_equal(frame, before)


@FEW
@given(SIDE, SIDE)
def test_equivalent_values_differ_only_if_a_side_lacks_the_record(nomis: Side, dps: Side) -> None:
    """If both sides have a record, unequal values that the caller declares equivalent do not count as different."""
    frame = frame_of(nomis, dps)
    same = {"count": frame["nomis_count"].isna() | frame["dps_count"].isna()}
    rows = records(differing(frame, Compared.fields, KINDS, same))
    expected = {}
    for key, (kind, names) in naively(nomis, dps).items():
        ignored = key in nomis and key in dps and None in (nomis[key]["count"], dps[key]["count"])
        left = tuple(name for name in names if not (ignored and name == "count"))
        if left or kind != KINDS[2]:
            expected[key] = (kind, left)
    assert {(row["prison_id"], row["booking_id"]): (row["kind"], row["differs"]) for row in rows} == expected


def test_a_row_has_the_first_kind_that_holds() -> None:
    """A row gets the first kind whose condition is true for it; a condition that is NA counts as false.

    A row that gets no kind, or the empty kind, is left out.
    """
    rows = pd.DataFrame({"id": [1, 2, 3, 4]})
    first = pd.Series([True, pd.NA, False, False], dtype="boolean")
    found = with_kinds(rows, [("", pd.Series([False, False, False, True])), ("a", first), ("b", rows["id"] < 3)])
    assert records(found) == [{"id": 1, "kind": "a"}, {"id": 2, "kind": "b"}]


@FEW
@given(SIDE, SIDE)
def test_joins_every_record_once_with_its_side(nomis: Side, dps: Side) -> None:
    """Each key that either side has becomes one row, with the values of the sides that have the key.

    The row says which sides these are. The values of a side without the key are missing.
    """
    rows = {(row["prison_id"], row["booking_id"]): row for row in records(frame_of(nomis, dps))}
    assert rows.keys() == {*nomis, *dps}
    for key, row in rows.items():
        for name, side in (("nomis", nomis), ("dps", dps)):
            assert row[f"in_{name}"] == (key in side)
            assert {field: row[f"{name}_{field}"] for field in ("count", "level", "note")} == side.get(
                key, dict.fromkeys(("count", "level", "note"))
            )


#: Booking numbers that are low for the number of bookings, and some that are high, far apart or below 0.
BOOKINGS = st.integers(0, 15) | st.sampled_from([-5, 600_000, 10**9, 10**12])
COUNT = st.none() | st.integers(0, 3)
COUNTS = st.dictionaries(st.integers(0, 15), COUNT, max_size=12) | st.dictionaries(BOOKINGS, COUNT, max_size=12)


@settings(deadline=None, max_examples=50)
@given(COUNTS, COUNTS)
def test_joins_records_by_one_number(nomis: dict[int, int | None], dps: dict[int, int | None]) -> None:
    """Records whose key is a single number are joined, whatever their order and however far apart the numbers are."""
    ours, theirs = (
        pd.DataFrame({"booking_id": [*side], f"{name}_count": [*side.values()]}, dtype="Int64")
        for name, side in (("nomis", nomis), ("dps", dps))
    )
    joined = join_sides(ours, theirs, ["booking_id"])
    assert joined["booking_id"].tolist() == [*nomis, *(booking for booking in dps if booking not in nomis)]
    assert joined.dtypes.astype(str).to_dict() == {
        "booking_id": "Int64",
        "nomis_count": "Int64",
        "dps_count": "Int64",
        "in_nomis": "bool",
        "in_dps": "bool",
    }
    for row in records(joined):
        booking = row["booking_id"]
        assert (row["in_nomis"], row["in_dps"]) == (booking in nomis, booking in dps)
        assert (row["nomis_count"], row["dps_count"]) == (nomis.get(booking), dps.get(booking))


@FEW
@given(st.lists(SIDE, max_size=3))
def test_frames_are_concatenated_with_all_categories(sides: list[Side]) -> None:
    """When frames with different categories are concatenated, the levels stay categorical and no level is lost."""
    frames = [frame_of(side, {}) for side in sides]
    whole = concatenated(Compared, frames)
    assert len(whole) == sum(map(len, sides))
    assert dict(whole.dtypes)["nomis_level"].name == "category"
    assert sorted(map(str, whole["nomis_level"].dropna())) == sorted(
        record["level"] for side in sides for record in side.values() if record["level"] is not None
    )


def test_an_empty_frame_has_its_columns_and_dtypes() -> None:
    """A frame without rows has the same columns and dtypes as any other frame of its reconciliation.

    Comparing it finds no differences.
    """
    empty = typed(Compared, [])
    assert list(empty.columns) == list(columns_of(Compared))
    assert {name: empty[name].dtype.name for name in ("booking_id", "in_nomis", "nomis_count")} == {
        "booking_id": "Int64",
        "in_nomis": "boolean",
        "nomis_count": "Int64",
    }
    found = differing(empty, Compared.fields, KINDS)
    assert len(found) == 0
    assert {"kind", "differs"} <= set(found.columns)


def test_an_unknown_column_is_refused() -> None:
    """A column that the reconciliation does not declare is refused, since its values would otherwise be lost."""
    with pytest.raises(ValueError, match="has no column nomis_cuont"):
        typed(Compared, [{"nomis_cuont": 1}])


@pytest.mark.parametrize(
    ("nomis", "dps"),
    [([5, 5], [5]), ([5, 5], [6]), ([5], [5, 5]), ([6], [5, 5]), ([5, 5], []), ([], [5, 5])],
)
@pytest.mark.parametrize(
    "key",
    [lambda number: number, lambda number: number * 10**9, lambda number: f"A{number}"],
    ids=["low numbers", "high numbers", "texts"],
)
def test_a_repeated_key_on_one_side_is_refused(nomis: list[int], dps: list[int], key: Callable[[int], Any]) -> None:
    """A key that one side has twice is refused, since its records would otherwise be counted twice or lost.

    This holds for keys of any type, and whether or not the other side has the key.
    """
    ours, theirs = (pd.DataFrame({"id": [key(number) for number in side]}) for side in (nomis, dps))
    side = "NOMIS" if len(nomis) == 2 else "DPS"
    with pytest.raises(RepeatedKey, match=f"^{side} has several records with id {key(5)}$"):
        join_sides(ours, theirs, ["id"])


def test_rows_are_found_by_the_texts_of_their_keys() -> None:
    """Rows are found by the stored texts of their keys. The text of a key that is not in the frame finds no row."""
    frame = frame_of({("MDI", 1): {"count": 1, "level": None, "note": None}}, {})
    assert list(keys_of(frame, Compared.key)) == ['{"prisonId":"MDI","bookingId":1}']
    found = rows_of(frame, Compared, ['{"prisonId":"MDI","bookingId":1}', '{"prisonId":"LEI","bookingId":1}'])
    assert list(found["booking_id"]) == [1]


def test_times_are_kept_in_utc() -> None:
    """In a frame, a time with a UTC offset becomes the same moment in UTC."""
    frame = typed(Compared, [{"booking_id": 1, "dps_changed_at": "2026-08-20T10:00:00+01:00"}])
    assert records(frame)[0]["dps_changed_at"] == datetime(2026, 8, 20, 9, tzinfo=UTC)
