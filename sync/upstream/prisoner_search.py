"""prisoner-offender-search: publishing a received event again, the fix of one that was missed."""

from datetime import datetime

from sync.upstream.bodies import Body
from sync.upstream.transport import ServiceClient, segment

#: The reasons that make the incentives API write a review; two more are accepted and do nothing there.
REVIEWED_REASONS = ("NEW_ADMISSION", "READMISSION", "TRANSFERRED")
REASONS = (*REVIEWED_REASONS, "RETURN_FROM_COURT", "TEMPORARY_ABSENCE_RETURN")


class ReceivedEvent(Body):
    """A prisoner was received at a prison; `occurred_at` is the local date-time of the movement, to the second."""

    reason: str
    prison_id: str
    occurred_at: str


def received_event(reason: str, prison_id: str, occurred_at: datetime) -> ReceivedEvent:
    """The body of a received event of a movement at `occurred_at`, local to London."""
    moment = occurred_at.replace(tzinfo=None).isoformat(timespec="seconds")
    return ReceivedEvent(reason=reason, prison_id=prison_id, occurred_at=moment)


def publish_received(prisoner_search: ServiceClient, offender_no: str, event: ReceivedEvent) -> None:
    """Publishes the event again, once for each call. Raises `UpstreamError`, status 400 for bad values."""
    prisoner_search.call("PUT", f"/events/prisoner/received/{segment(offender_no)}", body=event.as_json())
