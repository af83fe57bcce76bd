"""Prisoner search: publishes the received event for a prisoner, and the event for any review that follows from it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from sandbox.aws.topic import domain_event
from sandbox.http.serving import Refused, Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.world import World

PRISONER_NUMBER = re.compile(r"[A-Za-z]\d{4}[A-Za-z]{2}")
REASONS = {
    "NEW_ADMISSION": "admission on new charges",
    "READMISSION": "re-admission on an existing booking",
    "TRANSFERRED": "transfer from another prison",
    "RETURN_FROM_COURT": "return back to prison from court",
    "TEMPORARY_ABSENCE_RETURN": "return after a temporary absence",
}


def routes(world: World) -> list[Route]:
    """Returns the only endpoint of prisoner search that the program uses."""

    def received(request: Request, offender_no: str) -> Reply:
        if PRISONER_NUMBER.fullmatch(offender_no) is None:
            raise Refused(400, f"Validation failure: prisonerNumber: must match {PRISONER_NUMBER.pattern}")
        body = request.json()
        if not isinstance(body, dict):
            raise Refused(400, "Validation failure: the body must be an object")
        reason, prison_id = body.get("reason"), body.get("prisonId")
        if reason not in REASONS:
            raise Refused(400, f"Validation failure: reason must be one of {', '.join(REASONS)}")
        if not isinstance(prison_id, str) or not prison_id:
            raise Refused(400, "Validation failure: prisonId must not be blank")
        publish_received(world, offender_no.upper(), reason, prison_id, _moment(body.get("occurredAt")))
        return Reply(202)

    return [Route("PUT", "/events/prisoner/received/{offender_no}", received, "EVENTS_ADMIN", writes=True)]


def publish_received(world: World, offender_no: str, reason: str, prison_id: str, occurred_at: datetime) -> None:
    """Publishes the received event for a prisoner, and the event for any review that the arrival causes."""
    information: dict[str, object] = {"nomsNumber": offender_no, "reason": reason, "prisonId": prison_id}
    event = domain_event("prisoner-offender-search.prisoner.received", information, occurred_at=occurred_at)
    event["description"] = f"A prisoner has been received into a prison with reason: {REASONS[reason]}"
    events = [event]
    review = world.incentives.received(offender_no, reason, occurred_at)
    if review is not None:
        events.append(world.incentives.inserted(review))
    world.publish(events)


def _moment(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise Refused(400, f"Validation failure: occurredAt must be a local date and time, not {text}") from None
    if moment.tzinfo is not None:
        raise Refused(400, f"Validation failure: occurredAt must be a local date and time, not {text}")
    return moment
