"""Read-only SQL for the NOMIS database, to paste where rows have to be looked up by hand because no service lists them.

The values come from messages and services: each is checked to be what it should be before it is put into a statement.
"""

import re
from collections.abc import Mapping
from datetime import date, time

_SCHEMA = "OMS_OWNER"
_NAME = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
_CODE = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


def select(table: str, order: str, conditions: Mapping[str, str]) -> str:
    """The statement for the rows of a table whose columns or expressions equal their literals, ordered by a column."""
    assert _NAME.fullmatch(table)
    where = " AND ".join(f"{column} = {literal}" for column, literal in conditions.items())
    # Only made for people to read and paste; every value was checked.
    return f"SELECT * FROM {_SCHEMA}.{table} WHERE {where} ORDER BY {order};"  # noqa: S608


def number(value: object) -> str:
    """A number. Raises `ValueError` for anything else."""
    return _checked(_DIGITS, value)


def code(value: object) -> str:
    """A code of letters, digits, hyphens and underscores. Raises `ValueError` for anything else."""
    return f"'{_checked(_CODE, value)}'"


def day(value: object) -> str:
    """A date in ISO form. Raises `ValueError` for anything else."""
    return f"DATE '{date.fromisoformat(str(value)).isoformat()}'"


def minute(value: object) -> str:
    """A time of day in ISO form, to the minute, for a column of `clock`. Raises `ValueError` for anything else."""
    return f"'{time.fromisoformat(str(value)):%H:%M}'"


def clock(column: str) -> str:
    """An expression for the time of day, to the minute, of a column that has a date and a time."""
    return f"TO_CHAR({column}, 'HH24:MI')"


def _checked(pattern: re.Pattern[str], value: object) -> str:
    text = str(value)
    if pattern.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not allowed in a statement")
    return text
