"""Known differences that are not reported: a list of bookings, each with a reason and a date."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from sync.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_LONGER_NEEDED = "the levels agree now: remove the booking from the list of exclusions"
_SETTING = "RECONCILIATION_EXCLUSIONS"
_NO_REASON = "no reason given"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A booking whose difference is known: why, and since when it is on the list."""

    booking_id: int
    reason: str
    since: date | None = None


def read_exclusions(setting: str | None) -> Mapping[int, Exclusion]:
    """The exclusions of the setting: a CSV file `bookingId,reason,date`, or the same lines separated by `;`.

    Reason and date may be left out; empty lines, lines that begin with `#` and a heading are passed over. Raises
    `SettingsError`, one line that names the setting and the faulty line.
    """
    if setting is None or not setting.strip():
        return {}
    text = setting.strip()
    lines, place = (text.split(";"), "") if text[0].isdigit() else _lines_of_file(text)
    found: dict[int, Exclusion] = {}
    for number, row in enumerate(csv.reader(line.strip() for line in lines), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#") or (number == 1 and cells[0].lower() == "bookingid"):
            continue
        exclusion = _exclusion(cells, f"line {number}{place}")
        found[exclusion.booking_id] = exclusion
    return found


def _lines_of_file(text: str) -> tuple[Sequence[str], str]:
    """The lines of the file, and where they are; of what is no file but has cells, the lines that it is meant to be."""
    try:
        return Path(text).read_text(encoding="utf-8-sig").splitlines(), f" of {text}"
    except UnicodeDecodeError as error:
        raise SettingsError(f"{_SETTING}: the file {text} cannot be read: it is no UTF-8 text") from error
    except OSError as error:
        if "," in text:
            return text.split(";"), ""
        raise SettingsError(f"{_SETTING}: the file {text} cannot be read: {error.strerror}") from error


def _exclusion(cells: list[str], where: str) -> Exclusion:
    if not cells[0].isdigit():
        raise SettingsError(f"{_SETTING}: {where}: {cells[0]!r} is no booking id; write bookingId,reason,date")
    reason = cells[1] if len(cells) > 1 and cells[1] else _NO_REASON
    since = None
    if len(cells) > 2 and cells[2]:
        try:
            since = date.fromisoformat(cells[2])
        except ValueError as error:
            raise SettingsError(f"{_SETTING}: {where}: {cells[2]!r} is no date such as 2023-05-22") from error
    return Exclusion(int(cells[0]), reason, since)
