"""What a run has read, as columns, against plain counting."""

from __future__ import annotations

from array import array
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from reports.engine.parallel_reader import FailedRead
from reports.reconciliations.incentives.frame import LevelFrame
from reports.reconciliations.incentives.levels import Codebook
from reports.reconciliations.incentives.snapshot import PageLevels
from sync.upstream.prisoners import PrisonerId

LEVELS = st.sampled_from([None, "BAS", "STD", "ENH"])
PRISONS = st.sampled_from([None, "LEI", "MDI"])
#: Booking, level in NOMIS, level in DPS, prison, and whether the booking could be read.
ROW = st.tuples(st.integers(1, 8), LEVELS, LEVELS, PRISONS, st.booleans())
Row = tuple[int, str | None, str | None, str | None, bool]


def frame_of(pages: list[list[Row]], without: set[int]) -> LevelFrame:
    """The frame of pages of rows."""
    levels, prisons = Codebook(), Codebook()
    read = [
        PageLevels(
            number,
            [PrisonerId(row[0], f"A{row[0]:04}AA") for row in rows],
            nomis=array("h", [levels.number(row[1]) for row in rows]),
            dps=array("h", [levels.number(row[2]) for row in rows]),
            prisons=array("h", [prisons.number(row[3]) for row in rows]),
            failed={row[0]: FailedRead("why", network=False) for row in rows if not row[4]},
        )
        for number, rows in enumerate(pages)
    ]
    return LevelFrame.of(read, levels, prisons, without)


@settings(deadline=None)
@given(st.lists(st.lists(ROW, max_size=4, unique_by=lambda row: row[0]), max_size=5), st.sets(st.integers(1, 8)))
def test_the_last_reading_of_a_booking_counts(pages: list[list[Row]], without: set[int]) -> None:
    """Differences, matrix and counts by prison are those of the last successful reading of each booking."""
    last: dict[int, Row] = {row[0]: row for rows in pages for row in rows if row[4] and row[0] not in without}
    failed = {row[0] for rows in pages for row in rows} - last.keys() - without
    frame = frame_of(pages, without)
    assert set(frame.failed) == failed
    assert {int(each) for each in frame.bookings} == set(last)
    assert list(frame.differences().items()) == sorted(
        (booking, (row[1], row[2])) for booking, row in last.items() if row[1] != row[2]
    )
    assert {(cell.nomis_level, cell.dps_level): cell.count for cell in frame.matrix()} == Counter(
        (row[1], row[2]) for row in last.values()
    )
    assert {each.prison_id: each.compared for each in frame.by_prison([])} == Counter(row[3] for row in last.values())
    only = frame.only_prisons(["LEI"], unknown_too=False)
    assert {int(each) for each in only.bookings} == {booking for booking, row in last.items() if row[3] == "LEI"}
