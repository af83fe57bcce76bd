"""The conversion of times, money, text and codes for NOMIS, whatever their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sync.clock import LONDON, local_seconds, with_minutes, with_seconds
from sync.creation.creation import earliest_creation
from sync.domains.activities.allocations import nomis_allocation
from sync.domains.activities.attendances import attendance_outcome, bonus_pay, event_status, nomis_attendance
from sync.domains.activities.dps import Activity, Allocation, Attendance, Instance, Pay, Schedule
from sync.domains.activities.nomis import AttendanceSession
from sync.domains.activities.rules import course_description, new_course, pay_rate
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.domains.appointments.dps import AppointmentInstance
from sync.domains.appointments.rules import nomis_appointment
from sync.domains.incentives.nomis import CreateIep
from sync.domains.visits.dps import Visit
from sync.domains.visits.rules import NOMIS_OUTCOMES, nomis_outcome, nomis_visit_type, open_closed_status
from sync.errors import RuleError

TIMES = st.times()
LOCAL_TIMES = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2099, 1, 1))  # noqa: DTZ001 - local


@given(TIMES)
def test_times_are_cut_not_rounded(moment: time) -> None:
    """A time is written to the second or to the minute. The rest is cut off without rounding."""
    assert with_seconds(moment) == f"{moment.hour:02}:{moment.minute:02}:{moment.second:02}"
    assert with_minutes(moment) == f"{moment.hour:02}:{moment.minute:02}"


def visit_at(text: str) -> Visit:
    """A visit that starts and ends at the time in `text`."""
    return Visit.model_validate(
        {
            "reference": "a",
            "prisonerId": "A1234BC",
            "prisonId": "MDI",
            "visitRoom": "A",
            "visitType": "SOCIAL",
            "visitRestriction": "OPEN",
            "startTimestamp": text,
            "endTimestamp": text,
        }
    )


def allocation_with(**changes: Any) -> Allocation:
    """An allocation as the activities API returns it, with `changes`."""
    record = {
        "id": 1, "prisonerNumber": "A1234BC", "bookingId": 2, "scheduleId": 3, "startDate": "2023-05-01",
        "prisonPayBand": {"nomisPayBand": 4}, "status": "ENDED",
    }  # fmt: skip
    return Allocation.model_validate({**record, **changes})


@given(LOCAL_TIMES, st.integers(0, 9))
def test_every_format_of_a_local_time_is_read(moment: datetime, digits: int) -> None:
    """A local time with 0 to 9 decimal places of a second is read as a local time, correct to the second."""
    fraction = f".{f'{moment.microsecond:06}000'[:digits]}" if digits else ""
    read = visit_at(moment.isoformat(timespec="seconds") + fraction)
    assert read.start_timestamp.tzinfo is None
    assert local_seconds(read.start_timestamp) == moment.isoformat(timespec="seconds")


@given(
    st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2099, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(-12, 14),
)
def test_a_time_with_an_offset_is_converted_to_london_time(moment: datetime, hours: int) -> None:
    """A time with an offset is converted to London time.

    In June, `09:00+00:00` and `09:00Z` are ten o'clock in London.
    """
    text = moment.astimezone(timezone(timedelta(hours=hours))).isoformat()
    expected = moment.astimezone(LONDON).replace(tzinfo=None)
    zulu = moment.isoformat().replace("+00:00", "Z")
    assert visit_at(text).start_timestamp == visit_at(zulu).start_timestamp == expected
    assert allocation_with(deallocatedTime=text).deallocated_time == expected


@given(TIMES, st.sampled_from(["Z", "+00:00", "+01:00"]))
def test_a_time_of_day_with_an_offset_is_refused(moment: time, offset: str) -> None:
    """A time of day with an offset is refused, since without a date nobody can say which London time is meant."""
    record = {"id": 1, "date": "2023-06-02", "startTime": moment.isoformat(), "endTime": "23:59", "cancelled": False}
    assert Instance.model_validate(record).start_time == moment
    with pytest.raises(ValidationError, match="offset"):
        Instance.model_validate({**record, "startTime": moment.isoformat() + offset})


@given(LOCAL_TIMES, st.sampled_from(["", "Z"]))
def test_the_z_of_the_activities_api_is_ignored(moment: datetime, zone: str) -> None:
    """The activities API writes local times with or without a `Z`, and both mean the same.

    In a time from any other API, a `Z` means UTC.
    """
    text = moment.isoformat() + zone
    record = allocation_with(suspendedTime=text, deallocatedTime=text, plannedDeallocation={"plannedAt": text})
    assert record.planned_deallocation is not None
    assert {record.suspended_time, record.deallocated_time, record.planned_deallocation.planned_at} == {moment}
    in_london = moment.replace(tzinfo=UTC).astimezone(LONDON).replace(tzinfo=None)
    assert visit_at(text).start_timestamp == (in_london if zone else moment)


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2099, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_record_made_after_the_intent_is_never_missed(intended: datetime) -> None:
    """A record made just after its creation was intended falls within the searched period, even if the clocks change.

    The period begins less than three hours before the record was made.
    """
    made = (intended + timedelta(seconds=1)).astimezone(LONDON).replace(tzinfo=None)
    assert earliest_creation(intended) < made
    assert made - earliest_creation(intended) < timedelta(hours=3)


@given(st.integers(0, 10_000_000), st.integers(1, 10))
def test_pence_become_pounds_exactly(pence: int, band: int) -> None:
    """A pay rate in pence is sent to NOMIS in pounds, without rounding."""
    pay = Pay.model_validate({"incentiveNomisCode": "STD", "prisonPayBand": {"nomisPayBand": band}, "rate": pence})
    sent = orjson.dumps(pay_rate(pay).as_json()).decode()
    assert f'"payBand":"{band}"' in sent
    rate = sent.partition('"rate":')[2].rstrip("}")
    assert Decimal(rate) * 100 == pence


@given(st.none() | st.integers(0, 10_000_000))
def test_the_bonus_keeps_its_amount(bonus: int | None) -> None:
    """A bonus is sent as the number from DPS, unchanged, with three decimal places. A missing bonus stays missing."""
    paid = bonus_pay(bonus)
    assert str(paid) == ("None" if bonus is None else f"{bonus}.000")


@given(st.text(max_size=100))
def test_course_names_fit(summary: str) -> None:
    """A course's description is `SAA` and as much of the summary as fits into the 40 bytes that NOMIS stores."""
    name, whole = course_description(summary), f"SAA {summary}"[:40]
    assert len(name.encode()) <= 40
    assert whole.startswith(name)
    assert name == whole or len(whole[: len(name) + 1].encode()) > 40


@given(st.text(max_size=300))
def test_comments_are_cut_after_a_whole_character(text: str) -> None:
    """A comment keeps as many whole characters as fit into the 240 bytes that NOMIS stores."""
    record = CreateIep(
        iep_level="STD", iep_date_time="2023-05-22T10:00:00", prison_id="LEI", user_id=None, comments=text
    )
    cut = record.as_json()["comments"]
    assert text.startswith(cut)
    assert len(cut.encode()) <= 240
    assert cut == text or len(text[: len(cut) + 1].encode()) > 240
    allocation = allocation_with(deallocatedReason=text, deallocatedBy="Jane")
    ending = nomis_allocation(allocation).end_comment
    assert ending is not None
    assert len(ending.encode()) <= 240
    assert f"Deallocated in DPS by Jane at null for reason {text or 'null'}".startswith(ending)


SCHEDULE: dict[str, Any] = {
    "id": 1, "description": "d", "capacity": 3, "startDate": "2023-05-01", "runsOnBankHoliday": True,
    "instances": [], "slots": [], "activity": {"id": 2, "payPerSession": "F", "minimumIncentiveNomisCode": "BAS"},
}  # fmt: skip
ACTIVITY: dict[str, Any] = {
    "id": 2, "prisonCode": "MDI", "summary": "s", "category": {"code": "SAA_OTHER"}, "startDate": "2023-04-01",
    "minimumIncentiveNomisCode": "STD", "pay": [],
}  # fmt: skip


def test_missing_values_are_left_out() -> None:
    """Values that DPS lacks are left out of a new course.

    The course has the start date and the minimum incentive level of the activity, not those in the schedule.
    """
    body = new_course(Schedule.model_validate(SCHEDULE), Activity.model_validate(ACTIVITY)).as_json()
    assert {"endDate", "internalLocationId"}.isdisjoint(body)
    assert (body["excludeBankHolidays"], body["startDate"], body["minimumIncentiveLevelCode"]) == (
        False,
        "2023-04-01",
        "STD",
    )


@given(
    st.sampled_from(["ACTIVE", "PENDING", "SUSPENDED", "AUTO_SUSPENDED", "SUSPENDED_WITH_PAY", "ENDED"]),
    st.none() | st.text(min_size=1, max_size=10),
    st.none() | LOCAL_TIMES,
)
def test_allocations_have_the_fields_of_their_status(status: str, who: str | None, when: datetime | None) -> None:
    """Only an ended allocation has an end reason and an end comment.

    Only a suspended allocation has a suspension comment.
    """
    record = allocation_with(
        status=status, deallocatedBy=who, deallocatedTime=when, suspendedBy=who, suspendedTime=when
    )
    body = nomis_allocation(record)
    moment = "null" if when is None else when.strftime("%Y-%m-%d %H:%M:%S")
    ended, suspended = status == "ENDED", "SUSPENDED" in status
    word = "SUSPENDED_WITH_PAY" if status == "SUSPENDED_WITH_PAY" else "Suspended"
    assert (body.end_reason, body.suspended) == ("PRG_END" if ended else None, suspended)
    assert body.end_comment == (f"Deallocated in DPS by {who or 'null'} at {moment} for reason null" if ended else None)
    assert body.suspended_comment == (
        f"{word} in DPS by {who or 'null'} at {moment} for reason null" if suspended else None
    )


@given(TIMES, st.none() | TIMES, st.booleans(), st.none() | st.integers(1, 9))
def test_appointments_always_have_an_end(start: time, end: time | None, in_cell: bool, location: int | None) -> None:
    """An appointment without an end time is sent with its start time as its end time.

    An appointment in a cell is sent without a location.
    """
    record = AppointmentInstance.model_validate(
        {
            "id": 1,
            "bookingId": 2,
            "categoryCode": "CHAP",
            "internalLocationId": location,
            "inCell": in_cell,
            "appointmentDate": "2023-05-01",
            "startTime": start,
            "endTime": end,
        }
    )
    body = nomis_appointment(record).as_json()
    assert body["endTime"] == with_minutes(start if end is None else end)
    assert body.get("internalLocationId") == (None if in_cell else location)


@pytest.mark.parametrize(
    ("reason", "paid", "code", "unexcused", "authorised"),
    [
        ("ATTENDED", True, "ATT", False, False),
        ("ATTENDED", False, "UNBEH", False, False),
        ("CANCELLED", True, "CANC", False, True),
        ("CANCELLED", False, "CANC", False, True),
        ("SUSPENDED", True, "SUS", False, True),
        ("SUSPENDED", False, "SUS", False, True),
        ("AUTO_SUSPENDED", True, "SUS", False, True),
        ("AUTO_SUSPENDED", False, "SUS", False, True),
        ("SICK", True, "ACCAB", False, True),
        ("SICK", False, "REST", False, True),
        ("REFUSED", True, "UNACAB", True, False),
        ("REFUSED", False, "UNACAB", True, False),
        ("NOT_REQUIRED", True, "NREQ", False, True),
        ("NOT_REQUIRED", False, "NREQ", False, True),
        ("REST", True, "ACCAB", False, True),
        ("REST", False, "REST", False, True),
        ("CLASH", True, "ACCAB", False, True),
        ("CLASH", False, "ACCAB", False, True),
        ("OTHER", True, "ACCAB", False, True),
        ("OTHER", False, "UNACAB", True, False),
        (None, True, None, False, False),
        (None, False, None, False, False),
    ],
)
def test_each_reason_for_attendance_has_its_outcome(
    reason: str | None, paid: bool, code: str | None, unexcused: bool, authorised: bool
) -> None:
    """The NOMIS outcome of an attendance depends on its reason and on whether it is paid.

    The outcome may count as an unexcused or an authorised absence, or as neither.
    """
    outcome = attendance_outcome(reason, paid=paid)
    assert (outcome.code, outcome.unexcused, outcome.authorised) == (code, unexcused, authorised)


@pytest.mark.parametrize(
    ("status", "reason", "in_nomis", "expected"),
    [
        ("WAITING", None, None, "SCH"),
        ("COMPLETED", "CANCELLED", None, "CANC"),
        ("COMPLETED", "ATTENDED", None, "COMP"),
        ("LOCKED", None, None, "EXP"),
        ("LOCKED", None, "SCH", "EXP"),
        ("LOCKED", "ATTENDED", "COMP", "COMP"),
        ("LOCKED", "CANCELLED", "CANC", "CANC"),
        ("LOCKED", None, "EXP", "EXP"),
    ],
)
def test_each_status_of_an_attendance_has_a_nomis_status(
    status: str, reason: str | None, in_nomis: str | None, expected: str
) -> None:
    """The NOMIS status of an attendance depends on its status and reason in DPS.

    If the attendance is locked, its current status in NOMIS decides.
    """
    assert event_status(status, reason, in_nomis) == expected


@pytest.mark.parametrize(("days", "expected"), [(-1, "EXP"), (0, "SCH"), (1, "SCH")])
def test_a_waiting_attendance_expires_the_day_after(days: int, expected: str) -> None:
    """A waiting attendance is scheduled until its day has passed, and expired afterwards.

    A completed attendance is completed on any day.
    """
    today = datetime(2023, 5, 22, tzinfo=LONDON).date()
    record = {
        "attendanceId": 1, "scheduledInstanceId": 2, "activityScheduleId": 3, "status": "WAITING", "bookingId": 5,
        "sessionDate": today + timedelta(days=days), "sessionStartTime": "09:00", "sessionEndTime": "11:00",
        "prisonerNumber": "A1234BC",
    }  # fmt: skip
    session = AttendanceSession(schedule_date=today, start_time="09:00", end_time="11:00")
    attendance = Attendance.model_validate(record)
    assert nomis_attendance(attendance, session, None, today).event_status_code == expected
    done = attendance.model_copy(update={"status": "COMPLETED"})
    assert nomis_attendance(done, session, None, today).event_status_code == "COMP"


WORDS = st.text(max_size=12) | st.sampled_from(["active", "ENDED ", "SUSPENDED_", "open", "Closed", "null", "KEY_DATE"])


@given(WORDS)
def test_unknown_codes_are_errors_that_no_retry_resolves(word: str) -> None:
    """An unknown code gets no default. It is refused with an error that names it."""
    vocabularies: list[tuple[Callable[[str], object], set[str]]] = [
        (lambda each: attendance_outcome(each, paid=True), set()),
        (lambda each: event_status(each, None, None), {"LOCKED", "WAITING", "COMPLETED"}),
        (lambda each: nomis_allocation(allocation_with(status=each)), {"ENDED", "ACTIVE", "PENDING", "SUSPENDED"}),
        (nomis_visit_type, {"SOCIAL", "FAMILY"}),
        (open_closed_status, {"OPEN", "CLOSED", "UNKNOWN"}),
        (nomis_adjustments.category, {"SENTENCE", "KEY-DATE"}),
    ]
    for look_up, known in vocabularies:
        if word not in known:
            with pytest.raises(RuleError, match=re.escape(repr(word))):
                look_up(word)


@given(st.text(max_size=30) | st.none())
def test_an_unknown_outcome_of_a_visit_is_administrative(outcome: str | None) -> None:
    """Only the outcome of a visit has a default: an unknown outcome becomes an administrative cancellation."""
    assert nomis_outcome(outcome) == NOMIS_OUTCOMES.get(outcome or "", "ADMIN")


@pytest.mark.parametrize("field", ["deallocatedReason", "suspendedReason"])
def test_a_reason_is_text_or_an_object(field: str) -> None:
    """The reason for the end or suspension of an allocation may be text, as it used to be, or an object.

    Both forms lead to the same comment in NOMIS.
    """
    status = "ENDED" if field == "deallocatedReason" else "SUSPENDED"
    bodies = [
        nomis_allocation(allocation_with(status=status, **{field: reason}))
        for reason in ("Transferred", {"code": "TRANSFERRED", "description": "Transferred", "added": 1})
    ]
    assert bodies[0] == bodies[1]
    assert "for reason Transferred" in f"{bodies[0].end_comment}{bodies[0].suspended_comment}"


def test_the_comment_says_who_planned_the_end() -> None:
    """If DPS says who planned the end of an allocation, the end comment names that person."""
    planned = {"plannedBy": "Jane", "plannedAt": "2025-09-17T10:00:00", "plannedReason": {"description": "Released"}}
    record = allocation_with(deallocatedBy="Job", deallocatedReason="Expired", plannedDeallocation=planned)
    assert (
        nomis_allocation(record).end_comment == "Deallocated in DPS by Jane at 2025-09-17 10:00:00 for reason Released"
    )


def test_an_allocation_without_pay_band_is_unpaid() -> None:
    """An allocation without a pay band is sent to NOMIS without one."""
    assert "payBandCode" not in nomis_allocation(allocation_with(prisonPayBand=None)).as_json()
