"""Makes read-only SQL that people run in the NOMIS database to find rows that no service lists.

The values come from messages and services, so each is checked before it is put into a statement.
"""

import re
from collections.abc import Mapping
from datetime import date, time

_SCHEMA = "OMS_OWNER"
_NAME = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
_CODE = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


def select(table: str, order: str, conditions: Mapping[str, str]) -> str:
    """The statement that selects the rows of `table` that meet all `conditions`.

    order: the column by which the rows are ordered. conditions: the literal that each column or expression must equal.
    """
    assert _NAME.fullmatch(table)
    where = " AND ".join(f"{column} = {literal}" for column, literal in conditions.items())
    # The statement is only for people to read and paste, and every value was checked.
    return f"SELECT * FROM {_SCHEMA}.{table} WHERE {where} ORDER BY {order};"  # noqa: S608


def number(value: object) -> str:
    """The literal for a whole number. Raises `ValueError` for anything else."""
    return _checked(_DIGITS, value)


def code(value: object) -> str:
    """The literal for a code of up to 40 letters, digits, hyphens and underscores.

    Raises `ValueError` for anything else.
    """
    return f"'{_checked(_CODE, value)}'"


def day(value: object) -> str:
    """The literal for a date in ISO form. Raises `ValueError` for anything else."""
    return f"DATE '{date.fromisoformat(str(value)).isoformat()}'"


def minute(value: object) -> str:
    """The literal for a time of day, to the minute, for a comparison with the expression that `clock` returns.

    Raises `ValueError` for anything else.
    """
    return f"'{time.fromisoformat(str(value)):%H:%M}'"


def clock(column: str) -> str:
    """The expression for the time of day, to the minute, of a column that holds a date and a time."""
    return f"TO_CHAR({column}, 'HH24:MI')"


def _checked(pattern: re.Pattern[str], value: object) -> str:
    text = str(value)
    if pattern.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not allowed in a statement")
    return text
