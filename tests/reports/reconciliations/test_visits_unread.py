"""The comparison of visits names what it could not read, and misses no visit even if a list changes meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reports.engine.reconciliation import ServiceTooOld
from reports.engine.units import Scope
from reports.reconciliations.visits.reconciliation import VisitEvents
from sync.errors import UpstreamError
from tests.harness.reads import PlainReads
from tests.harness.visits import PRISON, TODAY, VisitSetup


def test_a_visit_booked_between_two_pages_hides_no_other(visit_setup: VisitSetup) -> None:
    """If a new visit moves others to later positions while the pages are read, all visits are still compared."""
    for number in range(201):
        visit_setup.book(f"ab-cd-ef-{number:02}", TODAY + timedelta(days=number % 20), status="CANCELLED")

    class Booking(PlainReads):
        """Books a visit after the first page has been read."""

        def page(self, service: Any, read: Any) -> Any:
            found = super().page(service, read)
            if self.calls.count(service) == 1:
                visit_setup.book("zz-zz-zz-zz", TODAY + timedelta(days=30), status="CANCELLED")
            return found

    compared = visit_setup.compare(reads=Booking())
    assert len(compared.frame) == 202
    assert compared.gaps == ()


def test_a_visit_that_moves_to_a_page_already_read_is_compared(visit_setup: VisitSetup) -> None:
    """If a visit leaves the list between two reads, another visit moves to a page that has already been read.

    The visit that moved is still compared.
    """
    for number in range(201):
        visit_setup.book(f"ab-cd-ef-{number:03}", TODAY + timedelta(days=number % 20), status="CANCELLED")
    visit_setup.book("zz-zz-zz-zz", TODAY + timedelta(days=30), status="CANCELLED")

    class Leaving(PlainReads):
        """Removes the first visit from the list after the first page has been read."""

        def page(self, service: Any, read: Any) -> Any:
            found = super().page(service, read)
            if self.calls.count(service) == 1:
                visit_setup.book("zz-zz-zz-zz", TODAY + timedelta(days=300), status="CANCELLED")
            return found

    compared = visit_setup.compare(reads=Leaving())
    assert {f"ab-cd-ef-{number:03}" for number in range(201)} <= set(compared.frame["reference"])
    assert compared.gaps == ()


def test_a_gateway_does_not_shorten_the_list_of_prisons(visit_setup: VisitSetup) -> None:
    """A gateway's 404 is an error.

    Only a 404 from the service itself shows that the service is an older version, which has one list of prisons for
    all users.
    """
    path = "/config/prisons/user-type/PUBLIC/supported"
    visit_setup.sandbox.fault("visits", path=path, kind="status", status=404, body="<html>not here</html>")
    visit_setup.sandbox.fault("visits", path="/config/prisons/supported", kind="status", status=200, body=["HEI"])
    with pytest.raises(UpstreamError, match="status 404"):
        visit_setup.reconciliation(Scope()).population(PlainReads())
    visit_setup.sandbox.clear_faults()
    unknown = {"timestamp": "2023-05-15T05:20:00", "status": 404, "error": "Not Found", "path": path}
    visit_setup.sandbox.fault("visits", path=path, kind="status", status=404, body=unknown)
    visit_setup.sandbox.fault("visits", path="/config/prisons/supported", kind="status", status=200, body=["HEI"])
    assert [unit.id for unit in visit_setup.reconciliation(Scope()).population(PlainReads()).units] == ["HEI"]


def test_an_unread_page_of_visits_is_named(visit_setup: VisitSetup) -> None:
    """If a page of visits cannot be read, it counts as a gap, and an event names it.

    The visits on the other pages are compared.
    """
    for number in range(201):
        visit_setup.book(f"ab-cd-ef-{number:02}", TODAY + timedelta(days=number % 20))
    visit_setup.sandbox.fault("visits", path="/visits/search", query="page=1", kind="status", status=500)
    compared = visit_setup.compare()
    assert len(compared.kinds) == 200
    (gap,) = compared.gaps
    assert gap.detail == {"prisonId": PRISON, "page": 1, "side": "DPS"}
    event = VisitEvents().gap(gap)
    assert event.name == "visits-reports-reconciliation-mismatch-page-error"
    assert event.properties == {"prisonId": PRISON, "page": 1, "side": "DPS", "error": gap.reason}


def test_nothing_is_known_without_the_first_page(visit_setup: VisitSetup) -> None:
    """If the first page of a prison's visits cannot be read, the comparison raises the error."""
    visit_setup.sandbox.fault("visits", path=r"/visits/search", kind="status", status=503)
    with pytest.raises(UpstreamError):
        visit_setup.compare()


@pytest.mark.parametrize(
    ("service", "path", "side"), [("nomis", r"/visits/\d+$", "NOMIS"), ("mapping", r"/vsipId/aa-aa$", "mapping")]
)
def test_an_unread_visit_is_neither_equal_nor_different(
    visit_setup: VisitSetup, service: str, path: str, side: str
) -> None:
    """If a visit cannot be read, it is unread on the side that failed, and the other visits are compared."""
    visit_setup.book("aa-aa", TODAY)
    visit_setup.write("aa-aa")
    visit_setup.book("bb-bb", TODAY)
    visit_setup.sandbox.fault(service, method="GET", path=path, kind="status", status=500)
    compared = visit_setup.compare()
    assert compared.kinds == {"bb-bb": "nomis-visit-missing"}
    assert [(each.key, each.side) for each in compared.unread] == [({"visit": "aa-aa"}, side)]


def test_an_invalid_visit_in_the_list_is_unread(visit_setup: VisitSetup) -> None:
    """If a visit in the list lacks a required field, only that visit is unread."""
    visit_setup.book("aa-aa", TODAY)
    visit_setup.book("bb-bb", TODAY)
    query = f"prisonId={PRISON}&visitStatus=BOOKED&page=0&size=200"
    page = visit_setup.caller.get("visits", f"/visits/search?{query}")
    (invalid,) = (each for each in page["content"] if each["reference"] == "aa-aa")
    del invalid["prisonerId"]
    visit_setup.sandbox.fault("visits", path="/visits/search", kind="status", status=200, body=page)
    compared = visit_setup.compare()
    assert compared.kinds == {"bb-bb": "nomis-visit-missing"}
    assert [(each.key, each.side) for each in compared.unread] == [({"visit": "aa-aa"}, "DPS")]


@pytest.mark.parametrize("service", ["visits", "nomis"])
def test_a_missing_route_ends_the_comparison_of_visits(visit_setup: VisitSetup, service: str) -> None:
    """If a service lacks a route, the comparison raises an error that says so, and nothing counts as equal."""
    visit_setup.book("aa-aa", TODAY)
    visit_setup.write("aa-aa")
    path = {"visits": r"/visits/search", "nomis": r"/visits/\d+$"}[service]
    body = {"status": 404, "userMessage": "Not Found: No static resource visits.", "developerMessage": ""}
    visit_setup.sandbox.fault(service, method="GET", path=path, kind="status", status=404, body=body)
    with pytest.raises((ServiceTooOld, UpstreamError)) as raised:
        visit_setup.compare()
    # The engine turns the UpstreamError of a missing route into ServiceTooOld.
    error = raised.value
    assert error.no_route if isinstance(error, UpstreamError) else service == "nomis"
