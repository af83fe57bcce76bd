"""Texts as small numbers: level codes and prison codes are encoded as they arrive, so that columns stay small."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sync.failures import RuleError
from sync.upstream import incentives_api

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sync.upstream.transport import ServiceClient

#: The number of "none": no level, no prison.
NONE = -1


class Codebook:
    """Gives each text the next number, from 0; a number never changes. Safe to share between threads."""

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
        codes[level.name] = level.code
    return {name: code for name, code in codes.items() if name not in shared}


def level_of_record(body: object, booking_id: int) -> tuple[str, str | None]:
    """Level code and prison of an IEP record as NOMIS gives it; raises `RuleError` when it has no level code."""
    try:
        code = body["iepLevel"]["code"]  # type: ignore[index]
    except (KeyError, TypeError) as error:
        raise RuleError(
            f"nomis: GET /incentives/booking-id/{booking_id}/current: the answer has no level code"
        ) from error
    if not isinstance(code, str):
        raise RuleError(f"nomis: GET /incentives/booking-id/{booking_id}/current: the level code is no text")
    prison = body.get("prisonId")  # type: ignore[attr-defined]
    return code, prison if isinstance(prison, str) else None
