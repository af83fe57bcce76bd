"""Reads the numbers of each booking's current allocations and paid attendances, from NOMIS and the activities API.

Each function makes one call for one prison; the response is not split into pages. The endpoints have existed since
October 2023, except the DPS endpoint for suspended allocations, which has existed since May 2025.
"""

from collections.abc import Mapping
from datetime import date
from typing import TypeVar

from pydantic import NonNegativeInt

from sync.errors import NotUnderstood
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import Operation, one
from sync.upstream.responses import RecordNumber, Response
from sync.upstream.transport import ServiceClient


class _Count(Response):
    booking_id: RecordNumber
    count: NonNegativeInt


class _NomisCounts(Response):
    prison_id: str
    bookings: tuple[_Count, ...]


class _DpsCounts(Response):
    prison_code: str
    bookings: tuple[_Count, ...]


class _NomisAttendances(_NomisCounts):
    date: date


class _DpsAttendances(_DpsCounts):
    date: date


_Model = TypeVar("_Model", bound=_NomisCounts | _DpsCounts)

_NOMIS_ROLE = "NOMIS_PRISONER_API__SYNCHRONISATION__RW"
_NOMIS_ALLOCATIONS = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/allocations/reconciliation/{prisonId}",
    one(_NomisCounts),
    role=_NOMIS_ROLE,
    query=("suspended",),
    since="2023-10",
)
_NOMIS_ATTENDANCES = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/attendances/reconciliation/{prisonId}",
    one(_NomisAttendances),
    role=_NOMIS_ROLE,
    query=("date",),
    since="2023-10",
)
_DPS_ALLOCATIONS = Operation(
    UpstreamName.ACTIVITIES,
    "GET",
    "/synchronisation/reconciliation/allocations/{prisonCode}",
    one(_DpsCounts),
    role="NOMIS_ACTIVITIES",
    since="2023-10",
)
_DPS_SUSPENDED_ALLOCATIONS = Operation(
    UpstreamName.ACTIVITIES,
    "GET",
    "/synchronisation/reconciliation/suspended-allocations/{prisonCode}",
    one(_DpsCounts),
    role="NOMIS_ACTIVITIES",
    since="2025-05",
)
_DPS_ATTENDANCES = Operation(
    UpstreamName.ACTIVITIES,
    "GET",
    "/synchronisation/reconciliation/attendances/{prisonCode}",
    one(_DpsAttendances),
    role="NOMIS_ACTIVITIES",
    query=("date",),
    since="2023-10",
)


def nomis_allocations(nomis: ServiceClient, prison_id: str, *, suspended: bool) -> dict[int, int]:
    """The number of current allocations to a prison's activities in NOMIS, by booking.

    suspended: True counts the suspended allocations, and False the others. A suspended allocation counts only while the
    prisoner is at that prison. Bookings without allocations are left out. Like all functions here, this raises
    `UpstreamError`, or its subclass `NotUnderstood` if a booking is listed twice.
    """
    query = {"suspended": str(suspended).lower()}
    return _read(_NOMIS_ALLOCATIONS, nomis, prison_id, {"prisonId": prison_id}, query)


def nomis_attendances(nomis: ServiceClient, prison_id: str, day: date) -> dict[int, int]:
    """The number of paid attendances in NOMIS on one day at one prison, by booking."""
    asked = {"prisonId": prison_id, "date": day.isoformat()}
    return _read(_NOMIS_ATTENDANCES, nomis, prison_id, asked, {"date": day.isoformat()})


def dps_allocations(activities: ServiceClient, prison_id: str, *, suspended: bool) -> dict[int, int]:
    """The number of allocations to a prison's activities in DPS, by booking.

    suspended: True counts the suspended allocations, and False the active ones.
    """
    operation = _DPS_SUSPENDED_ALLOCATIONS if suspended else _DPS_ALLOCATIONS
    return _read(operation, activities, prison_id, {"prisonCode": prison_id}, {})


def dps_attendances(activities: ServiceClient, prison_id: str, day: date) -> dict[int, int]:
    """The number of paid attendances in DPS on one day at one prison, by the booking of the allocation."""
    asked = {"prisonCode": prison_id, "date": day.isoformat()}
    return _read(_DPS_ATTENDANCES, activities, prison_id, asked, {"date": day.isoformat()})


def _read(
    operation: Operation[_Model],
    client: ServiceClient,
    prison_id: str,
    asked: Mapping[str, str],
    query: Mapping[str, object],
) -> dict[int, int]:
    bookings = operation.call(client, prison_id, query=query, asked=asked).bookings
    counts = {each.booking_id: each.count for each in bookings}
    if len(counts) < len(bookings):
        path = operation.path_of(prison_id)
        raise NotUnderstood(client.name, "GET", path, status=200, message="a booking is listed twice")
    return {booking_id: count for booking_id, count in counts.items() if count}
