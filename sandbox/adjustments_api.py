"""The adjustments API: days added to and taken off sentences and key dates."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_today
from sandbox.serving import Refused, Reply, Request, Route
from sandbox.visit_scheduler import MOCK_PRISONER

if TYPE_CHECKING:
    from sandbox.world import World

ROLE: Final = "SENTENCE_ADJUSTMENTS_SYNCHRONISATION"
CONTENT_TYPE: Final = "application/vnd.nomis-offence+json"
MOCK_BOOKING: Final = 1_201_725
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(slots=True)
class DpsAdjustment:
    """One adjustment; `sentence` is the sequence of the sentence, None for one of a key date."""

    id: str
    booking_id: int
    offender_no: str
    sentence: int | None
    type: str
    day: date | None
    start: date | None
    days: int
    comment: str | None
    active: bool = True
    source: str = "DPS"


@dataclass(slots=True)
class AdjustmentsState:
    """The adjustments by id; with `mocks` an unknown id is answered with a canned adjustment."""

    adjustments: dict[str, DpsAdjustment] = field(default_factory=dict)
    mocks: bool = False

    def find(self, adjustment_id: str) -> DpsAdjustment | None:
        """The adjustment with this id, where mocks are on else a canned one (of a sentence when the id ends in `S`)."""
        found = self.adjustments.get(adjustment_id)
        if found is not None or not self.mocks:
            return found
        of_sentence = adjustment_id.endswith("S")
        return DpsAdjustment(
            id=adjustment_id,
            booking_id=MOCK_BOOKING,
            offender_no=MOCK_PRISONER,
            sentence=1 if of_sentence else None,
            type="RX" if of_sentence else "ADA",
            day=london_today(),
            start=_month_before(london_today()),
            days=15,
            comment="a comment",
        )


def routes(world: World) -> list[Route]:
    """The read that is used here; it answers 415 without its own content type, although there is no body."""

    def get(request: Request, number: str) -> Reply:
        if request.headers.get("Content-Type", "").partition(";")[0].strip() != CONTENT_TYPE:
            raise Refused(415, f"Content type '{request.headers.get('Content-Type')}' not supported")
        if not world.adjustments.mocks and not _UUID.fullmatch(number):
            raise Refused(400, f"Validation failure: Invalid UUID string: {number}")
        found = world.adjustments.find(number)
        if found is None:
            raise Refused(404, f"No adjustment found with id {number}")
        return Reply(body=_view(found))

    return [Route("GET", "/legacy/adjustments/{number}", get, ROLE)]


def _view(found: DpsAdjustment) -> dict[str, object]:
    return {
        "bookingId": found.booking_id,
        "sentenceSequence": found.sentence,
        "adjustmentType": found.type,
        "adjustmentDate": None if found.day is None else found.day.isoformat(),
        "adjustmentFromDate": None if found.start is None else found.start.isoformat(),
        "adjustmentDays": found.days,
        "comment": found.comment,
        "active": found.active,
    }


def _month_before(day: date) -> date:
    last_of_month_before = day.replace(day=1) - timedelta(days=1)
    return last_of_month_before.replace(day=min(day.day, last_of_month_before.day))
