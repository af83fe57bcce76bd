"""Codes of levels and prisons: validated, and encoded as category numbers so that columns stay small."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from sync.domains.incentives import dps as incentives_api
from sync.failures import RuleError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sync.upstream.transport import ServiceClient

#: The number of "none": no level, no prison.
NONE = -1
#: The longest code of a level, and of a prison.
LONGEST_LEVEL = 12
LONGEST_PRISON = 6
#: The most different codes of a column; a prisoner with one more is not read.
MOST_TEXTS = 1_000


class Codebook:
    """Gives each code the next number, from 0; a number never changes. Safe to share between threads.

    There is room for `MOST_TEXTS`; `RuleError` is raised for a further one.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()
        for text in texts:
            self.number(text)

    def number(self, text: str | None) -> int:
        """The number of `text`, `NONE` for None."""
        if text is None:
            return NONE
        known = self._numbers.get(text)
        if known is not None:
            return known
        with self._lock:
            if text not in self._numbers:
                if len(self.texts) >= MOST_TEXTS:
                    raise RuleError(f"there are more than {MOST_TEXTS:,} different codes")
                self.texts.append(text)
                self._numbers[text] = len(self.texts) - 1
            return self._numbers[text]

    def text(self, number: int) -> str | None:
        """The text of a number, None for `NONE`."""
        return None if number == NONE else self.texts[number]


def names_to_codes(incentives: ServiceClient) -> dict[str, str]:
    """The code of each level name of DPS, inactive levels included; names that two levels share are left out.

    Raises `UpstreamError` when the levels cannot be read.
    """
    codes: dict[str, str] = {}
    shared: set[str] = set()
    for level in incentives_api.levels(incentives):
        if level.name in codes:
            shared.add(level.name)
        if is_code(level.code, LONGEST_LEVEL):
            codes[level.name] = level.code
        else:
            # A prisoner with this level is read singly, and reported.
            shared.add(level.name)
    return {name: code for name, code in codes.items() if name not in shared}


@lru_cache(maxsize=4 * MOST_TEXTS)
def is_code(text: str, longest: int) -> bool:
    """Whether a text is a code: printable, without blanks, and no longer than the columns that keep it."""
    return 0 < len(text) <= longest and text.isprintable() and " " not in text


def level_code(code: object, response: str) -> str:
    """A valid level code; raises `RuleError`, which names the `response`, for anything else."""
    if not isinstance(code, str) or not is_code(code, LONGEST_LEVEL):
        raise RuleError(f"{response}: the level is not a code of 1 to {LONGEST_LEVEL} characters")
    return code


def prison_code(code: object, response: str) -> str | None:
    """A valid prison code, or None; raises `RuleError` as `level_code` does."""
    if code is None:
        return None
    if not isinstance(code, str) or not is_code(code, LONGEST_PRISON):
        raise RuleError(f"{response}: the prison is not a code of 1 to {LONGEST_PRISON} characters")
    return code


def level_of_record(body: object, booking_id: int) -> tuple[str, str | None]:
    """Level code and prison of an IEP record as NOMIS gives it.

    Raises `RuleError` for the record of another booking, or an invalid code.
    """
    response = f"nomis: GET /incentives/booking-id/{booking_id}/current"
    if not isinstance(body, dict) or body.get("bookingId") != booking_id:
        raise RuleError(f"{response}: the response is not a record of this booking")
    level = body.get("iepLevel")
    code = level_code(level.get("code") if isinstance(level, dict) else None, response)
    return code, prison_code(body.get("prisonId"), response)
