"""Internal locations: DPS names them by an id of its own, NOMIS by a number, and the mapping service knows both."""

from sync.settings.declaration import UpstreamName
from sync.upstream.operation import Operation, optional
from sync.upstream.responses import RecordNumber, Response
from sync.upstream.transport import ServiceClient


class _Location(Response):
    dps_location_id: str
    nomis_location_id: RecordNumber


_LOCATION = Operation(
    UpstreamName.MAPPING,
    "GET",
    "/mapping/locations/dps/{dpsLocationId}",
    optional(_Location),
    role="NOMIS_MAPPING_API__SYNCHRONISATION__RW",
    since="2024-07",
)


def nomis_location(mapping: ServiceClient, dps_location_id: str) -> int | None:
    """The NOMIS number of a location, None if it is not mapped. Mapping services before 2025 do not have this read."""
    found = _LOCATION.call(mapping, dps_location_id, asked={"dpsLocationId": dps_location_id})
    return None if found is None else found.nomis_location_id
