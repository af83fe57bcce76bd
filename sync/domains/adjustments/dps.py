"""The adjustments API: days added to and taken off sentences and key dates."""

from datetime import date

from sync.upstream.responses import Response, parse_response
from sync.upstream.transport import ServiceClient, segment

#: The service chooses its endpoint by the content type of the request, although a GET has no content.
_HEADERS = {"Content-Type": "application/vnd.nomis-offence+json"}


class Adjustment(Response):
    """An adjustment; one without a sentence is of a key date."""

    booking_id: int
    sentence_sequence: int | None = None
    adjustment_type: str
    adjustment_date: date | None = None
    adjustment_from_date: date | None = None
    adjustment_days: int
    comment: str | None = None
    active: bool = True


class _AnyAdjustment(Response):
    booking_id: int


def adjustment(adjustments: ServiceClient, adjustment_id: str) -> Adjustment:
    """One adjustment. Raises `UpstreamError`, with status 404 for an unknown id."""
    path = f"/legacy/adjustments/{segment(adjustment_id)}"
    response = adjustments.call("GET", path, headers=_HEADERS)
    return parse_response(Adjustment, response, adjustments, "GET", path)


def adjustment_exists(adjustments: ServiceClient, adjustment_id: str) -> bool:
    """Whether the adjustment is still there."""
    path = f"/legacy/adjustments/{segment(adjustment_id)}"
    response = adjustments.call("GET", path, headers=_HEADERS, none_on_404=True)
    if response is None:
        return False
    parse_response(_AnyAdjustment, response, adjustments, "GET", path)
    return True
