"""If visits cannot be read, or lists change while they are read, the run says what it missed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reports.engine.contract import ServiceTooOld
from reports.engine.units import Scope
from reports.reconciliations.visits.reconciliation import VisitEvents
from sync.failures import UpstreamError
from tests.harness.reads import PlainReads
from tests.harness.visits import PRISON, TODAY, World


def test_list_that_changes_while_it_is_read(world: World) -> None:
    """A visit booked between two pages hides none of the others."""
    for number in range(201):
        world.book(f"ab-cd-ef-{number:02}", TODAY + timedelta(days=number % 20), status="CANCELLED")

    class Booking(PlainReads):
        """Books a visit after the first page was read."""

        def page(self, service: Any, read: Any) -> Any:
            found = super().page(service, read)
            if self.calls.count(service) == 1:
                world.book("zz-zz-zz-zz", TODAY + timedelta(days=30), status="CANCELLED")
            return found

    compared = world.compare(reads=Booking())
    assert len(compared.frame) == 202
    assert compared.gaps == ()


def test_list_that_becomes_shorter_while_it_is_read(world: World) -> None:
    """A visit that leaves the list between two pages moves another one to a page that was read.

    The moved visit is still compared.
    """
    for number in range(201):
        world.book(f"ab-cd-ef-{number:03}", TODAY + timedelta(days=number % 20), status="CANCELLED")
    world.book("zz-zz-zz-zz", TODAY + timedelta(days=30), status="CANCELLED")

    class Leaving(PlainReads):
        """Takes the first visit off the list after the first page was read."""

        def page(self, service: Any, read: Any) -> Any:
            found = super().page(service, read)
            if self.calls.count(service) == 1:
                world.book("zz-zz-zz-zz", TODAY + timedelta(days=300), status="CANCELLED")
            return found

    compared = world.compare(reads=Leaving())
    assert {f"ab-cd-ef-{number:03}" for number in range(201)} <= set(compared.frame["reference"])
    assert compared.gaps == ()


def test_a_gateway_does_not_shorten_the_list_of_prisons(world: World) -> None:
    """A 404 from a gateway does not mean that the service is older and has a shorter list of prisons."""
    path = "/config/prisons/user-type/PUBLIC/supported"
    world.sandbox.fault("visits", path=path, kind="status", status=404, body="<html>not here</html>")
    world.sandbox.fault("visits", path="/config/prisons/supported", kind="status", status=200, body=["HEI"])
    with pytest.raises(UpstreamError, match="status 404"):
        world.reconciliation(Scope()).population(PlainReads())
    world.sandbox.clear_faults()
    unknown = {"timestamp": "2023-05-15T05:20:00", "status": 404, "error": "Not Found", "path": path}
    world.sandbox.fault("visits", path=path, kind="status", status=404, body=unknown)
    world.sandbox.fault("visits", path="/config/prisons/supported", kind="status", status=200, body=["HEI"])
    assert [unit.id for unit in world.reconciliation(Scope()).population(PlainReads()).units] == ["HEI"]


def test_page_that_cannot_be_read(world: World) -> None:
    """If a page cannot be read, it is named, and the visits on the other pages are compared."""
    for number in range(201):
        world.book(f"ab-cd-ef-{number:02}", TODAY + timedelta(days=number % 20))
    world.sandbox.fault("visits", path="/visits/search", query="page=1", kind="status", status=500)
    compared = world.compare()
    assert len(compared.kinds) == 200
    (gap,) = compared.gaps
    assert gap.detail == {"prisonId": PRISON, "page": 1, "side": "DPS"}
    event = VisitEvents().gap(gap)
    assert event.name == "visits-reports-reconciliation-mismatch-page-error"
    assert event.properties == {"prisonId": PRISON, "page": 1, "side": "DPS", "error": gap.reason}


def test_first_page_that_cannot_be_read(world: World) -> None:
    """If the first page cannot be read, nothing is known of the prison."""
    world.sandbox.fault("visits", path=r"/visits/search", kind="status", status=503)
    with pytest.raises(UpstreamError):
        world.compare()


@pytest.mark.parametrize(
    ("service", "path", "side"), [("nomis", r"/visits/\d+$", "NOMIS"), ("mapping", r"/vsipId/aa-aa$", "mapping")]
)
def test_visit_that_cannot_be_read(world: World, service: str, path: str, side: str) -> None:
    """A visit that cannot be read is neither equal nor different, and the others are compared."""
    world.book("aa-aa", TODAY)
    world.write("aa-aa")
    world.book("bb-bb", TODAY)
    world.sandbox.fault(service, method="GET", path=path, kind="status", status=500)
    compared = world.compare()
    assert compared.kinds == {"bb-bb": "nomis-visit-missing"}
    assert [(each.key, each.side) for each in compared.unread] == [({"visit": "aa-aa"}, side)]


def test_invalid_visit_in_the_list(world: World) -> None:
    """If a visit in the list lacks a field, only that visit is unread."""
    world.book("aa-aa", TODAY)
    world.book("bb-bb", TODAY)
    query = f"prisonId={PRISON}&visitStatus=BOOKED&page=0&size=200"
    page = world.caller.get("visits", f"/visits/search?{query}")
    (invalid,) = (each for each in page["content"] if each["reference"] == "aa-aa")
    del invalid["prisonerId"]
    world.sandbox.fault("visits", path="/visits/search", kind="status", status=200, body=page)
    compared = world.compare()
    assert compared.kinds == {"bb-bb": "nomis-visit-missing"}
    assert [(each.key, each.side) for each in compared.unread] == [({"visit": "aa-aa"}, "DPS")]


@pytest.mark.parametrize("service", ["visits", "nomis"])
def test_service_that_is_too_old(world: World, service: str) -> None:
    """A missing route ends the comparison, and nothing counts as equal."""
    world.book("aa-aa", TODAY)
    world.write("aa-aa")
    path = {"visits": r"/visits/search", "nomis": r"/visits/\d+$"}[service]
    body = {"status": 404, "userMessage": "Not Found: No static resource visits.", "developerMessage": ""}
    world.sandbox.fault(service, method="GET", path=path, kind="status", status=404, body=body)
    with pytest.raises((ServiceTooOld, UpstreamError)) as raised:
        world.compare()
    # If a page fails because of a missing route, the engine turns the UpstreamError into ServiceTooOld.
    error = raised.value
    assert error.no_route if isinstance(error, UpstreamError) else service == "nomis"
