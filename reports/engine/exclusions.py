"""Known differences that are not reported: the list of bookings, and what a run found of them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from reports.reconciliations.incentives.result import IncentiveExcluded
from sync.settings.loading import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from reports.engine.recheck import Levels, Rechecked
    from reports.reconciliations.incentives.frame import LevelFrame
    from reports.reconciliations.incentives.result import IncentiveUnread

NO_LONGER_NEEDED = "the levels agree now: remove the booking from the list of exclusions"
_SETTING = "RECONCILIATION_EXCLUSIONS"
_HOW = "write bookingId,reason,date for each booking, such as: 1204417,merged by hand,2023-05-22"
#: ASCII digits alone, in the range of the 64-bit integers of the database.
_BOOKING_ID = re.compile(r"[1-9][0-9]{0,17}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: A prisoner number, or what a spreadsheet or a script writes where it has nothing.
_NO_REASON = re.compile(r"[a-z]\d{4}[a-z]{2}|null|none|nan|n/a|#n/a", re.IGNORECASE)
_HEADING = "bookingid"
#: A setting without any of these can only be the name of a file.
_OF_ENTRIES = re.compile(r"[,;\n]|\A[0-9]+\Z")
_LINE_END = re.compile(r"\r\n|\r|\n")
_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A booking whose difference is known, with the reason and the date of the entry."""

    booking_id: int
    reason: str
    since: date | None = None


class _InvalidEntry(Exception):
    """An entry is invalid; the text says why."""


def read_exclusions(setting: str | None) -> Mapping[int, Exclusion]:
    """The exclusions of the setting: the name of a CSV file `bookingId,reason,date`, or such lines separated by `;`.

    The date may be left out; empty lines, lines that begin with `#` and a heading are skipped.
    Raises `SettingsError`, one line that names the faulty entry and shows how to write it.
    """
    text = (setting or "").replace("\ufeff", "").strip()
    if not text:
        return {}
    found: dict[int, Exclusion] = {}
    heading_may_come = True
    for where, line in _entries(text):
        try:
            cells = _cells(line)
            if heading_may_come and re.sub(r"[\s_-]", "", cells[0]).lower() == _HEADING:
                continue
            exclusion = _exclusion(cells)
            if found.get(exclusion.booking_id, exclusion) != exclusion:
                raise _InvalidEntry(f"booking {exclusion.booking_id} is on the list twice, and differently")
        except _InvalidEntry as fault:
            raise SettingsError(f"{_SETTING}: {where}: {fault}; {_HOW}") from None
        finally:
            heading_may_come = False
        found[exclusion.booking_id] = exclusion
    return found


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Each entry with its position; empty entries and comments are skipped."""
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
    """The content of the file of this name; None if it is not a file but the inline entries."""
    if "\n" in text:
        return None
    try:
        return Path(text).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{_SETTING}: the file {text} cannot be read: it is not UTF-8 text; {_HOW}") from None
    except (OSError, ValueError) as error:
        if _OF_ENTRIES.search(text):
            return None
        why = error.strerror if isinstance(error, OSError) else "it is not the name of a file"
        raise SettingsError(f"{_SETTING}: the file {_shown(text)} cannot be read: {why}; or {_HOW}") from None


def _cells(entry: str) -> list[str]:
    try:
        (cells,) = csv.reader([entry], strict=True, skipinitialspace=True)
    except csv.Error:
        raise _InvalidEntry(f"{_shown(entry)} has a quote that is not closed, or text after one") from None
    cells = [cell.strip() for cell in cells]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    return cells


def _exclusion(cells: list[str]) -> Exclusion:
    booking_id, reason, since, *more = [*cells, *[""] * (3 - len(cells))]
    if not _BOOKING_ID.fullmatch(booking_id):
        raise _InvalidEntry(f"{_shown(booking_id)} is not a booking id")
    if not reason:
        raise _InvalidEntry(f"booking {booking_id} has no reason")
    if not reason.isprintable():
        raise _InvalidEntry(f"the reason {_shown(reason)} has characters that cannot be shown")
    if not any(letter.isalpha() for letter in reason) or _NO_REASON.fullmatch(reason):
        raise _InvalidEntry(f"{_shown(reason)} is not a reason for booking {booking_id}")
    if more:
        raise _InvalidEntry(f"booking {booking_id} has {len(cells)} values (a reason with a comma needs double quotes)")
    return Exclusion(int(booking_id), reason, _date(since) if since else None)


def _date(text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise _InvalidEntry(f"{_shown(text)} is not a date such as 2023-05-22 (a reason with a comma needs double quotes)")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def excluded_bookings(
    exclusions: Mapping[int, Exclusion],
    rechecked: Rechecked,
    final: LevelFrame,
    unread: Sequence[IncentiveUnread],
    first_levels: Mapping[int, Levels],
) -> tuple[IncentiveExcluded, ...]:
    """What a run found of the bookings on the list, by booking id; those it did not see are left out.

    final: the levels after the recheck. first_levels: those that differed before it.
    """
    if not exclusions:
        return ()
    differing = {pair.booking_id: pair for pair in (*rechecked.confirmed, *(pair for pair, _ in rechecked.in_flight))}
    failed = {each.booking_id: each for each in unread}
    levels = {
        int(booking_id): final.levels.text(int(level))
        for booking_id, level in zip(final.bookings, final.nomis, strict=True)
        if int(booking_id) in exclusions
    }
    found = []
    for booking_id, exclusion in sorted(exclusions.items()):
        pair = differing.get(booking_id)
        if booking_id in failed:
            nomis, dps = first_levels.get(booking_id, (None, None))
            found.append(
                IncentiveExcluded(
                    offender_no=failed[booking_id].offender_no,
                    booking_id=booking_id,
                    nomis_level=nomis,
                    dps_level=dps,
                    reason=exclusion.reason,
                    still_differs=True,
                    since=exclusion.since,
                    unread=failed[booking_id].reason,
                )
            )
        elif pair is not None or booking_id in levels:
            found.append(
                IncentiveExcluded(
                    offender_no=final.offenders[booking_id],
                    booking_id=booking_id,
                    nomis_level=pair.nomis_level if pair else levels[booking_id],
                    dps_level=pair.dps_level if pair else levels[booking_id],
                    reason=exclusion.reason if pair else NO_LONGER_NEEDED,
                    still_differs=pair is not None,
                    since=exclusion.since,
                )
            )
    return tuple(found)


def unneeded_exclusions(
    exclusions: Mapping[int, Exclusion], excluded: Sequence[IncentiveExcluded], active: Collection[int] | None
) -> tuple[str, ...]:
    """The entries that may be removed: the levels agree, or the booking is not `active` (None: that is not known)."""
    agree = [f"{each.offender_no}, booking {each.booking_id}" for each in excluded if not each.still_differs]
    if active is None:
        return tuple(agree)
    gone = [f"booking {each}, which is not active" for each in sorted(exclusions) if each not in active]
    return (*agree, *gone)
