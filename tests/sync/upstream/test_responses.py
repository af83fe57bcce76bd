"""Valid pages of a list are accepted, and responses that cannot belong to a complete list are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import Sandbox
from sync.domains.appointments import nomis as nomis_appointments
from sync.errors import NotUnderstood
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import Operation, unparsed
from sync.upstream.responses import parse_page
from sync.upstream.services import Services

IDS = "/visits/ids"
LISTING = Operation(UpstreamName.NOMIS, "GET", IDS, unparsed(dict, "page"))


def spring_page(total: int, number: int, size: int, *, nested: bool) -> dict[str, Any]:
    """Page `number` of a list that has the numbers below `total`. If `nested`, the counts are in an inner object."""
    pages = -(-total // size)
    content = list(range(total))[number * size : (number + 1) * size]
    counts = {"number": number, "size": size, "totalElements": total, "totalPages": pages}
    if nested:
        return {"content": content, "page": counts}
    return {"content": content, **counts, "numberOfElements": len(content), "last": number + 1 >= pages}


@given(st.integers(0, 60), st.integers(0, 8), st.integers(1, 20), st.booleans())
def test_both_formats_of_a_page_are_accepted(total: int, number: int, size: int, nested: bool) -> None:
    """From a page in either format, the program reads the content, the total, and whether the page is the last one."""
    page = parse_page(spring_page(total, number, size, nested=nested), number, size)
    assert list(page.content) == list(range(total))[number * size : (number + 1) * size]
    assert (page.total_elements, page.last) == (total, (number + 1) * size >= total)


@given(st.integers(1, 60), st.integers(0, 8), st.integers(1, 20), st.booleans(), st.data())
def test_a_page_with_a_contradictory_count_is_refused(
    total: int, number: int, size: int, nested: bool, data: st.DataObject
) -> None:
    """If one count of a page contradicts the request or the rest of the page, the page is refused."""
    body = spring_page(total, number, size, nested=nested)
    counts = body["page"] if nested else body
    name = data.draw(st.sampled_from(sorted(counts.keys() - {"content", "size", "last"})))
    if name == "totalElements":
        # A different total contradicts nothing if this page and the number of pages stay the same.
        wrong = st.integers(-9, number * size) if body["content"] else st.integers(number * size + 1, 10**10)
        counts[name] = data.draw(wrong)
    else:
        counts[name] = data.draw(st.integers(-9, 10**10).filter(lambda value: value != counts[name]))
    with pytest.raises(ValueError, match=r"it|pages"):
        parse_page(body, number, size)


@pytest.mark.parametrize(
    "body",
    [
        [],
        [{"visitId": 1}],
        "ok",
        {},
        {"items": [], "totalElements": 0},
        {"content": None, "totalElements": 0, "last": True},
        {"content": {}, "totalElements": 0, "last": True},
        {"content": []},
        {"content": [], "last": True},
        {"content": [1], "last": False},
        {"content": [], "totalElements": None, "last": True},
        {"content": [], "totalElements": "0", "last": True},
        {"content": [], "totalElements": True, "last": True},
        {"content": [], "totalElements": -1, "last": True},
        {"content": [], "totalElements": 0, "last": None},
        {"content": [], "totalElements": 0, "last": "true"},
        {"content": [], "totalElements": 5, "last": True},
        {"content": [], "totalElements": 2_000_000_000, "last": False},
        {"content": [1], "totalElements": 1, "last": False},
        {"content": [1, 2], "totalElements": 1, "last": True},
        {"content": [1], "totalElements": 2, "last": False},
        {"content": [1], "totalElements": 1, "number": 1, "last": True},
        {"content": [1], "totalElements": 1, "size": 0, "last": True},
        {"content": [1], "page": {"totalElements": 1}, "totalElements": 2},
        {"content": [1], "page": 0, "totalElements": 1},
    ],
)
def test_a_response_that_is_not_a_page_is_refused(sandbox: Sandbox, body: object) -> None:
    """A response that is not a page, or is a page that contradicts itself, is refused with a recoverable error."""
    with pytest.raises(ValueError, match=r"it|pages"):
        parse_page(body, 0, 10)
    sandbox.fault("nomis", "GET", IDS, kind="status", status=200, body=body)
    services = Services(load_settings(sandbox.environment()))
    nomis = services.nomis
    with pytest.raises(NotUnderstood, match=f"^nomis: GET {IDS}: status 200: page 0 cannot be right: ") as caught:
        list(LISTING.pages(nomis, query={}, size=10))
    assert caught.value.recoverable
    services.close()


@pytest.mark.parametrize("text", ["", "null"])
def test_an_empty_response_is_not_a_page(sandbox: Sandbox, text: str) -> None:
    """An empty or `null` response is refused, and does not mean that the list is empty."""
    sandbox.fault("nomis", "GET", IDS, kind="status", status=200, text=text)
    services = Services(load_settings(sandbox.environment()))
    with pytest.raises(NotUnderstood, match="the response is empty"):
        list(LISTING.pages(services.nomis, query={}))
    services.close()


@pytest.mark.parametrize(
    "second",
    [
        {"content": [{"id": 2}], "totalElements": 3, "size": 2, "last": True},
        {"content": [], "totalElements": 2, "size": 2, "last": True},
    ],
    ids=["comes twice", "became shorter"],
)
def test_a_list_that_changed_between_its_pages_is_refused(sandbox: Sandbox, second: object) -> None:
    """A list is refused if an element appears twice, or if the list becomes shorter while its pages are read.

    In either case, another element may be missing.
    """
    first = {"content": [{"id": 1}, {"id": 2}], "totalElements": 3, "size": 2, "last": False}
    sandbox.fault("nomis", "GET", IDS, kind="status", status=200, body=first, query="page=0")
    sandbox.fault("nomis", "GET", IDS, kind="status", status=200, body=second, query="page=1")
    services = Services(load_settings(sandbox.environment()))
    with pytest.raises(NotUnderstood, match="moved or appeared twice"):
        list(LISTING.pages(services.nomis, query={}, size=2))
    services.close()


def test_lists_of_the_services_are_read_to_the_end(sandbox: Sandbox) -> None:
    """A list with several pages is read to its last page. An empty list is accepted."""
    services = Services(load_settings(sandbox.environment()))
    nomis = services.nomis
    prisoners = Operation(UpstreamName.NOMIS, "GET", "/prisoners/ids", unparsed(dict, "page"), query=("active",))
    found = list(prisoners.pages(nomis, query={"active": "true"}, size=30))
    assert sorted(each["offenderNo"] for each in found) == sorted(each["offenderNo"] for each in sandbox.prisoners())
    assert list(nomis_appointments.appointment_ids(nomis, "MDI", "1999-01-01")) == []
    services.close()
