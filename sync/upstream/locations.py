"""Internal locations: DPS names them by an id of its own, NOMIS by a number, and the mapping service knows both."""

from sync.upstream.responses import RecordNumber, Response, parse_response
from sync.upstream.transport import ServiceClient, segment


class _Location(Response):
    dps_location_id: str
    nomis_location_id: RecordNumber


def nomis_location(mapping: ServiceClient, dps_location_id: str) -> int | None:
    """The NOMIS number of a location, None if it is not mapped. Mapping services before 2025 do not have this read."""
    path = f"/mapping/locations/dps/{segment(dps_location_id)}"
    response, asked = mapping.call("GET", path, none_on_404=True), {"dpsLocationId": dps_location_id}
    if response is None:
        return None
    return parse_response(_Location, response, mapping, "GET", path, asked=asked).nomis_location_id
