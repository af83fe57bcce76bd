"""Reads the bodies of requests to NOMIS field by field, as strictly as NOMIS does.

The module also holds the codes that NOMIS accepts.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from sandbox.http.serving import Refused, Request

# ruff: noqa: SIM905 - the codes are easier to read as words than as columns of literals


ATTENDANCE_OUTCOMES: Final = frozenset("ACCAB ATT CANC COURT NREQ REST UNACAB UNBEH SUS ABS".split())
EVENT_STATUSES: Final = frozenset("SCH COMP CANC EXP AA ABS APP ATT CONF DEL DEN FTA PEN PENDING UA".split())
PAY_BANDS: Final = frozenset(str(band) for band in range(1, 11))
ALLOCATION_END_REASONS: Final = frozenset(
    "PRG_END OTH REL TRF C_END CASE_CLOSE DIED JOBCH PERS REM SECDEC UNATT UNBEH UNDSTA WDRAWN".split()
)
VISIT_OUTCOMES: Final = frozenset("ADMIN HMP NO_ID NO_VO NSHOW OFFCANC REFUSED VISCANC VO_CANCEL".split())
VISIT_TYPES: Final = {"SCON": "Social Contact", "OFFI": "Official Visit"}
VISIT_STATUSES: Final = {
    "SCH": "Scheduled",
    "CANC": "Cancelled",
    "NORM": "Normal Completion",
    "EXP": "Expired",
    "HMPOP": "Terminated By Staff",
    "OFFEND": "Offender Completed Early",
    "VISITOR": "Visitor Completed Early",
    "VDE": "Visitor Declined Entry",
}
APPOINTMENT_SUBTYPES: Final = frozenset(
    (
        "ACTI CABA CABE CACA CAHO CALA CANT CAOT CAPR CHAP CSS EDUC GOVE IMB IMM IND JCP KWS LACO LIBR MED MEDE MEDO "
        "MEOP MEOT MEPS MEXR OIC OMU OTHE PA PRM PROG_SESS REOT REPH REPR RES ROTL RST SBD SCH_REASON SOTP TSP USV "
        "VISIT"
    ).split()
)
SENTENCE_ADJUSTMENT_TYPES: Final = {
    "RX": "Remand",
    "RSR": "Recall Sentence Remand",
    "UR": "Unused Remand",
    "S240A": "Tagged Bail",
    "RST": "Recall Sentence Tagged Bail",
}
#: Known to NOMIS since January 2025.
NEWER_SENTENCE_ADJUSTMENT_TYPES: Final = {
    "TCA": "Time Spent in Custody Abroad",
    "TSA": "Time Spent as an Appeal Applicant",
}
KEY_DATE_ADJUSTMENT_TYPES: Final = {
    "ADA": "Additional Days Awarded",
    "UAL": "Unlawfully at Large",
    "LAL": "Lawfully at Large",
    "RADA": "Restoration of Additional Days Awarded",
    "SREM": "Special Remission",
}
PROGRAMS: Final = (
    "SAA_EDUCATION",
    "SAA_INDUSTRIES",
    "SAA_PRISON_JOBS",
    "SAA_GYM_SPORTS_FITNESS",
    "SAA_INDUCTION",
    "SAA_INTERVENTIONS",
    "SAA_FAITH_SPIRITUALITY",
    "SAA_NOT_IN_WORK",
    "SAA_OTHER",
)

#: How many bytes a database column for comments holds.
COMMENT_BYTES: Final = 240
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME: Final = re.compile(r"\d{2}:\d{2}(:\d{2})?")
_MOMENT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}")


def bad_request(reason: str) -> Refused:
    """The response of NOMIS to bad data: status 400 and the reason."""
    return Refused(400, f"Bad request: {reason}")


def not_found(reason: str) -> Refused:
    """The response of NOMIS when something in the path does not exist: status 404 and the reason."""
    return Refused(404, f"Not Found: {reason}")


def check_column(text: str, column: str, most: int) -> None:
    """Refuses, with 500, text of more than `most` bytes, as NOMIS does if text does not fit the database column."""
    size = len(text.encode())
    if size > most:
        raise unexpected(f'ORA-12899: value too large for column "{column}" (actual: {size}, maximum: {most})')


def unexpected(reason: str) -> Refused:
    """The response of NOMIS when its code does not catch an exception: status 500 and the text of the exception."""
    return Refused(500, f"Unexpected error: {reason}")


def path_number(text: str, name: str) -> int:
    """Returns a number given in a path. Refuses anything but digits with 400, as an invalid argument."""
    if not text.isdecimal():
        raise Refused(400, f"Invalid Argument: Method parameter '{name}': failed to convert value '{text}' to Long")
    return int(text)


def read_date(text: str, name: str) -> date:
    """Returns a date given as `yyyy-MM-dd`. Refuses anything else with 400."""
    if _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise bad_request(f"JSON parse error: Cannot deserialize {name} from '{text}': not a date yyyy-MM-dd")


def read_time(text: str, name: str) -> time:
    """Returns a time given as `HH:mm` or `HH:mm:ss`. Refuses anything else with 400."""
    if _TIME.fullmatch(text):
        try:
            return time.fromisoformat(text)
        except ValueError:
            pass
    raise bad_request(f"JSON parse error: Cannot deserialize {name} from '{text}': not a time HH:mm")


def read_moment(text: str, name: str) -> datetime:
    """Returns a local date and time given as `yyyy-MM-dd'T'HH:mm:ss`.

    Refuses anything else, such as a time with an offset, with 400.
    """
    if _MOMENT.fullmatch(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    raise bad_request(f"JSON parse error: Cannot deserialize {name} from '{text}': not yyyy-MM-dd'T'HH:mm:ss")


class Fields:
    """The fields of one JSON object. A field that is malformed, or required but missing, is refused with 400."""

    def __init__(self, values: object) -> None:
        """Takes the object as it was sent; anything but an object is refused with 400."""
        if not isinstance(values, dict):
            raise bad_request("JSON parse error: Cannot deserialize value from what is not an object")
        self._values: dict[str, Any] = values

    @classmethod
    def of(cls, request: Request) -> Fields:
        """Reads the body of a request, which must be a JSON object; any other body is refused with 400."""
        return cls(request.json())

    def text(self, name: str, *, shortest: int = 0, longest: int | None = None) -> str:
        """Required text of at least `shortest` and at most `longest` characters."""
        found = self.optional_text(name, longest=longest)
        if found is None:
            raise _missing(name)
        if len(found) < shortest:
            raise bad_request(f"Validation failed for {name}: size must be at least {shortest}")
        return found

    def optional_text(self, name: str, *, longest: int | None = None) -> str | None:
        """Text of at most `longest` characters, or None if the field is null or absent."""
        found = self._values.get(name)
        if found is None:
            return None
        if isinstance(found, (dict, list)):
            raise bad_request(f"JSON parse error: Cannot deserialize {name}: not text")
        text = found if isinstance(found, str) else str(found)
        if longest is not None and len(text) > longest:
            raise bad_request(f"Validation failed for {name}: size must be at most {longest}")
        return text

    def comment(self, name: str) -> str | None:
        """A comment, or None if the field is null or absent; 500 if the comment is too long for its database column."""
        text = self.optional_text(name)
        if text is not None:
            check_column(text, "COMMENT_TEXT", COMMENT_BYTES)
        return text

    def text_or_null(self, name: str) -> str | None:
        """Text, or None if the field is null; 400 if the field is absent."""
        if name not in self._values:
            raise _missing(name)
        return self.optional_text(name)

    def choice(self, name: str, allowed: Collection[str]) -> str:
        """Required text that must be one of `allowed`."""
        found = self.text(name)
        if found not in allowed:
            raise bad_request(f"JSON parse error: Cannot deserialize {name} from '{found}': not one of the values")
        return found

    def number(self, name: str) -> int:
        """A required whole number."""
        found = self.optional_number(name)
        if found is None:
            raise _missing(name)
        return found

    def optional_number(self, name: str) -> int | None:
        """A whole number, possibly sent as a string of digits, or None if the field is null or absent."""
        found = self._values.get(name)
        return None if found is None else _whole(found, name)

    def numbers(self, name: str) -> list[int]:
        """A required array of whole numbers."""
        return [_whole(item, name) for item in self._list(name, required=True)]

    def money(self, name: str) -> Decimal | None:
        """A decimal number, or None if the field is null or absent."""
        found = self._values.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, (int, float, str)):
            raise bad_request(f"JSON parse error: Cannot deserialize {name}: not a number")
        try:
            number = Decimal(str(found))
        except ArithmeticError:
            number = Decimal("NaN")
        if not number.is_finite():
            raise bad_request(f"JSON parse error: Cannot deserialize {name}: not a number")
        return number

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false. If the field is null or absent, the result is the default, or 400 if there is no default."""
        found = self._values.get(name)
        if found is None:
            if default is None:
                raise _missing(name)
            return default
        if not isinstance(found, bool):
            raise bad_request(f"JSON parse error: Cannot deserialize {name}: not a boolean")
        return found

    def day(self, name: str) -> date:
        """Returns a required date. Refuses a missing or malformed date with 400."""
        return read_date(self.text(name), name)

    def optional_day(self, name: str) -> date | None:
        """A date, or None if the field is null or absent."""
        found = self.optional_text(name)
        return None if found is None else read_date(found, name)

    def clock_time(self, name: str) -> time:
        """A required time of day."""
        return read_time(self.text(name), name)

    def moment(self, name: str) -> datetime:
        """A required local date and time."""
        return read_moment(self.text(name), name)

    def objects(self, name: str, *, required: bool) -> list[Fields]:
        """The objects in an array, or an empty list if the field is null or absent and not `required`."""
        return [Fields(item) for item in self._list(name, required=required)]

    def _list(self, name: str, *, required: bool) -> list[Any]:
        found = self._values.get(name)
        if found is None:
            if required:
                raise _missing(name)
            return []
        if not isinstance(found, list):
            raise bad_request(f"JSON parse error: Cannot deserialize {name}: not an array")
        return found


def _whole(found: object, name: str) -> int:
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    if isinstance(found, str) and found.removeprefix("-").isdecimal():
        return int(found)
    raise bad_request(f"JSON parse error: Cannot deserialize {name}: not a whole number")


def _missing(name: str) -> Refused:
    return bad_request(
        f"JSON parse error: value failed for JSON property {name} due to missing (therefore NULL) value for it"
    )
