"""The types of text and time columns, and the function that writes the text of JSON columns.

They make anything that comes from a message or response fit to be stored. PostgreSQL rejects NUL characters, lone
surrogates, and text that is too long for its column; SQLite accepts some of these. If a row were rejected because of
such text, all rows in the same transaction would be lost.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import DateTime, Dialect, String, Text, TypeDecorator
from sqlalchemy.types import TypeEngine

from sync.store.shared_clock import shared_clock

#: The largest number that a column of 64 bits holds. In JSON, larger numbers, and those below -LARGEST_INTEGER, are
#: stored as text, because SQLite returns them as inexact floating-point numbers.
LARGEST_INTEGER = 2**63 - 1
_HASH_LENGTH = 24


def storable(text: str) -> str:
    """The text without NUL characters or lone surrogates, which cannot be stored."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    return text if text.isascii() else text.encode(errors="ignore").decode()


class DisplayText(TypeDecorator[str]):
    """Text for people. Characters that cannot be stored are removed, and text that is too long is cut."""

    impl = Text
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        """`length` is the limit of the column in characters, or None for no limit."""
        super().__init__()
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:  # noqa: ARG002
        """The database type: text of at most `length` characters, or of any length if there is no limit."""
        return Text() if self.length is None else String(self.length)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """The text that is stored for `value`, or that a column is compared with instead of `value`."""
        return None if value is None else self.stored(value)

    def stored(self, value: str) -> str:
        """The text that is stored for `value`."""
        return storable(value)[: self.length]


class IdentifierText(DisplayText):
    """Text that identifies something.

    If it cannot be stored unchanged, characters that cannot be stored are removed, the rest is cut if necessary, and a
    hash of the original text is added. That way, different values stay different, and a look-up by the original text
    finds the row.
    """

    cache_ok = True

    def stored(self, value: str) -> str:
        """The text that is stored for `value`: `value` itself if the column can hold it."""
        clean = storable(value)
        length = self.length or len(value)
        if clean == value and len(clean) <= length:
            return value
        ending = f"~{hashlib.sha256(value.encode(errors='surrogatepass')).hexdigest()[:_HASH_LENGTH]}"
        return clean[: max(0, length - len(ending))] + ending


class UtcDateTime(TypeDecorator[datetime]):
    """A date-time with a time zone. It is stored in UTC; SQLite, which has no time zones, stores it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time in UTC. Raises `ValueError` for a date-time without a time zone, since its zone would be a guess."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a date-time without a time zone cannot be stored")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """The stored date-time, with UTC as its time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SharedDateTime(UtcDateTime):
    """A time that processes compare with the current time, stored as a time on the clock that they all share.

    It is converted to the process's own clock when it is read, and to the shared clock when it is stored or when a
    query compares it with a column.
    """

    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time on the shared clock."""
        shared = None if value is None else value + shared_clock(dialect).ahead()
        return super().process_bind_param(shared, dialect)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time on the process's own clock."""
        shared = super().process_result_value(value, dialect)
        return None if shared is None else shared - shared_clock(dialect).ahead()


def written_json(value: object) -> str:
    """The text for `value` in a JSON column, without characters that a database or a JSON parser rejects.

    Dataclass instances become JSON objects with the same fields, and numbers beyond `LARGEST_INTEGER` become text.
    """
    try:
        # Without this option, orjson writes numbers up to 2**64 - 1; with it, it refuses any that need over 53 bits.
        written = orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER)
    except TypeError:
        written = orjson.dumps(_storable_json(value))
    if b"\\u0000" in written:
        written = orjson.dumps(_storable_json(value))
    return written.decode()


def _storable_json(value: object) -> Any:
    match value:
        case str():
            return storable(value)
        case bool():
            return value
        case int() if abs(value) > LARGEST_INTEGER:
            return str(value)
        case Mapping():
            return {_storable_json(name): _storable_json(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_storable_json(inner) for inner in value]
        case _ if is_dataclass(value):
            return {each.name: _storable_json(getattr(value, each.name)) for each in fields(value)}
    return value
