"""An invalid response about a prisoner affects only that prisoner, who is named and never counts as equal.

An invalid list of prisoners hides nobody: if it cannot be relied on, the run is incomplete or fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sandbox import Sandbox
from sync.settings.upstreams import UpstreamName
from tests.harness.reconciliations import OpenApp, reconciled

IDS = "/prisoners/ids"
BULK = "/iep/reviews/bookings"
Rows = list[dict[str, Any]]


def rows_of(upstream: Sandbox) -> Rows:
    """The rows of NOMIS's list of active prisoners, in the order of their booking ids."""
    rows = [{"bookingId": each["bookingId"], "offenderNo": each["offenderNo"]} for each in upstream.prisoners()]
    return sorted(rows, key=lambda row: int(row["bookingId"]))


def page_of(rows: Rows, number: int, size: int, **claims: Any) -> dict[str, Any]:
    """Page `number` of `rows` as NOMIS returns it, with `claims` instead of the true figures of the same names."""
    pages = -(-len(rows) // size)
    truth = {"number": number, "size": size, "totalElements": len(rows), "totalPages": pages}
    last = {"last": number + 1 >= pages}
    return {"content": rows[number * size : (number + 1) * size], **truth, **last, **claims}


def lists(upstream: Sandbox, rows: Rows, size: int = 50, **claims: Any) -> None:
    """Makes NOMIS list these rows in pages of this size with these `claims`, followed by an empty page."""
    for number in range(-(-len(rows) // size)):
        fake(upstream, page_of(rows, number, size, **claims), f"page={number}")
    beyond = {"number": -(-len(rows) // size), "last": True}
    fake(upstream, page_of(rows, 0, size, **claims) | {"content": []} | beyond, f"page={beyond['number']}")


def fake(upstream: Sandbox, body: object, query: str) -> None:
    """Makes NOMIS return `body` for the page of its list that `query` asks for."""
    upstream.fault("nomis", "GET", IDS, kind="status", status=200, body=body, query=query)


def record(booking_id: int, **changes: Any) -> dict[str, Any]:
    """The current IEP record of a booking, as NOMIS returns it but with `changes`."""
    truth = {
        "bookingId": booking_id,
        "incentiveSequence": 1,
        "iepDateTime": "2023-01-05T10:00:00",
        "iepDate": "2023-01-05",
        "iepTime": "10:00:00",
        "prisonId": "MDI",
        "iepLevel": {"code": "STD", "description": "Standard"},
        "currentIep": True,
        "auditModule": "JDBC Thin Client",
        "whenCreated": "2023-01-05T10:00:00",
    }
    return {**truth, **changes}


def planted(upstream: Sandbox) -> set[int]:
    """The ids of the bookings with a planted difference."""
    return {each["bookingId"] for each in upstream.planted()["mismatches"]}


ODD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"bookingId": None}, "its booking id is missing"),
    ({"bookingId": 2**63}, "its booking id cannot be used"),
    ({"bookingId": 1204417.5}, "its booking id cannot be used"),
    ({"bookingId": "x"}, "its booking id cannot be used"),
    ({"bookingId": -4}, "its booking id cannot be used"),
    ({"bookingId": True}, "its booking id cannot be used"),
    ({"offenderNo": None}, "its prisoner number is missing"),
    ({"offenderNo": "A1234BCDEFG"}, "its prisoner number cannot be used"),
    ({"offenderNo": "A12\x0034B"}, "its prisoner number cannot be used"),
    ({"offenderNo": "", "bookingId": None}, "its booking id is missing and its prisoner number cannot be used"),
]


@pytest.mark.parametrize("odd", [ODD_ROWS[::2], ODD_ROWS[1::2]], ids=["first half", "second half"])
def test_an_invalid_row_of_the_list_affects_only_its_prisoner(
    upstream: Sandbox, open_app: OpenApp, odd: list[tuple[dict[str, Any], str]]
) -> None:
    """The prisoner in an invalid row of the list is unread.

    The result says where the row is and what is wrong with it. All other prisoners are compared.
    """
    upstream.reset(prisoners=120, mismatches={"7": 2})
    rows = rows_of(upstream)
    agreeing = [place for place, row in enumerate(rows) if place > 60 and row["bookingId"] not in planted(upstream)]
    truths = {place: rows[place] for place in agreeing[: len(odd)]}
    for place, (changes, _) in zip(truths, odd, strict=True):
        rows[place] = truths[place] | changes
    lists(upstream, rows)
    result = reconciled(open_app())
    assert (result.status, result.compared) == ("incomplete", 120 - len(odd))
    assert {each.booking_id for each in result.mismatches} == planted(upstream)
    unread = {each.reason: each for each in result.unread}
    assert len(unread) == len(odd)
    for (place, truth), (changes, named) in zip(truths.items(), odd, strict=True):
        each = unread[f"row {place - 49} of page 1 of the active prisoners: {named}"]
        assert each.booking_id == (None if "bookingId" in changes else truth["bookingId"])
        assert each.offender_no == ("unknown" if "offenderNo" in changes else truth["offenderNo"])
    assert result.unread_pages == ()


ODD_RECORDS: list[tuple[dict[str, Any], str]] = [
    ({"iepLevel": {"code": "THIRTEEN_LONG"}}, "the level is not a code"),
    ({"iepLevel": {"code": "S\x00D"}}, "the level is not a code"),
    ({"iepLevel": {"code": 7}}, "the level is not a code"),
    ({"iepLevel": None}, "the level is not a code"),
    ({"prisonId": "MOORLND"}, "the prison is not a code"),
    ({"prisonId": "M\x00I"}, "the prison is not a code"),
    ({"bookingId": 4}, "this booking"),
]


@pytest.mark.parametrize("at_first", [True, False])
def test_an_invalid_record_affects_only_its_prisoner(upstream: Sandbox, open_app: OpenApp, at_first: bool) -> None:
    """If a NOMIS record is invalid at the first reading or at the recheck, its prisoner is unread and named.

    The other prisoners are compared.
    """
    number = len(ODD_RECORDS)
    upstream.reset(prisoners=90, mismatches={"7": number + 1})
    odd = dict(zip(sorted(planted(upstream)), ODD_RECORDS, strict=False))
    for booking_id, (changes, _) in odd.items():
        body = record(booking_id, **changes)
        path = f"/incentives/booking-id/{booking_id}/current$"
        upstream.fault("nomis", "GET", path, kind="status", status=200, body=body, skip=0 if at_first else 1)
    result = reconciled(open_app())
    assert (result.status, result.compared) == ("incomplete", 90 - number)
    assert {each.booking_id for each in result.mismatches} == planted(upstream) - odd.keys()
    reasons = {each.booking_id: each.reason for each in result.unread}
    assert reasons.keys() == odd.keys()
    by_the_reader = ("the response cannot be used: iepLevel", "the response is about another record")
    for booking_id, (_, named) in odd.items():
        reason = reasons[booking_id]
        assert named in reason or (not at_first and any(each in reason for each in by_the_reader))


def test_an_invalid_review_affects_only_its_prisoner(upstream: Sandbox, open_app: OpenApp) -> None:
    """A prisoner whose DPS review is invalid is unread and named. The other prisoners are compared."""
    odd: list[dict[str, Any]] = [
        {"iepCode": "THIRTEEN_LONG"},
        {"iepCode": "S\x00D"},
        {"bookingId": 4},
        {"iepCode": None},
    ]
    upstream.reset(prisoners=60, mismatches={"7": len(odd) + 1}, bulk="404")
    bookings = sorted(planted(upstream))[: len(odd)]
    for booking_id, changes in zip(bookings, odd, strict=True):
        truth = {"id": 1, "iepCode": "STD", "bookingId": booking_id, "iepDetails": []}
        path = f"/iep/reviews/booking/{booking_id}$"
        upstream.fault("incentives", "GET", path, kind="status", status=200, body=truth | changes)
    result = reconciled(open_app())
    assert (result.status, result.compared) == ("incomplete", 60 - len(odd))
    assert sorted(each.booking_id or 0 for each in result.unread) == bookings
    assert {each.booking_id for each in result.mismatches} == planted(upstream) - {*bookings}


def test_an_invalid_row_of_the_bulk_response_is_read_singly(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a row of the bulk response from DPS is invalid, the review of its booking is read on its own.

    The valid rows are used.
    """
    spoils: list[Callable[[dict[str, Any]], object]] = [
        lambda row: row | {"iepLevel": None},
        lambda row: row | {"bookingId": 2**63},
        lambda row: row | {"bookingId": None},
        lambda _row: "text",
        lambda _row: None,
    ]
    upstream.reset(prisoners=50, mismatch_rate=0, every_cause=False)
    app = open_app()
    bookings = [each["bookingId"] for each in rows_of(upstream)]
    response = app.services[UpstreamName.INCENTIVES].call("POST", BULK, body=bookings)
    for place, spoil in enumerate(spoils, start=3):
        response[place] = spoil(response[place])
    upstream.clear_records()
    upstream.fault("incentives", "POST", BULK, kind="status", status=200, body=response)
    assert reconciled(app).status == "complete"
    singly = sum(each["path"].startswith("/iep/reviews/booking/") for each in upstream.requests("incentives"))
    assert len(spoils) <= singly <= len(spoils) + 2


@pytest.mark.parametrize("order", [1, -1])
def test_a_bulk_response_that_contradicts_itself_is_read_singly(
    upstream: Sandbox, open_app: OpenApp, order: int
) -> None:
    """If the bulk response from DPS has two levels for a booking, neither is used: its review is read on its own.

    Rows about bookings that were not requested are ignored.
    """
    upstream.reset(prisoners=50, mismatches={"7": 2})
    app = open_app()
    bookings = [row["bookingId"] for row in rows_of(upstream)]
    response = app.services[UpstreamName.INCENTIVES].call("POST", BULK, body=bookings)
    names = {row["bookingId"]: row["iepLevel"] for row in response}
    claims = {each["bookingId"]: each["nomis"] for each in upstream.planted()["mismatches"]}
    by_code = {"BAS": "Basic", "STD": "Standard", "ENH": "Enhanced"}
    # Each booking has its true row and a row that would make both sides agree, in either order.
    twice = [{"bookingId": each, "iepLevel": by_code[claims[each] or "STD"]} for each in claims if each in names]
    body = [{"bookingId": 4, "iepLevel": "Basic"}, *[*response, *twice][::order]]
    upstream.fault("incentives", "POST", BULK, kind="status", status=200, body=body)
    result = reconciled(app)
    assert (result.status, result.compared) == ("complete", 50)
    assert {each.booking_id for each in result.mismatches} == planted(upstream)


def test_a_row_out_of_order_hides_no_difference(upstream: Sandbox, open_app: OpenApp) -> None:
    """A prisoner whose booking is listed out of order, on a page where it does not belong, is compared.

    The prisoner does not count as released.
    """
    upstream.reset(prisoners=200, mismatches={"7": 3})
    rows = rows_of(upstream)
    moved = [row for row in rows if row["bookingId"] in planted(upstream)]
    others = [row for row in rows if row not in moved]
    lists(upstream, [moved[0], *others[:90], moved[2], *others[90:], moved[1]], 20)
    result = reconciled(open_app(reports_incentives_reconciliation_page_size="20"))
    assert result.released == ()
    assert {each.booking_id for each in result.mismatches} == planted(upstream)
    assert result.compared == 200


@pytest.mark.parametrize("claims", [{"totalElements": 26, "totalPages": 2, "last": False}, {"totalElements": 0}])
def test_a_total_that_is_too_low_leaves_nobody_out(
    upstream: Sandbox, open_app: OpenApp, claims: dict[str, Any]
) -> None:
    """If the list of prisoners claims a total that is too low, its pages are read until one is empty.

    All prisoners are compared, and the run is incomplete because of the contradiction.
    """
    upstream.reset(prisoners=120, mismatches={"7": 2})
    lists(upstream, rows_of(upstream), 20, **claims)
    result = reconciled(open_app(reports_incentives_reconciliation_page_size="20"))
    assert result.status == "incomplete"
    assert result.compared == 120
    assert {each.booking_id for each in result.mismatches} == planted(upstream)
    (contradiction,) = result.unread_pages
    counted = f"NOMIS counts {claims['totalElements']} active prisoners, but its pages have 120"
    assert contradiction.reason == counted


@pytest.mark.parametrize("claims", [{"totalElements": -1}, {"totalElements": 2_000_000_000}, {"totalElements": None}])
def test_an_impossible_total_is_refused(upstream: Sandbox, open_app: OpenApp, claims: dict[str, Any]) -> None:
    """If the list of prisoners claims an impossible total, the run fails after a few calls and says why."""
    upstream.reset(prisoners=60, mismatches={"7": 2})
    lists(upstream, rows_of(upstream), **claims)
    result = reconciled(open_app())
    assert (result.status, result.compared, result.mismatches) == ("failed", 0, ())
    assert "the number of active prisoners could not be read" in str(result.failure)
    assert "page 1 cannot be right" in str(result.failure) or "page 0 cannot be right" in str(result.failure)
    assert len(upstream.requests("nomis")) < 20


@pytest.mark.parametrize("same_page", [True, False])
def test_a_row_that_comes_twice_hides_nobody(upstream: Sandbox, open_app: OpenApp, same_page: bool) -> None:
    """If the list of prisoners has one row twice and lacks another, the run is incomplete.

    Although the number of rows is right, the result says that one prisoner is not on any of the pages.
    """
    upstream.reset(prisoners=120, mismatches={"7": 2})
    rows = rows_of(upstream)
    place = next(place for place in range(60, 120) if rows[place]["bookingId"] not in planted(upstream))
    rows[place] = rows[place - 1 if same_page else 3]
    for size in (266, 282, 298, 314):  # since the list is read again
        fake(upstream, page_of(rows, 0, size), f"size={size}")
    lists(upstream, rows)
    result = reconciled(open_app())
    assert (result.status, result.compared) == ("incomplete", 119)
    assert "NOMIS counts 120 active prisoners, but its pages lack 1 of them" in result.unread_pages[0].reason
    assert {each.booking_id for each in result.mismatches} == planted(upstream)


def test_a_booking_of_two_prisoners_is_not_compared(upstream: Sandbox, open_app: OpenApp) -> None:
    """A booking that NOMIS lists for two prisoners is not compared: it is unread, and both prisoners are named."""
    upstream.reset(prisoners=120, mismatches={"7": 2})
    rows = rows_of(upstream)
    booking_id, other = min(planted(upstream)), next(r for r in rows if r["bookingId"] not in planted(upstream))
    place = next(place for place, row in enumerate(rows) if row["bookingId"] == booking_id)
    rows.insert(place + 1, {"bookingId": booking_id, "offenderNo": other["offenderNo"]})
    lists(upstream, rows, totalElements=120)
    result = reconciled(open_app())
    assert (result.status, result.compared) == ("incomplete", 119)
    (unread,) = result.unread
    both = f"NOMIS lists the booking for {rows[place]['offenderNo']} and for {other['offenderNo']}"
    assert (unread.booking_id, both in unread.reason) == (booking_id, True)
    assert {each.booking_id for each in result.mismatches} == planted(upstream) - {booking_id}


@pytest.mark.parametrize("without", [("last",), ("last", "totalPages"), ("number", "size")])
@pytest.mark.parametrize("inner", [True, False])
def test_both_formats_of_a_page_are_read(
    upstream: Sandbox, open_app: OpenApp, without: tuple[str, ...], inner: bool
) -> None:
    """The figures of a page, such as the total, may be next to the content of the page or in a separate object.

    Missing figures are computed.
    """
    upstream.reset(prisoners=120, mismatches={"7": 2})
    rows = rows_of(upstream)
    for number in range(4):
        page = page_of(rows, number, 50)
        claims = {name: page[name] for name in ("number", "size", "totalElements", "totalPages", "last")}
        claims = {name: value for name, value in claims.items() if name not in without}
        fake(upstream, {"content": page["content"], **({"page": claims} if inner else claims)}, f"page={number}")
    result = reconciled(open_app())
    assert (result.status, result.compared) == ("complete", 120)
    assert {each.booking_id for each in result.mismatches} == planted(upstream)


@pytest.mark.parametrize("body", [[], {"items": []}, {"content": None}, {"content": {}}, "ok", 7])
def test_a_malformed_page_is_not_an_empty_list(upstream: Sandbox, open_app: OpenApp, body: object) -> None:
    """If NOMIS returns something other than a page of its list, the run fails instead of assuming an empty list."""
    upstream.reset(prisoners=60)
    upstream.fault("nomis", "GET", IDS, kind="status", status=200, body=body)
    result = reconciled(open_app())
    assert (result.status, result.compared) == ("failed", 0)


def test_pages_smaller_than_requested_are_all_read(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a service limits the size of its pages, there are more pages than expected, and all of them are read."""
    upstream.reset(prisoners=120, mismatches={"7": 2})
    lists(upstream, rows_of(upstream), 20)
    result = reconciled(open_app(reports_incentives_reconciliation_page_size="50"))
    assert (result.status, result.compared) == ("complete", 120)


def test_the_wrong_page_is_not_accepted(upstream: Sandbox, open_app: OpenApp) -> None:
    """If NOMIS returns page 1 of its list instead of page 2, page 2 is unread, and its prisoners are not compared."""
    upstream.reset(prisoners=120, mismatch_rate=0)
    rows = rows_of(upstream)
    for number, given in ((0, 0), (1, 1), (2, 1)):
        fake(upstream, page_of(rows, given, 50), f"page={number}")
    result = reconciled(open_app())
    assert (result.status, result.compared) == ("incomplete", 100)
    assert [(each.page, "it is page 1" in each.reason) for each in result.unread_pages] == [(2, True)]


def test_reviews_of_another_prisoner_fail_the_run(upstream: Sandbox, open_app: OpenApp) -> None:
    """If DPS returns the reviews of another prisoner in a run for one prisoner, the run fails and says so."""
    upstream.reset(prisoners=60, mismatches={"7": 3})
    app = open_app()
    wrong = next(each for each in upstream.prisoners() if each["bookingId"] in planted(upstream))
    other = next(each for each in upstream.prisoners() if each["bookingId"] not in planted(upstream))
    path = "/iep/reviews/prisoner"
    body = app.services[UpstreamName.INCENTIVES].call("GET", f"{path}/{other['offenderNo']}")
    upstream.fault("incentives", "GET", f"{path}/{wrong['offenderNo']}$", kind="status", status=200, body=body)
    result = reconciled(app, offender_nos=(wrong["offenderNo"],))
    assert (result.status, result.mismatches) == ("failed", ())
    assert "about another prisoner" in str(result.failure)
