"""The pieces of a view, all plain text: values of a record, tables, and codes with their meanings."""

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
    """A value that one side has. label: the name of its field, or empty if obvious. remark: a note on it, or empty."""

    label: str
    value: str
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.label} {self.value}".strip()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table. cells: the first one names the row. marked: whether the row is emphasised."""

    cells: tuple[str, ...]
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the report: its caption, the headings of its columns, and its rows."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of one kind in a report.

    rows: each code with its meaning, which is empty if unknown. note: a remark on the codes, or empty.
    """

    title: str
    rows: tuple[tuple[str, str], ...]
    note: str = ""

    @property
    def known(self) -> tuple[tuple[str, str], ...]:
        """The codes with a known meaning, each with that meaning."""
        return tuple((code, meaning) for code, meaning in self.rows if meaning)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The codes without a known meaning."""
        return tuple(code for code, meaning in self.rows if not meaning)


def named_codes(title: str, meanings: Mapping[str, str], found: Iterable[str | None]) -> Codes:
    """The codes in `found` except None and empty texts: those in `meanings`, in its order, then the others, sorted."""
    occurring = {code for code in found if code}
    usual = [code for code in meanings if code in occurring]
    return Codes(title, tuple((code, meanings.get(code, "")) for code in [*usual, *sorted(occurring - {*usual})]))


def column_words(name: str) -> str:
    """The name of a column, or a code, in words: `booking id`, `NOMIS id`."""
    return re.sub(r"\b(nomis|dps)\b", lambda found: found[0].upper(), re.sub(r"[_-]", " ", name))


def value_text(value: Value) -> str:
    """A value as people read it.

    Days are written as `22 May 2023`, moments as `22 May 2023 at 04:00` (with seconds if these are not zero), booleans
    as `yes` or `no`, and None as `none`.
    """
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
