"""Responses of both services with the counts of one prison, as a test needs them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from sandbox import Sandbox

BOOKINGS_PATH = "^/prisoners/bookings$"
#: The worked example of attendances: the counts of both sides at Moorland, and the bookings' prisoners and prisons.
DAY = date(2026, 8, 20)
NOMIS = {1204417: 2, 1204430: 1, 1204499: 1}
DPS = {1204417: 2, 1204440: 1, 1204470: 2}
BOOKINGS = {
    1204430: ("A1111AA", "MDI"),
    1204440: ("A1111AA", "MDI"),
    1204470: ("A2222BB", "MDI"),
    1204499: ("A3333CC", "OUT"),
}


def answer(upstream: Sandbox, service: str, path: str, body: object) -> None:
    """Makes a service respond to a path with this body."""
    upstream.fault(service, path=path, kind="status", status=200, body=body)


def answer_counts(
    upstream: Sandbox, nomis: dict[int, int], dps: dict[int, int], prison: str = "LEI", what: str = "allocations"
) -> None:
    """Gives a prison these counts on both sides; only this prison has activities."""
    listed = [[{"bookingId": each, "count": count} for each, count in side.items()] for side in (nomis, dps)]
    answer(upstream, "nomis", f"^/allocations/reconciliation/{prison}$", {"prisonId": prison, "bookings": listed[0]})
    path = f"^/synchronisation/reconciliation/{what}/{prison}$"
    answer(upstream, "activities", path, {"prisonCode": prison, "bookings": listed[1]})
    upstream.switch_agencies("ACTIVITY", prison)


def answer_bookings(upstream: Sandbox, **locations: str) -> None:
    """Gives NOMIS these bookings (`b1204417="LEI"`), each of a different prisoner."""
    bookings = [
        {"offenderNo": f"A{number % 10_000}AA", "bookingId": number, "location": location, "active": location != "OUT"}
        for number, location in ((int(name[1:]), location) for name, location in locations.items())
    ]
    answer(upstream, "nomis", BOOKINGS_PATH, bookings)


def answer_attendances(
    upstream: Sandbox,
    nomis: Mapping[int, int],
    dps: Mapping[int, int],
    bookings: Mapping[int, tuple[str, str]],
) -> None:
    """Gives only Moorland these attendance counts for the example's day, and NOMIS these bookings and prisons."""
    nomis_list, dps_list = [[{"bookingId": each, "count": n} for each, n in side.items()] for side in (nomis, dps)]
    shared: dict[str, object] = {"date": DAY.isoformat()}
    path = "/attendances/reconciliation/MDI$"
    answer(upstream, "nomis", f"^{path}", {"prisonId": "MDI", "bookings": nomis_list, **shared})
    path = "^/synchronisation/reconciliation/attendances/MDI$"
    answer(upstream, "activities", path, {"prisonCode": "MDI", "bookings": dps_list, **shared})
    details = [
        {"bookingId": each, "offenderNo": number, "location": place, "active": place != "OUT"}
        for each, (number, place) in bookings.items()
        if each in nomis.keys() | dps.keys()
    ]
    answer(upstream, "nomis", BOOKINGS_PATH, details)
    upstream.switch_agencies("ACTIVITY", "MDI")
