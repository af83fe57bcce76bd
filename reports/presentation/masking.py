"""Masking of prisoner numbers and booking ids, in single texts and in a whole page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.engine.result import ReconciliationResult

_OFFENDER_NO = re.compile(r"\b[A-Z]\d{4}([A-Z]{2})\b")
#: A booking id, as in our texts (`booking 714893`) or as services write it (`/bookings/714893`, `/booking-id/714893/`,
#: `"bookingId": 714893`).
_BOOKING = re.compile(r"(bookings?(?:[-_ ]?ids?)?[\"']?\s?[ /:=]\s?)\d*(\d\d)\b", re.IGNORECASE)
#: No asterisks: Slack would take them for bold type.
_HIDDEN = "•••••"
#: The fewest digits of a booking id that is masked; a shorter number could be any figure on the page.
_SHORTEST_BOOKING = 5


@dataclass(frozen=True, slots=True)
class Masking:
    """Shows prisoner numbers and booking ids in full or, when `on`, only their last two characters."""

    on: bool = False

    def offender(self, offender_no: str) -> str:
        """A prisoner number, masked if masking is on."""
        return _HIDDEN + offender_no[-2:] if self.on else offender_no

    def booking(self, booking_id: int | None) -> str:
        """A booking id as text, masked if masking is on, or empty for None."""
        if booking_id is None:
            return ""
        return _HIDDEN + str(booking_id)[-2:] if self.on else str(booking_id)

    def text(self, text: str) -> str:
        """`text`, with the prisoner numbers and booking ids in it masked if masking is on."""
        if not self.on:
            return text
        return _BOOKING.sub(rf"\1{_HIDDEN}\2", _OFFENDER_NO.sub(rf"{_HIDDEN}\1", text))


#: Shows everything.
UNMASKED = Masking()


def masked_page(page: str, result: ReconciliationResult, masking: Masking) -> str:
    """The page of `result`. If masking is on, prisoner numbers and the booking ids of the result are masked.

    A booking id with fewer than `_SHORTEST_BOOKING` digits is masked only where the page says that it is a booking id.
    """
    if not masking.on:
        return page
    bookings = {str(each) for each in _bookings(result.model_dump())}
    known = sorted(each for each in bookings if len(each) >= _SHORTEST_BOOKING)
    if known:
        page = re.sub(rf"\b({'|'.join(known)})\b", lambda found: masking.booking(int(found[0])), page)
    return masking.text(page)


def _bookings(value: Any, name: str = "") -> Iterator[int]:
    """Yields every booking id in a result: each number whose key, or whose field, has `booking` in its name."""
    if isinstance(value, dict):
        field = str(value.get("field", ""))
        for key, each in value.items():
            yield from _bookings(each, field if key in ("nomis", "dps") else str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _bookings(each, name)
    elif isinstance(value, int) and not isinstance(value, bool) and "booking" in name:
        yield value
