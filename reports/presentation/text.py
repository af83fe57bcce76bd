"""Values as texts: numbers, dates, and texts from other systems, which are made safe to show."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from datetime import date, datetime
from typing import TYPE_CHECKING

from sync.clock import LONDON

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Control characters, formatting such as changes of direction, and lone surrogates. A NUL ends the text for some
#: readers.
_CONTROL_CATEGORIES = frozenset({"Cc", "Cf", "Cs"})
#: The control categories, and the separators of lines and paragraphs.
_STEERING_CATEGORIES = _CONTROL_CATEGORIES | {"Zl", "Zp"}
_LINE_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def without_control_characters(text: str) -> str:
    """The text without characters that control a terminal or the reading direction; line breaks stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each for each in text if each == "\n" or unicodedata.category(each) not in _CONTROL_CATEGORIES)


def plain(text: str) -> str:
    """The text on one line, without characters that control a terminal or the reading direction."""
    if text.isascii() and text.isprintable():
        return text
    spaced = _LINE_BREAKS.sub(" ", text)
    return "".join(each for each in spaced if unicodedata.category(each) not in _STEERING_CATEGORIES)


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def thousands(number: int) -> str:
    """A number with thousands separators: `87,012`."""
    return f"{number:,}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: `1 page`, `2,000 pages`. Without `plural`, the plural is the noun with an `s`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def local(moment: datetime) -> datetime:
    """A moment in London time; a naive moment counts as London time."""
    return moment if moment.tzinfo is None else moment.astimezone(LONDON)


def day(moment: datetime | date) -> str:
    """A day, or the day on which a moment falls in London: `22 May 2023`."""
    here = local(moment) if isinstance(moment, datetime) else moment
    return f"{here.day} {here:%B %Y}"


def short_moment(moment: datetime) -> str:
    """A moment in London time to the minute, as messages and pages show it: `22 May 2023 at 04:00`."""
    return f"{day(moment)} at {local(moment):%H:%M}"


def exact_moment(moment: datetime) -> str:
    """A moment in London time to the second, because records can be seconds apart: `22 May 2023 at 04:00:07`."""
    return f"{day(moment)} at {local(moment):%H:%M:%S}"


def distinct_times(moments: Sequence[datetime]) -> list[str]:
    """The time of each moment, as exact as needed to distinguish the moments; empty for the only moment on a day."""
    days = Counter(day(each) for each in moments)
    minutes = Counter(short_moment(each) for each in moments)

    def time(moment: datetime) -> str:
        if minutes[short_moment(moment)] > 1:
            return f"{local(moment):%H:%M:%S}"
        return f"{local(moment):%H:%M}" if days[day(moment)] > 1 else ""

    return [time(each) for each in moments]


def distinct_moments(moments: Sequence[datetime]) -> list[str]:
    """Each moment to the minute, or to the second if several moments fall in the same minute."""
    minutes = Counter(short_moment(each) for each in moments)
    return [exact_moment(each) if minutes[short_moment(each)] > 1 else short_moment(each) for each in moments]
