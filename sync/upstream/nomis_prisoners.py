"""NOMIS: the listing of active prisoners."""

from dataclasses import dataclass

from sync.upstream.bodies import Answer, read_answer
from sync.upstream.pages import read_page
from sync.upstream.transport import ServiceClient

PATH = "/prisoners/ids"


@dataclass(frozen=True, slots=True)
class PrisonerId:
    """An active booking and its prisoner."""

    booking_id: int
    offender_no: str


@dataclass(frozen=True, slots=True)
class PrisonerPage:
    """One page of active bookings, by booking id ascending; `total_elements` counts the bookings of all pages now."""

    prisoners: tuple[PrisonerId, ...]
    number: int
    total_elements: int
    total_pages: int
    last: bool


class _Id(Answer):
    booking_id: int
    offender_no: str


def prisoner_page(nomis: ServiceClient, page: int, size: int) -> PrisonerPage:
    """Page `page` (from 0) of the active prisoners; NOMIS silently caps `size` at 20,000. Raises `UpstreamError`."""
    query = {"active": "true", "sort": "bookingId,ASC"}
    read = read_page(nomis, PATH, query, page, size)
    rows = (read_answer(_Id, each, nomis, "GET", PATH) for each in read.content)
    prisoners = tuple(PrisonerId(each.booking_id, each.offender_no) for each in rows)
    return PrisonerPage(prisoners, read.number, read.total_elements, read.total_pages, read.last)
