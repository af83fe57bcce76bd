"""Makes NOMIS and DPS return the counts that a test needs for one prison."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from sandbox import Sandbox

BOOKINGS_PATH = "^/prisoners/bookings$"
#: The worked example of attendances at Moorland: the counts of both sides by booking, and the prisoner and prison of
#: each booking.
DAY = date(2026, 8, 20)
NOMIS = {1204417: 2, 1204430: 1, 1204499: 1}
DPS = {1204417: 2, 1204440: 1, 1204470: 2}
BOOKINGS = {
    1204430: ("A1111AA", "MDI"),
    1204440: ("A1111AA", "MDI"),
    1204470: ("A2222BB", "MDI"),
    1204499: ("A3333CC", "OUT"),
}


def respond(upstream: Sandbox, service: str, path: str, body: object) -> None:
    """Makes a service return this body for a path."""
    upstream.fault(service, path=path, kind="status", status=200, body=body)


def respond_with_counts(
    upstream: Sandbox, nomis: dict[int, int], dps: dict[int, int], prison: str = "LEI", what: str = "allocations"
) -> None:
    """Makes both sides return these counts for a prison, and switches activities on only for that prison."""
    listed = [[{"bookingId": each, "count": count} for each, count in side.items()] for side in (nomis, dps)]
    respond(upstream, "nomis", f"^/allocations/reconciliation/{prison}$", {"prisonId": prison, "bookings": listed[0]})
    path = f"^/synchronisation/reconciliation/{what}/{prison}$"
    respond(upstream, "activities", path, {"prisonCode": prison, "bookings": listed[1]})
    upstream.switch_agencies("ACTIVITY", prison)


def respond_with_bookings(upstream: Sandbox, **locations: str) -> None:
    """Makes NOMIS return these bookings, each of a different prisoner. An example argument is `b1204417="LEI"`."""
    bookings = [
        {"offenderNo": f"A{number % 10_000}AA", "bookingId": number, "location": location, "active": location != "OUT"}
        for number, location in ((int(name[1:]), location) for name, location in locations.items())
    ]
    respond(upstream, "nomis", BOOKINGS_PATH, bookings)


def respond_with_attendances(
    upstream: Sandbox,
    nomis: Mapping[int, int],
    dps: Mapping[int, int],
    bookings: Mapping[int, tuple[str, str]],
) -> None:
    """Makes both sides return these attendance counts for Moorland on the example's day.

    Activities are switched on only for Moorland. For each of these bookings that has a count, NOMIS returns the
    prisoner and the prison.
    """
    nomis_list, dps_list = [[{"bookingId": each, "count": n} for each, n in side.items()] for side in (nomis, dps)]
    shared: dict[str, object] = {"date": DAY.isoformat()}
    path = "/attendances/reconciliation/MDI$"
    respond(upstream, "nomis", f"^{path}", {"prisonId": "MDI", "bookings": nomis_list, **shared})
    path = "^/synchronisation/reconciliation/attendances/MDI$"
    respond(upstream, "activities", path, {"prisonCode": "MDI", "bookings": dps_list, **shared})
    details = [
        {"bookingId": each, "offenderNo": number, "location": place, "active": place != "OUT"}
        for each, (number, place) in bookings.items()
        if each in nomis.keys() | dps.keys()
    ]
    respond(upstream, "nomis", BOOKINGS_PATH, details)
    upstream.switch_agencies("ACTIVITY", "MDI")
