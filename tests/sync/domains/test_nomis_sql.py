"""The SQL with which a person finds rows in the NOMIS database is complete and read-only. Its values are checked."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.domains.activities.allocations import ALLOCATION_ROWS
from sync.domains.activities.attendances import ATTENDANCE_ROWS
from sync.domains.duplicate_rows import DuplicateRows
from sync.domains.registry import domain_of_record

SESSION = {
    "nomisCourseActivityId": "540112",
    "bookingId": "1204417",
    "sessionDate": "2023-06-02",
    "sessionStartTime": "09:00",
    "sessionEndTime": "12:00:00",
}
APPOINTMENT = {"bookingId": 1204417, "eventDate": "2023-06-02", "startTime": "09:00:00", "eventSubType": "GYM"}


def test_both_rows_of_an_allocation_are_shown_with_their_attendances() -> None:
    """The first statement about an allocation finds both of its rows.

    The second finds the attendances, which may prevent the deletion of a row.
    """
    assert DuplicateRows(ALLOCATION_ROWS, SESSION).sql == (
        (
            "SELECT * FROM OMS_OWNER.OFFENDER_PROGRAM_PROFILES WHERE CRS_ACTY_ID = 540112 AND OFFENDER_BOOK_ID = "
            "1204417 AND OFFENDER_PROGRAM_STATUS = 'ALLOC' ORDER BY OFF_PRGREF_ID;"
        ),
        (
            "SELECT * FROM OMS_OWNER.OFFENDER_COURSE_ATTENDANCES WHERE CRS_ACTY_ID = 540112 AND OFFENDER_BOOK_ID = "
            "1204417 ORDER BY EVENT_ID;"
        ),
    )


def test_both_rows_of_an_attendance_are_shown() -> None:
    """The statement about an attendance finds both of its rows by course, booking and session."""
    assert DuplicateRows(ATTENDANCE_ROWS, SESSION).sql == (
        (
            "SELECT * FROM OMS_OWNER.OFFENDER_COURSE_ATTENDANCES WHERE CRS_ACTY_ID = 540112 AND OFFENDER_BOOK_ID = "
            "1204417 AND EVENT_DATE = DATE '2023-06-02' AND TO_CHAR(START_TIME, 'HH24:MI') = '09:00' "
            "AND TO_CHAR(END_TIME, 'HH24:MI') = '12:00' ORDER BY EVENT_ID;"
        ),
    )


def test_the_runbook_shows_the_same_statements() -> None:
    """The runbook shows, word for word, the statements that are made with the values in this module."""
    page = (Path(__file__).parents[3] / "doc" / "runbook.md").read_text(encoding="utf-8")
    course = domain_of_record("activity").repair.search_sql({"body": {"code": "318", "prisonId": "LEI"}})
    appointment = domain_of_record("appointment").repair.search_sql({"body": APPOINTMENT})
    rows = (statement for kind in (ALLOCATION_ROWS, ATTENDANCE_ROWS) for statement in DuplicateRows(kind, SESSION).sql)
    assert [each for each in (course, appointment, *rows) if f"\n{each}\n" not in page] == []


def test_an_appointment_without_a_location_is_found_by_its_time() -> None:
    """NOMIS cannot be searched for an appointment without a location, so SQL finds it by booking and time."""
    assert domain_of_record("appointment").repair.search_sql({"body": APPOINTMENT}) == (
        "SELECT * FROM OMS_OWNER.OFFENDER_IND_SCHEDULES WHERE OFFENDER_BOOK_ID = 1204417 AND EVENT_DATE = DATE "
        "'2023-06-02' AND TO_CHAR(START_TIME, 'HH24:MI') = '09:00' AND EVENT_SUB_TYPE = 'GYM' ORDER BY EVENT_ID;"
    )


@given(name=st.sampled_from(sorted(SESSION)), value=st.text().filter(lambda text: not text.isalnum()))
def test_statements_have_only_numbers_dates_and_times(name: str, value: str) -> None:
    """Whatever a message says, only numbers, dates and times get into a statement."""
    for kind in (ALLOCATION_ROWS, ATTENDANCE_ROWS):
        for statement in DuplicateRows(kind, {**SESSION, name: value}).sql:
            assert statement.count(";") == 1
            assert statement.count("'") % 2 == 0
            assert statement.startswith("SELECT * FROM OMS_OWNER.OFFENDER_")


@pytest.mark.parametrize("value", ["1 OR 1=1", "1'; DROP TABLE OFFENDERS; --", "", "²", "-1", "1.5", "LEI' --"])
def test_a_value_that_could_change_a_statement_is_refused(value: str) -> None:
    """A booking id that is not a plain number, or a prison id that is not a plain code, is refused."""
    assert DuplicateRows(ALLOCATION_ROWS, {**SESSION, "bookingId": value}).sql == ()
    with pytest.raises(ValueError, match="is not allowed in a statement"):
        domain_of_record("activity").repair.search_sql({"body": {"code": "318", "prisonId": f"{value}'"}})
