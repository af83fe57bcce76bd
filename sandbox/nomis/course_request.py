"""What a request about a course says, checked for form alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Final

from sandbox.nomis.bodies import Fields, bad_request, check_column

LARGEST_CAPACITY: Final = 999
DESCRIPTION_BYTES: Final = 40
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
THOUSANDTH: Final = Decimal("0.001")

Rule = tuple[time, time, tuple[bool, ...]]
Slot = tuple[date, time, time]


@dataclass(frozen=True, slots=True)
class CourseRequest:
    """What creation and change of a course have in common, read and checked for form alone."""

    start: date
    end: date | None
    location_id: int | None
    capacity: int
    description: str
    level: str
    program: str
    pay_per_session: str
    exclude_bank_holidays: bool
    rates: dict[tuple[str, str], Decimal]
    rules: list[Rule]
    sessions: dict[Slot, bool]


def read_course(fields: Fields) -> CourseRequest:
    """The request as NOMIS reads it; what is missing, of a wrong form or too long is 400."""
    capacity, description = fields.number("capacity"), fields.text("description", shortest=1, longest=DESCRIPTION_BYTES)
    if capacity > LARGEST_CAPACITY:
        raise bad_request(f"Validation failed for capacity: must be less than or equal to {LARGEST_CAPACITY}")
    check_column(description, "DESCRIPTION", DESCRIPTION_BYTES)
    return CourseRequest(
        start=fields.day("startDate"),
        end=fields.optional_day("endDate"),
        location_id=fields.optional_number("internalLocationId"),
        capacity=capacity,
        description=description,
        level=fields.text("minimumIncentiveLevelCode"),
        program=fields.text("programCode"),
        pay_per_session=fields.choice("payPerSession", ("H", "F")),
        exclude_bank_holidays=fields.flag("excludeBankHolidays"),
        rates={_rate_key(each): _rate(each) for each in fields.objects("payRates", required=True)},
        rules=[_rule(each) for each in fields.objects("scheduleRules", required=False)],
        sessions={
            (each.day("date"), each.clock_time("startTime"), each.clock_time("endTime")): each.flag("cancelled")
            for each in fields.objects("schedules", required=False)
        },
    )


def _rate_key(fields: Fields) -> tuple[str, str]:
    return fields.text("incentiveLevel"), fields.text("payBand")


def _rate(fields: Fields) -> Decimal:
    rate = fields.money("rate")
    if rate is None:
        raise bad_request("JSON parse error: value failed for JSON property rate due to missing (therefore NULL) value")
    return rate.quantize(THOUSANDTH)


def _rule(fields: Fields) -> Rule:
    return fields.clock_time("startTime"), fields.clock_time("endTime"), tuple(fields.flag(day) for day in DAYS)
