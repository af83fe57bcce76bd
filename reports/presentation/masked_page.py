"""Masks a whole page: every prisoner number and every booking of its result, wherever they stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.engine.result import ReconciliationResult
    from reports.presentation.text import Masking

#: Digits of the shortest number that is taken for a booking; a shorter one could be any figure of the page.
_SHORTEST_BOOKING = 5


def masked_page(page: str, result: ReconciliationResult, masking: Masking) -> str:
    """The page as it is, or masked where `masking` is on."""
    if not masking.on:
        return page
    bookings = {str(each) for each in _bookings(result.model_dump())}
    known = sorted(each for each in bookings if len(each) >= _SHORTEST_BOOKING)
    if known:
        page = re.sub(rf"\b({'|'.join(known)})\b", lambda found: masking.booking(int(found[0])), page)
    return masking.text(page)


def _bookings(value: Any, name: str = "") -> Iterator[int]:
    """Every booking id in a result: numbers whose own name, or that of the field they are of, says so."""
    if isinstance(value, dict):
        field = str(value.get("field", ""))
        for key, each in value.items():
            yield from _bookings(each, field if key in ("nomis", "dps") else str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _bookings(each, name)
    elif isinstance(value, int) and not isinstance(value, bool) and "booking" in name:
        yield value
