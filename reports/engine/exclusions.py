"""The list of exclusions: records whose known differences are not reported."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.alias_generators import to_camel

from sync.settings.loading import SettingsError
from sync.settings.variables import reconciliation_variable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pandas as pd

    from sync.settings.declaration import Settings

_BOOKING = ("booking_id",)
_HOW = "write {}, such as: 1204417,merged by hand,2023-05-22"
_OF_BOOKINGS = "bookingId,reason,date for each booking"
_OF_RECORDS = "key,reason,date for each record"
#: Only ASCII digits, in the range of the 64-bit integers of the database.
_BOOKING_ID = re.compile(r"[1-9][0-9]{0,17}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: Values that are not reasons: a prisoner number, or what a spreadsheet or a script writes for an empty value.
_NO_REASON = re.compile(r"[a-z]\d{4}[a-z]{2}|null|none|nan|n/a|#n/a", re.IGNORECASE)
_HEADINGS = frozenset({"bookingid", "key"})
#: A setting that matches neither of these patterns can only be the name of a file.
_OF_ENTRIES = re.compile(r"[,;\n]|\A[0-9]+\Z")
_LINE_END = re.compile(r"\r\n|\r|\n")
_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Exclusion:
    """An entry on the list: a record with a known difference.

    key: the booking id, if that identifies a record; otherwise the values of the key columns, joined by `/`, or the
    name and the value of one column, joined by `=`. reason: why the difference is accepted. since: the date of the
    entry, or None if it has none.
    """

    key: int | str
    reason: str
    since: date | None = None


class _InvalidEntry(Exception):
    """An entry is invalid; the text of the error says why."""


class _InvalidList(Exception):
    """The list cannot be read; the text of the error says why, and can be followed by advice on writing the list."""


class Exclusions:
    """The exclusions of one reconciliation, found by the key of a record.

    The object is iterable, and true if it has entries.
    """

    def __init__(self, entries: Mapping[Any, Exclusion], key_columns: Iterable[str]) -> None:
        self._entries = {str(key): exclusion for key, exclusion in entries.items()}
        self._columns = tuple(key_columns)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __iter__(self) -> Iterator[Exclusion]:
        return iter(self._entries.values())

    def find(self, key: Mapping[str, Any]) -> Exclusion | None:
        """The exclusion of the record with this `key`; None if the record is not on the list, or if `key` is empty."""
        if not self._entries or not key:
            return None
        whole = "/".join(str(key.get(column)) for column in self._columns)
        single = [f"{name}={value}" for column, value in key.items() for name in (column, to_camel(column))]
        return next((self._entries[text] for text in (whole, *single) if text in self._entries), None)

    def among(self, frame: pd.DataFrame, key_columns: Iterable[str]) -> pd.Series[bool]:
        """A mask of the rows whose records could be on the list: a key column has a value that an entry contains.

        `find` decides whether such a record is on the list. key_columns: the names of the key columns.
        """
        values = {part.rpartition("=")[2] for text in self._entries for part in text.split("/")}
        found = frame[next(iter(key_columns))].astype("string").isin(values)
        for column in key_columns:
            found |= frame[column].astype("string").isin(values)
        return found


def exclusions_of(settings: Settings, name: str, key_columns: Iterable[str]) -> Exclusions:
    """The exclusions of the reconciliation `name` in `settings`. Raises `SettingsError` for an invalid list."""
    variable = exclusions_variable(name)
    columns = tuple(key_columns)
    return Exclusions(
        read_exclusions(settings.reconciliation_variable(variable), variable, bookings=columns == _BOOKING), columns
    )


def exclusions_variable(name: str) -> str:
    """The name of the variable that holds the exclusions of the reconciliation `name`."""
    return reconciliation_variable(name, "EXCLUSIONS")


def read_exclusions(
    setting: str | None, variable: str = "RECONCILIATION_EXCLUSIONS", *, bookings: bool = True
) -> Mapping[int | str, Exclusion]:
    """The exclusions in a setting, by key.

    setting: the name of a CSV file with lines `bookingId,reason,date`, or the lines themselves, which can also be
    separated by `;`. The date is optional. A heading, empty lines, and lines that begin with `#` are skipped. variable:
    the name of the setting, for error messages. bookings: whether keys are booking ids; if not, any printable text can
    be a key. Raises `SettingsError` with one line that names the invalid entry, or the file that cannot be read, and
    shows how to write the list.
    """
    text = (setting or "").replace("\ufeff", "").strip()
    if not text:
        return {}
    found: dict[int | str, Exclusion] = {}
    heading_may_come = True
    how = _HOW.format(_OF_BOOKINGS if bookings else _OF_RECORDS)
    try:
        for where, line in _entries(text):
            try:
                cells = _cells(line)
                if heading_may_come and re.sub(r"[\s_-]", "", cells[0]).lower() in _HEADINGS:
                    continue
                exclusion = _exclusion(cells, bookings=bookings)
                if found.get(exclusion.key, exclusion) != exclusion:
                    raise _InvalidEntry(
                        f"{_noun(bookings)} {exclusion.key} is on the list twice, with different entries"
                    )
            except _InvalidEntry as fault:
                raise _InvalidEntry(f"{where}: {fault}; {how}") from None
            finally:
                heading_may_come = False
            found[exclusion.key] = exclusion
    except _InvalidList as fault:
        raise SettingsError(f"{variable}: {fault}{how}") from None
    except _InvalidEntry as fault:
        raise SettingsError(f"{variable}: {fault}") from None
    return found


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Yields, for each entry, its position in words and its text; empty entries and comments are skipped."""
    content = _file_content(text)
    if content is None:
        parts = [part for line in _LINE_END.split(text) for part in _split_entries(line)]
        numbered = ((f"entry {number}", part) for number, part in enumerate(parts, start=1))
    else:
        numbered = ((f"line {number} of {text}", line) for number, line in enumerate(_LINE_END.split(content), start=1))
    for where, entry in numbered:
        stripped = entry.strip()
        if stripped.strip(", ") and not stripped.startswith(("#", '"#')):
            yield where, stripped


def _split_entries(line: str) -> list[str]:
    """The entries of one line, separated by semicolons outside quotes."""
    pieces = line.split('"')
    pieces[::2] = [outside.replace(";", "\n") for outside in pieces[::2]]
    return '"'.join(pieces).split("\n")


def _file_content(text: str) -> str | None:
    """The content of the file with the name `text`; None if `text` is not a file name but the entries themselves.

    Raises `_InvalidList` if the file cannot be read.
    """
    if "\n" in text:
        return None
    try:
        return Path(text).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _InvalidList(f"the file {text} cannot be read: it is not UTF-8 text; ") from None
    except (OSError, ValueError) as error:
        if _OF_ENTRIES.search(text):
            return None
        why = error.strerror if isinstance(error, OSError) else "it is not the name of a file"
        raise _InvalidList(f"the file {_shown(text)} cannot be read: {why}; name a readable file, or ") from None


def _cells(entry: str) -> list[str]:
    try:
        (cells,) = csv.reader([entry], strict=True, skipinitialspace=True)
    except csv.Error:
        raise _InvalidEntry(f"{_shown(entry)} has a quote that is not closed, or text after a closing quote") from None
    cells = [cell.strip() for cell in cells]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    return cells


def _exclusion(cells: list[str], *, bookings: bool) -> Exclusion:
    key, reason, since, *more = [*cells, *[""] * (3 - len(cells))]
    noun = _noun(bookings)
    if bookings and not _BOOKING_ID.fullmatch(key):
        raise _InvalidEntry(f"{_shown(key)} is not a booking id")
    if not key or not key.isprintable():
        raise _InvalidEntry(f"{_shown(key)} is not a key")
    if not reason:
        raise _InvalidEntry(f"{noun} {key} has no reason")
    if not reason.isprintable():
        raise _InvalidEntry(f"the reason {_shown(reason)} has characters that cannot be shown")
    if not any(letter.isalpha() for letter in reason) or _NO_REASON.fullmatch(reason):
        raise _InvalidEntry(f"{_shown(reason)} is not a reason for {noun} {key}")
    if more:
        raise _InvalidEntry(f"{noun} {key} has {len(cells)} values (a reason with a comma needs double quotes)")
    return Exclusion(int(key) if bookings else key, reason, _date(since) if since else None)


def _noun(bookings: bool) -> str:
    return "booking" if bookings else "record"


def _date(text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise _InvalidEntry(f"{_shown(text)} is not a date such as 2023-05-22 (a reason with a comma needs double quotes)")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")
