"""What a view gives of a record: values, tables and the meanings of codes, all as plain text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from reports.presentation.text import day, exact_moment, local, short_moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reports.engine.result import Value

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")


@dataclass(frozen=True, slots=True)
class ShownValue:
    """A value of one side: what it is of, empty where that is plain, the value, and a remark."""

    label: str
    value: str
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.label} {self.value}".strip()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; its first cell names it. marked: the row is emphasised."""

    cells: tuple[str, ...]
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the report."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of a kind that occur, each with its meaning, which is empty where it is not known."""

    title: str
    rows: tuple[tuple[str, str], ...]
    note: str = ""

    @property
    def known(self) -> tuple[tuple[str, str], ...]:
        """The codes with a meaning."""
        return tuple((code, meaning) for code, meaning in self.rows if meaning)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The codes without one."""
        return tuple(code for code, meaning in self.rows if not meaning)


def named_codes(title: str, meanings: Mapping[str, str], found: Iterable[str | None]) -> Codes:
    """The codes of `found`, those with a meaning first and in its order; None and empty texts do not count as codes."""
    occurring = {code for code in found if code}
    usual = [code for code in meanings if code in occurring]
    return Codes(title, tuple((code, meanings.get(code, "")) for code in [*usual, *sorted(occurring - {*usual})]))


def column_words(name: str) -> str:
    """A column or a code in words: `booking id`, `NOMIS id`."""
    return re.sub(r"\b(nomis|dps)\b", lambda found: found[0].upper(), re.sub(r"[_-]", " ", name))


def value_text(value: Value) -> str:
    """A value as people read it: dates as `22 May 2023`, "none" for none."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    try:
        if _DATE.fullmatch(text):
            return day(date.fromisoformat(text))
        if _MOMENT.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return exact_moment(moment) if local(moment).second else short_moment(moment)
    except ValueError:
        pass
    return text
