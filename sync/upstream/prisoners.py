"""NOMIS: the listing of active prisoners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync.failures import NotUnderstood
from sync.upstream.pages import MOST_ELEMENTS, counts_of
from sync.upstream.transport import ServiceClient

PATH = "/prisoners/ids"
LONGEST_OFFENDER_NO = 10
_BOOKING_IDS_END = 2**63


@dataclass(frozen=True, slots=True)
class PrisonerId:
    """An active booking and its prisoner."""

    booking_id: int
    offender_no: str


@dataclass(frozen=True, slots=True)
class UnusableRow:
    """A row of the list (from 1, on a page from 0) by which nobody can be compared: the ids it has, what is wrong."""

    page: int
    row: int
    booking_id: int | None
    offender_no: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class PrisonerPage:
    """One page of active bookings, by booking id ascending; `total_elements` counts the bookings of all pages now.

    size: how many rows a page has by the service's own word. unusable: rows without a booking id or a prisoner number
    that could be used.
    """

    prisoners: tuple[PrisonerId, ...]
    number: int
    total_elements: int
    total_pages: int
    last: bool
    size: int
    unusable: tuple[UnusableRow, ...] = ()


def prisoner_page(nomis: ServiceClient, page: int, size: int) -> PrisonerPage:
    """Page `page` (from 0) of the active prisoners; NOMIS silently caps `size` at 20,000.

    A page whose rows do not agree with its counts is read all the same, as one that is not the last: whoever is on it
    is known, and the list as a whole tells whether somebody is missing. Raises `UpstreamError`, as `NotUnderstood`
    for what is no such page, is another page, or counts more prisoners than there can be.
    """
    query = {"active": "true", "sort": "bookingId,ASC", "page": page, "size": size}
    answer = nomis.call("GET", PATH, query=query)
    try:
        return _page_of(answer, page, size)
    except ValueError as error:
        message = f"page {page} cannot be right: {error}"
        raise NotUnderstood(nomis.name, "GET", PATH, status=200, message=message) from None


def _page_of(answer: Any, page: int, size: int) -> PrisonerPage:
    content = answer.get("content") if isinstance(answer, dict) else None
    if not isinstance(content, list):
        raise ValueError("it has no list of prisoners")
    told = counts_of(answer)
    total = told.get("totalElements")
    if total is None:
        raise ValueError("it does not say how many prisoners there are")
    if told.get("number", page) != page:
        raise ValueError(f"it is page {told['number']}")
    if total > MOST_ELEMENTS:
        raise ValueError(f"it counts {total:,} active prisoners")
    real_size = told.get("size", size)
    if not max(1, len(content)) <= real_size <= size:
        real_size = size
    pages = told.get("totalPages", -(-total // real_size))
    more_than_counted = bool(content) and page * real_size + len(content) > total
    rows = [_row(page, place, row) for place, row in enumerate(content, start=1)]
    return PrisonerPage(
        tuple(row for row in rows if isinstance(row, PrisonerId)),
        page,
        total,
        pages,
        answer.get("last", page + 1 >= pages) is True and not more_than_counted,
        real_size,
        tuple(row for row in rows if isinstance(row, UnusableRow)),
    )


def _row(page: int, place: int, row: object) -> PrisonerId | UnusableRow:
    found = row if isinstance(row, Mapping) else {}
    booking_id, offender_no = found.get("bookingId"), found.get("offenderNo")
    wrong = []
    if type(booking_id) is not int or not 0 < booking_id < _BOOKING_IDS_END:
        wrong.append(f"its booking id {'is missing' if booking_id is None else 'cannot be used'}")
        booking_id = None
    if not (isinstance(offender_no, str) and _is_offender_no(offender_no)):
        wrong.append(f"its prisoner number {'is missing' if offender_no is None else 'cannot be used'}")
        offender_no = None
    if booking_id is None or offender_no is None:
        return UnusableRow(page, place, booking_id, offender_no, " and ".join(wrong))
    return PrisonerId(booking_id, offender_no)


def _is_offender_no(text: str) -> bool:
    return 0 < len(text) <= LONGEST_OFFENDER_NO and text.isascii() and text.isalnum()
