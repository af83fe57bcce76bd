"""The vectorised rules that decide whether two appointments are the same, checked against plain rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reports.engine.frame import records, typed
from reports.reconciliations.appointments.compare import differences, dps_columns, join, nomis_columns, year_ahead
from reports.reconciliations.appointments.reconciliation import Appointments
from sync.domains.appointments.dps import Attendee
from sync.domains.appointments.nomis import NomisAppointment

DAY = date(2026, 8, 25)
MADE = datetime.fromisoformat("2026-08-01T10:00")
RECORD = NomisAppointment(
    booking_id=1204417,
    offender_no="A4471CK",
    prison_id="MDI",
    internal_location=27723,
    start_date_time=datetime.fromisoformat("2026-08-25T09:30"),
    end_date_time=datetime.fromisoformat("2026-08-25T10:30"),
    subtype="CHAP",
    status="SCH",
    created_date=MADE,
)
ATTENDEE = Attendee(
    71, 1204417, "A4471CK", "MDI", "CHAP", 27723, None, False, DAY, time(9, 30), time(10, 30), False, MADE
)
TIMES = st.sampled_from([time(9, 30), time(10, 30), time(23, 30), time(0, 30)])
NOMIS = st.builds(
    lambda start, end, day, **values: RECORD.model_copy(
        update={
            **values,
            "start_date_time": None if start is None else datetime.combine(day, start),
            "end_date_time": None if end is None else datetime.combine(day, end),
        }
    ),
    start=st.none() | TIMES,
    end=st.none() | TIMES,
    day=st.sampled_from([DAY, DAY + timedelta(days=1)]),
    offender_no=st.sampled_from(["A4471CK", "G1234AB"]),
    booking_id=st.sampled_from([1204417, 1204418]),
    prison_id=st.sampled_from([None, "MDI"]),
    internal_location=st.sampled_from([None, 27723, 27724]),
    subtype=st.sampled_from(["CHAP", "GOVE"]),
    status=st.sampled_from([None, "SCH", "CANC", "COMP"]),
)
DPS = st.builds(
    lambda **values: replace(ATTENDEE, **values),
    prisoner_number=st.sampled_from(["A4471CK", "G1234AB"]),
    booking_id=st.sampled_from([1204417, 1204418]),
    prison_code=st.sampled_from(["MDI", "LEI"]),
    category_code=st.sampled_from(["CHAP", "GOVE"]),
    internal_location_id=st.sampled_from([None, 27723]),
    in_cell=st.booleans(),
    appointment_date=st.sampled_from([DAY, DAY + timedelta(days=1)]),
    start_time=TIMES,
    end_time=st.none() | TIMES,
    cancelled=st.sampled_from([None, False, True]),
)

#: Few examples with many rows, because comparing a frame of many rows takes as long as comparing one of few rows.
FEW = settings(deadline=None, max_examples=15)


def same_end(nomis: NomisAppointment, dps: Attendee) -> bool:
    """Whether the end times agree, by a rule in plain Python."""
    if nomis.end_date_time is None:
        hour_later = (datetime.combine(DAY, dps.start_time) + timedelta(hours=1)).time()
        return dps.end_time in (None, hour_later)
    if dps.end_time is None:
        return nomis.start_date_time is not None and nomis.end_date_time.time() == nomis.start_date_time.time()
    return nomis.end_date_time.time() == dps.end_time


def plain_differences(nomis: NomisAppointment, dps: Attendee) -> tuple[str, ...]:
    """The names of the fields that differ according to the plain rules."""
    start = nomis.start_date_time
    both_known = nomis.status is not None and dps.cancelled is not None
    rules = {
        "offender_no": nomis.offender_no == dps.prisoner_number,
        "booking_id": nomis.booking_id == dps.booking_id,
        "category": nomis.subtype == dps.category_code,
        "date": start is not None and start.date() == dps.appointment_date,
        "start_time": start is not None and start.time() == dps.start_time,
        "end_time": same_end(nomis, dps),
        "location": dps.in_cell or nomis.internal_location == dps.internal_location_id,
        "prison": nomis.prison_id in (None, dps.prison_code),
        "cancelled": not both_known or (nomis.status == "CANC") == dps.cancelled,
    }
    return tuple(name for name, same in rules.items() if not same)


def compared(
    pairs: Sequence[tuple[int | None, int | None]], nomis: Mapping[int, NomisAppointment], dps: Mapping[int, Attendee]
) -> list[dict[str, Any]]:
    """The rows of those `pairs` of ids that differ. nomis, dps: the records that each side has, by id."""
    listed = pd.DataFrame(pairs, columns=["nomis_id", "dps_id"], dtype="Int64")
    frame = typed(Appointments, join(listed, nomis_columns(nomis), dps_columns(dps)))
    return records(differences(frame))


@FEW
@example([])
@given(st.lists(st.tuples(st.none() | NOMIS, st.none() | DPS), min_size=16, max_size=24))
def test_mapped_pairs_differ_by_the_plain_rules(
    pairs: list[tuple[NomisAppointment | None, Attendee | None]],
) -> None:
    """The vectorised rules find the same differences in mapped pairs as the plain rules.

    This is true even if one or both sides lack the record, or if there are no pairs. The rows keep the DPS values.
    """
    nomis = {900 + place: each for place, (each, _) in enumerate(pairs) if each is not None}
    dps = {place: each for place, (_, each) in enumerate(pairs) if each is not None}
    found = {row["dps_id"]: row for row in compared([(900 + place, place) for place in range(len(pairs))], nomis, dps)}
    expected: dict[int, Any] = {}
    for place, (record, attendee) in enumerate(pairs):
        if record is not None and attendee is not None:
            differs = plain_differences(record, attendee)
            if differs:
                expected[place] = ("different", differs)
        elif record is not None:
            expected[place] = "mapping-without-dps"
        elif attendee is not None:
            expected[place] = "mapping-without-nomis"
    assert {
        place: (row["kind"], row["differs"]) if row["kind"] == "different" else row["kind"]
        for place, row in found.items()
    } == expected
    for place, row in found.items():
        # The report shows the values of each side, not the values that the comparison replaced them with.
        attendee = pairs[place][1]
        if attendee is not None:
            end = None if attendee.end_time is None else attendee.end_time.strftime("%H:%M")
            assert (row["dps_end_time"], row["dps_location"], row["dps_cancelled"]) == (
                end,
                attendee.internal_location_id,
                attendee.cancelled,
            )


@FEW
@example([])
@given(st.lists(st.tuples(NOMIS, st.booleans()), min_size=16, max_size=24))
def test_unmapped_records_are_duplicates_of_equal_mapped_ones(made: list[tuple[NomisAppointment, bool]]) -> None:
    """An unmapped record is a duplicate if a mapped one has the same booking, location, start and category.

    The location and the start must be known. A mapped record is never a duplicate.
    """
    nomis = {900 + place: record for place, (record, _) in enumerate(made)}
    dps = {place: ATTENDEE for place, (_, mapped) in enumerate(made) if mapped}
    pairs = [(900 + place, place if mapped else None) for place, (_, mapped) in enumerate(made)]

    def identity(record: NomisAppointment) -> tuple[object, ...] | None:
        if record.internal_location is None or record.start_date_time is None:
            return None
        return record.booking_id, record.internal_location, record.start_date_time, record.subtype

    originals = {identity(record) for record, mapped in made if mapped} - {None}
    for row in compared(pairs, nomis, dps):
        if row["dps_id"] is None:
            copied = identity(nomis[row["nomis_id"]])
            assert row["kind"] == ("duplicate" if copied in originals else "nomis-only")
            if row["kind"] == "duplicate":
                original = row["nomis_duplicate_of"]
                assert (identity(nomis[original]), made[original - 900][1]) == (copied, True)
        else:
            assert row["kind"] == "different"


@pytest.mark.parametrize(
    ("nomis", "dps", "same"),
    [
        (None, None, True),
        (None, "10:30", True),
        (None, "10:15", False),
        ("10:30", "10:30", True),
        ("10:15", "10:30", False),
        ("10:30", None, False),
        ("09:30", None, True),
    ],
)
def test_missing_and_equal_end_times_agree(nomis: str | None, dps: str | None, same: bool) -> None:
    """If an appointment has no end in NOMIS, the ends agree if it has none in DPS or lasts one hour there.

    If its end in NOMIS equals its start, the ends agree if it has none in DPS.
    """
    end = None if nomis is None else datetime.combine(DAY, time.fromisoformat(nomis))
    record = RECORD.model_copy(update={"end_date_time": end})
    attendee = replace(ATTENDEE, end_time=None if dps is None else time.fromisoformat(dps))
    found = compared([(901, 71)], {901: record}, {71: attendee})
    assert [row["differs"] for row in found] == ([] if same else [("end_time",)])


@pytest.mark.parametrize(
    ("day", "ahead"), [(date(2027, 8, 24), False), (date(2027, 8, 25), True), (date(2062, 8, 25), True)]
)
def test_a_year_ahead_is_at_least_a_year_from_today_in_nomis(day: date, ahead: bool) -> None:
    """A mapped pair counts as a year ahead if its date in NOMIS is at least a year from today.

    An appointment without a mapping does not.
    """
    record = RECORD.model_copy(update={"start_date_time": datetime.combine(day, time(9, 30))})
    pairs = pd.DataFrame([(901, 71), (902, None)], columns=["nomis_id", "dps_id"], dtype="Int64")
    frame = typed(Appointments, join(pairs, nomis_columns({901: record, 902: record}), dps_columns({71: ATTENDEE})))
    assert year_ahead(frame, DAY).tolist() == [ahead, False]


def test_times_of_change_are_london_times_in_utc() -> None:
    """Times of change are read as London time, and returned in UTC.

    A time that occurs twice in autumn counts as the later moment. A time that is skipped in spring counts as the end of
    the skipped hour.
    """
    moments = [datetime.fromisoformat(text) for text in ("2026-08-01T10:00", "2026-10-25T01:30", "2027-03-28T01:30")]
    nomis = {
        901 + place: RECORD.model_copy(update={"created_date": each, "modified_date": None})
        for place, each in enumerate(moments)
    }
    dps = {71: replace(ATTENDEE, changed_at=None)}
    pairs = pd.DataFrame([(number, None) for number in nomis], columns=["nomis_id", "dps_id"], dtype="Int64")
    rows = records(typed(Appointments, join(pairs, nomis_columns(nomis), dps_columns(dps))))
    assert [row["nomis_changed_at"] for row in rows] == [
        datetime(2026, 8, 1, 9, tzinfo=UTC),
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
        datetime(2027, 3, 28, 1, tzinfo=UTC),
    ]
    assert {row["dps_changed_at"] for row in rows} == {None}
