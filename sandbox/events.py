"""Domain events in the form each publisher gives them."""

from __future__ import annotations

from datetime import datetime

from sandbox.clock import LONDON, london_now

DESCRIPTIONS = {
    "prison-visit.booked": "Prison Visit Booked",
    "prison-visit.changed": "Prison Visit Changed",
    "prison-visit.cancelled": "Prison Visit Cancelled",
    "incentives.iep-review.inserted": "An IEP review has been added",
    "incentives.level.changed": "An incentive level has been changed",
    "incentives.levels.reordered": "Incentive levels have been re-ordered",
    "incentives.prison-level.changed": "Incentive level in a prison has been updated",
    "prisoner-offender-search.prisoner.received": "A prisoner has been received into a prison",
    "release-date-adjustments.adjustment.inserted": "An adjustment has been created",
    "release-date-adjustments.adjustment.updated": "An adjustment has been updated",
    "release-date-adjustments.adjustment.deleted": "An adjustment has been deleted",
}


def domain_event(
    event_type: str,
    additional_information: dict[str, object] | None,
    prisoner_id: str | None = None,
    occurred_at: datetime | None = None,
) -> dict[str, object]:
    """Return the decoded event: `version` and `occurredAt` (a London time) as the publisher of this type writes them.

    Activities and appointments write a local time without offset and the version as text `1`; visits and prisoner
    search the number 1, the others the text `1.0`, all with the offset.
    """
    moment = occurred_at or london_now()
    if event_type.startswith(("activities.", "appointments.")):
        version: object = "1"
        written = moment.replace(tzinfo=None).isoformat()
    else:
        version = 1 if event_type.startswith(("prison-visit.", "prisoner-offender-search.")) else "1.0"
        written = (moment if moment.tzinfo else moment.replace(tzinfo=LONDON)).isoformat()
    event: dict[str, object] = {
        "eventType": event_type,
        "version": version,
        "description": DESCRIPTIONS.get(event_type, f"Event {event_type}"),
        "occurredAt": written,
        "additionalInformation": additional_information,
    }
    if prisoner_id is not None:
        event["prisonerId"] = prisoner_id
    return event
