"""What becomes of times, money and codes on the way to NOMIS, for whatever values come."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.clock import LONDON
from sync.domains.activity import course_description, new_course, pay_rate
from sync.domains.allocation import nomis_allocation
from sync.domains.appointment import nomis_appointment
from sync.domains.attendance import attendance_outcome, bonus_pay, event_status
from sync.domains.times import earliest_creation, local_seconds, with_minutes, with_seconds
from sync.failures import RuleError
from sync.upstream.activities_api import Activity, Allocation, AppointmentInstance, Pay, Schedule
from sync.upstream.visit_scheduler import Visit

TIMES = st.times()
LOCAL_TIMES = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2099, 1, 1))  # noqa: DTZ001 - local


@given(TIMES)
def test_times_are_cut_not_rounded(moment: time) -> None:
    """Hours, minutes and seconds go over as they are; whatever is finer is cut."""
    assert with_seconds(moment) == f"{moment.hour:02}:{moment.minute:02}:{moment.second:02}"
    assert with_minutes(moment) == f"{moment.hour:02}:{moment.minute:02}"


@given(LOCAL_TIMES, st.integers(0, 9), st.sampled_from(["", "Z"]))
def test_every_written_form_of_a_local_time_is_the_same_moment(moment: datetime, digits: int, zone: str) -> None:
    """A local time with 0 to 9 digits of a second, with or without the meaningless `Z`, is read as it stands."""
    fraction = f".{f'{moment.microsecond:06}000'[:digits]}" if digits else ""
    text = moment.isoformat(timespec="seconds") + fraction + zone
    read = Visit.model_validate(
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
    assert read.start_timestamp.tzinfo is None
    assert local_seconds(read.start_timestamp) == moment.isoformat(timespec="seconds")


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2099, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_record_made_after_the_intent_is_never_missed(intended: datetime) -> None:
    """Whatever NOMIS dates at the intent or later lies within what is searched, also when clocks change."""
    made = (intended + timedelta(seconds=1)).astimezone(LONDON).replace(tzinfo=None)
    assert earliest_creation(intended) < made
    assert made - earliest_creation(intended) < timedelta(hours=3)


@given(st.integers(0, 10_000_000), st.integers(1, 10))
def test_pence_become_pounds_exactly(pence: int, band: int) -> None:
    """The rate that goes over is the pence divided by a hundred, to the digit."""
    pay = Pay.model_validate({"incentiveNomisCode": "STD", "prisonPayBand": {"nomisPayBand": band}, "rate": pence})
    sent = orjson.dumps(pay_rate(pay).as_json()).decode()
    assert f'"payBand":"{band}"' in sent
    rate = sent.partition('"rate":')[2].rstrip("}")
    assert Decimal(rate) * 100 == pence


@given(st.none() | st.integers(0, 10_000_000))
def test_bonus_goes_over_undivided(bonus: int | None) -> None:
    """The bonus keeps its number and gets three decimals; none stays none."""
    paid = bonus_pay(bonus)
    assert str(paid) == ("None" if bonus is None else f"{bonus}.000")


@given(st.text(max_size=100))
def test_course_names_fit(summary: str) -> None:
    """A course's name has the prefix, the beginning of the summary, and never more than NOMIS holds."""
    name = course_description(summary)
    assert len(name) <= 40
    assert name == f"SAA {summary}"[:40]


SCHEDULE: dict[str, Any] = {
    "id": 1, "description": "d", "capacity": 3, "startDate": "2023-05-01", "runsOnBankHoliday": True,
    "instances": [], "slots": [], "activity": {"id": 2, "payPerSession": "F", "minimumIncentiveNomisCode": "BAS"},
}  # fmt: skip
ACTIVITY: dict[str, Any] = {
    "id": 2, "prisonCode": "MDI", "summary": "s", "category": {"code": "SAA_OTHER"}, "startDate": "2023-04-01",
    "minimumIncentiveNomisCode": "STD", "pay": [],
}  # fmt: skip


def test_missing_values_are_left_out() -> None:
    """What DPS does not have is left out of a new course, whose dates and level are the activity's."""
    body = new_course(Schedule.model_validate(SCHEDULE), Activity.model_validate(ACTIVITY)).as_json()
    assert {"endDate", "internalLocationId"}.isdisjoint(body)
    assert (body["excludeBankHolidays"], body["startDate"], body["minimumIncentiveLevelCode"]) == (
        False,
        "2023-04-01",
        "STD",
    )


@given(
    st.sampled_from(["ACTIVE", "PENDING", "SUSPENDED", "AUTO_SUSPENDED", "ENDED"]),
    st.none() | st.text(min_size=1, max_size=10),
    st.none() | LOCAL_TIMES,
)
def test_allocations_say_what_their_status_needs(status: str, who: str | None, when: datetime | None) -> None:
    """The end's reason and comment go with an ended allocation alone, a suspension's with a suspended one."""
    told = {
        "id": 1, "prisonerNumber": "A1234BC", "bookingId": 2, "scheduleId": 3, "startDate": "2023-05-01",
        "prisonPayBand": {"nomisPayBand": 4}, "status": status, "deallocatedBy": who, "deallocatedTime": when,
        "suspendedBy": who, "suspendedTime": when,
    }  # fmt: skip
    body = nomis_allocation(Allocation.model_validate(told))
    moment = "null" if when is None else when.strftime("%Y-%m-%d %H:%M:%S")
    ended, suspended = status == "ENDED", status.endswith("SUSPENDED")
    assert (body.end_reason, body.suspended) == ("PRG_END" if ended else None, suspended)
    assert body.end_comment == (f"Deallocated in DPS by {who or 'null'} at {moment} for reason null" if ended else None)
    assert body.suspended_comment == (
        f"Suspended in DPS by {who or 'null'} at {moment} for reason null" if suspended else None
    )


@given(TIMES, st.none() | TIMES, st.booleans(), st.none() | st.integers(1, 9))
def test_appointments_always_have_an_end(start: time, end: time | None, in_cell: bool, location: int | None) -> None:
    """Every appointment that goes over has an end, and none in a cell has a location."""
    told = AppointmentInstance.model_validate(
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
    body = nomis_appointment(told).as_json()
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
def test_attendance_outcomes(
    reason: str | None, paid: bool, code: str | None, unexcused: bool, authorised: bool
) -> None:
    """Each reason for attendance, with pay and without, has its outcome and kind of absence."""
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
def test_event_statuses(status: str, reason: str | None, in_nomis: str | None, expected: str) -> None:
    """Each status of an attendance has its status in NOMIS."""
    assert event_status(status, reason, in_nomis) == expected


def test_unknown_codes_are_rules_that_cannot_be_met() -> None:
    """An unknown reason or status names itself and does not heal by waiting."""
    with pytest.raises(RuleError, match="HOLIDAY"):
        attendance_outcome("HOLIDAY", paid=True)
    with pytest.raises(RuleError, match="LOST"):
        event_status("LOST", None, None)
