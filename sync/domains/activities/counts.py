"""What NOMIS and the activities API count for comparison: the current allocations and the paid attendances by booking.

Each reading is one call for a prison, without pages, since October 2023; that of suspended allocations since May 2025.
"""

from collections.abc import Mapping
from datetime import date
from typing import TypeVar

from pydantic import NonNegativeInt

from sync.failures import NotUnderstood
from sync.upstream.responses import RecordNumber, Response, parse_response
from sync.upstream.transport import ServiceClient, segment

_PATH = "/synchronisation/reconciliation"


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


def nomis_allocations(nomis: ServiceClient, prison_id: str, *, suspended: bool) -> dict[int, int]:
    """How many current allocations to activities of a prison each booking has in NOMIS, suspended or not suspended.

    Suspended ones count only while the booking is at that prison. A booking without any is not among them.
    Raises `UpstreamError`, as all functions here do; `NotUnderstood` if a booking is listed twice.
    """
    path = f"/allocations/reconciliation/{segment(prison_id)}"
    return _read(_NomisCounts, nomis, path, {"prisonId": prison_id}, {"suspended": str(suspended).lower()})


def nomis_attendances(nomis: ServiceClient, prison_id: str, day: date) -> dict[int, int]:
    """How many attendances with pay each booking has in NOMIS on a day at a prison."""
    path, asked = f"/attendances/reconciliation/{segment(prison_id)}", {"prisonId": prison_id, "date": day.isoformat()}
    return _read(_NomisAttendances, nomis, path, asked, {"date": day.isoformat()})


def dps_allocations(activities: ServiceClient, prison_id: str, *, suspended: bool) -> dict[int, int]:
    """How many allocations to activities of a prison each booking has in DPS: active ones, or suspended ones."""
    path = f"{_PATH}/{'suspended-allocations' if suspended else 'allocations'}/{segment(prison_id)}"
    return _read(_DpsCounts, activities, path, {"prisonCode": prison_id}, {})


def dps_attendances(activities: ServiceClient, prison_id: str, day: date) -> dict[int, int]:
    """How many attendances with pay each booking has in DPS on a day at a prison, by the booking of the allocation."""
    path, asked = f"{_PATH}/attendances/{segment(prison_id)}", {"prisonCode": prison_id, "date": day.isoformat()}
    return _read(_DpsAttendances, activities, path, asked, {"date": day.isoformat()})


def _read(
    model: type[_Model], client: ServiceClient, path: str, asked: Mapping[str, str], query: Mapping[str, object]
) -> dict[int, int]:
    response = client.call("GET", path, query=query)
    bookings = parse_response(model, response, client, "GET", path, asked=asked).bookings
    counts = {each.booking_id: each.count for each in bookings}
    if len(counts) < len(bookings):
        raise NotUnderstood(client.name, "GET", path, status=200, message="a booking is listed twice")
    return {booking_id: count for booking_id, count in counts.items() if count}
