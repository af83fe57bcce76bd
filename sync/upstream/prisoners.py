"""NOMIS's lists of prisoners' bookings, and the "prisoner received" events of prisoner-offender-search.

If such an event was missed, the remedy is to publish it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from sync.errors import NotUnderstood
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import EMPTY, ContractProbe, Operation, rows, unparsed
from sync.upstream.responses import MAX_ELEMENTS, Body, RecordNumber, Response, page_counts
from sync.upstream.transport import ServiceClient

_LONGEST_OFFENDER_NO = 10
_BOOKING_IDS_END = 2**63


@dataclass(frozen=True, slots=True)
class PrisonerId:
    """The id of a booking and the number of its prisoner."""

    booking_id: int
    offender_no: str


class _Row(TypedDict, total=False):
    """A booking in one of NOMIS's lists. A row that lacks either field is unusable."""

    bookingId: int
    offenderNo: str


class _LatestBookings(TypedDict, total=False):
    prisonerIds: list[_Row]
    lastBookingId: int


PRISONER_IDS = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/prisoners/ids",
    unparsed(_Row, "page"),
    role="SYNCHRONISATION_REPORTING",
    query=("active", "sort"),
)
PROBE = ContractProbe(PRISONER_IDS, query={"active": "true", "sort": "bookingId,ASC", "page": 0, "size": 1})
LATEST_BOOKINGS = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/bookings/ids/latest-from-id",
    unparsed(_LatestBookings),
    role="NOMIS_PRISONER_API__SYNCHRONISATION__RW",
    query=("bookingId", "activeOnly", "pageSize"),
    since="2025-01",
)


@dataclass(frozen=True, slots=True)
class UnusableRow:
    """A row that does not identify a booking and its prisoner.

    page, row: its page (from 0) and its place on that page (from 1). booking_id, offender_no: its ids, with None
    for an id that is missing or cannot be used. reason: what is wrong.
    """

    page: int
    row: int
    booking_id: int | None
    offender_no: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class PrisonerPage:
    """One page of active bookings, in ascending order of booking id.

    total_elements: the number of bookings on all pages at the time of the call. size: the number of rows in a full
    page, as the service states it, or the requested number if the service states none or an impossible one. unusable:
    the rows that have no usable booking id or no usable prisoner number.
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

    A page that has more rows than its total allows is accepted, but does not count as the last page: its prisoners can
    be used, and the list as a whole shows whether anybody is missing. Raises `UpstreamError`: `NotUnderstood` if the
    response is not a page of prisoners, is a different page, or has a total above `MAX_ELEMENTS`.
    """
    query = {"active": "true", "sort": "bookingId,ASC", "page": page, "size": size}
    response = PRISONER_IDS.call(nomis, query=query)
    try:
        return _page_of(response, page, size)
    except ValueError as error:
        message = f"page {page} cannot be right: {error}"
        raise NotUnderstood(nomis.name, "GET", PRISONER_IDS.path, status=200, message=message) from None


def _page_of(response: Any, page: int, size: int) -> PrisonerPage:
    content = response.get("content") if isinstance(response, dict) else None
    if not isinstance(content, list):
        raise ValueError("it has no list of prisoners")
    counts = page_counts(response)
    total = counts.get("totalElements")
    if total is None:
        raise ValueError("it does not say how many prisoners there are")
    if counts.get("number", page) != page:
        raise ValueError(f"it is page {counts['number']}")
    if total > MAX_ELEMENTS:
        raise ValueError(f"it counts {total:,} active prisoners")
    real_size = counts.get("size", size)
    if not max(1, len(content)) <= real_size <= size:
        real_size = size
    pages = counts.get("totalPages", -(-total // real_size))
    more_than_counted = bool(content) and page * real_size + len(content) > total
    rows = [_row(page, place, row) for place, row in enumerate(content, start=1)]
    return PrisonerPage(
        tuple(row for row in rows if isinstance(row, PrisonerId)),
        page,
        total,
        pages,
        response.get("last", page + 1 >= pages) is True and not more_than_counted,
        real_size,
        tuple(row for row in rows if isinstance(row, UnusableRow)),
    )


def latest_bookings(nomis: ServiceClient, after: int, size: int, *, active_only: bool) -> tuple[PrisonerId, ...]:
    """The first `size` bookings whose ids are greater than `after`, in order of id.

    There are fewer only at the end of the list. The list has the latest booking of each prisoner; with `active_only`,
    it has only those that are active. Raises `UpstreamError`: `NotUnderstood` for a page with a row that is not a
    booking, with too many rows, with ids that do not ascend from `after`, or with a `lastBookingId` that is not the id
    of the last row.
    """
    query = {"bookingId": after, "activeOnly": str(active_only).lower(), "pageSize": size}
    response = LATEST_BOOKINGS.call(nomis, query=query)
    try:
        return _bookings_of(response, after, size)
    except ValueError as error:
        message = f"the page after booking {after} cannot be right: {error}"
        raise NotUnderstood(nomis.name, "GET", LATEST_BOOKINGS.path, status=200, message=message) from None


def _bookings_of(response: Any, after: int, size: int) -> tuple[PrisonerId, ...]:
    content = response.get("prisonerIds") if isinstance(response, dict) else None
    if not isinstance(content, list):
        raise ValueError("it has no list of bookings")
    if len(content) > size:
        raise ValueError(f"it has {len(content)} bookings, but only {size} were requested")
    last, found = after, []
    for place, each in enumerate(content, start=1):
        row = _row(0, place, each)
        if isinstance(row, UnusableRow):
            raise ValueError(f"row {place}: {row.reason}")
        if row.booking_id <= last:
            raise ValueError(f"booking {row.booking_id} comes after {last}")
        last = row.booking_id
        found.append(row)
    # On an empty page, `lastBookingId` is 0, from which the first page starts, so it is not compared with a booking.
    if found and response.get("lastBookingId") != last:
        raise ValueError(f"its last booking is {last}, but its lastBookingId is different")
    return tuple(found)


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
    return 0 < len(text) <= _LONGEST_OFFENDER_NO and text.isascii() and text.isalnum()


#: The maximum number of bookings in one call: NOMIS's database does not accept a longer list of values.
MOST_BOOKINGS = 1000


class BookingDetails(Response):
    """A booking with its prisoner, and where the prisoner is now: a prison, `OUT` or `TRN`."""

    booking_id: RecordNumber
    offender_no: str
    location: str | None = None
    active: bool


_BOOKINGS = Operation(
    UpstreamName.NOMIS,
    "POST",
    "/prisoners/bookings",
    rows(BookingDetails),
    role="NOMIS_PRISONER_API__SYNCHRONISATION__RW",
    body=list[int],
    since="2023-10",
)


def bookings(nomis: ServiceClient, booking_ids: Sequence[int]) -> dict[int, BookingDetails]:
    """The bookings in NOMIS that have one of the `booking_ids` (at most `MOST_BOOKINGS`), by id.

    NOMIS has had this endpoint since October 2023. Raises `UpstreamError`: `NotUnderstood` for a booking that was not
    asked for.
    """
    found = {each.booking_id: each for each in _BOOKINGS.call(nomis, body=list(booking_ids))}
    if not found.keys() <= set(booking_ids):
        message = "the response includes bookings that were not requested"
        raise NotUnderstood(nomis.name, "POST", _BOOKINGS.path, status=200, message=message)
    return found


#: The reasons for which the incentives API writes a review. It accepts two more reasons, which have no effect there.
REVIEWED_REASONS = ("NEW_ADMISSION", "READMISSION", "TRANSFERRED")
REASONS = (*REVIEWED_REASONS, "RETURN_FROM_COURT", "TEMPORARY_ABSENCE_RETURN")


class ReceivedEvent(Body):
    """The body of a "prisoner received" event; `occurred_at` is in London time, to the second."""

    reason: str
    prison_id: str
    occurred_at: str


_PUBLISH_RECEIVED = Operation(
    UpstreamName.PRISONER_SEARCH,
    "PUT",
    "/events/prisoner/received/{prisonerNumber}",
    EMPTY,
    role="EVENTS_ADMIN",
    body=ReceivedEvent,
)


def received_event(reason: str, prison_id: str, occurred_at: datetime) -> ReceivedEvent:
    """The "prisoner received" event for a movement at `occurred_at`, which is in London time."""
    moment = occurred_at.replace(tzinfo=None).isoformat(timespec="seconds")
    return ReceivedEvent(reason=reason, prison_id=prison_id, occurred_at=moment)


def publish_received(prisoner_search: ServiceClient, offender_no: str, event: ReceivedEvent) -> None:
    """Publishes `event`. Another call publishes it again. Raises `UpstreamError`, with status 400 for bad values."""
    _PUBLISH_RECEIVED.call(prisoner_search, offender_no, body=event)
