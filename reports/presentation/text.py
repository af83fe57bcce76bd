"""Prisoner numbers and booking ids as they are shown where others read along: whole, or but for two characters."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OFFENDER_NO = re.compile(r"\b[A-Z]\d{4}([A-Z]{2})\b")
#: `booking 714893`, as we write it, and `/booking-id/714893/` or `"bookingId": 714893`, as services do.
_BOOKING = re.compile(r"(booking(?:[-_ ]?ids?)?[\"']?\s?[ /:=]\s?)\d*(\d\d)\b", re.IGNORECASE)
#: No asterisks: Slack would take them for bold type.
_HIDDEN = "•••••"


@dataclass(frozen=True, slots=True)
class Masking:
    """How numbers are shown; with `on` they are masked, also inside texts and commands."""

    on: bool = False

    def offender(self, offender_no: str) -> str:
        """A prisoner number."""
        return _HIDDEN + offender_no[-2:] if self.on else offender_no

    def booking(self, booking_id: int | None) -> str:
        """A booking id; empty when there is none."""
        if booking_id is None:
            return ""
        return _HIDDEN + str(booking_id)[-2:] if self.on else str(booking_id)

    def text(self, text: str) -> str:
        """A text in which numbers may stand."""
        if not self.on:
            return text
        return _BOOKING.sub(rf"\1{_HIDDEN}\2", _OFFENDER_NO.sub(rf"{_HIDDEN}\1", text))
