"""The incentives API: prisoners' reviews, current levels in bulk, the global levels and the levels of each prison."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, TypedDict, cast

from pydantic import BeforeValidator, ValidationError

from sync.errors import NotUnderstood
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import ContractProbe, Operation, one, optional, rows, unparsed
from sync.upstream.responses import LocalDateTime, Response
from sync.upstream.transport import ServiceClient


class Review(Response):
    """One incentive review; `user_id` is `INCENTIVES_API` if the service itself made the review."""

    id: int
    iep_code: str
    booking_id: int
    iep_date: date
    iep_time: LocalDateTime
    agency_id: str | None = None
    prisoner_number: str | None = None
    comments: str | None = None
    user_id: str | None = None
    review_type: str | None = None


def _readable(reviews: object) -> object:
    """The newest review, readable or not, and all other reviews that can be read."""
    if not isinstance(reviews, list):
        return reviews
    return [*reviews[:1], *(each for each in reviews[1:] if _is_review(each))]


def _is_review(value: object) -> bool:
    try:
        Review.model_validate(value)
    except ValidationError:
        return False
    return True


class ReviewSummary(Response):
    """The current level of a booking or prisoner; `iep_details` are the reviews, newest first, if they were requested.

    A review other than the newest is left out if it cannot be read, since it does not affect the current level.
    """

    id: int | None = None
    iep_code: str
    booking_id: int
    prisoner_number: str | None = None
    iep_date: date | None = None
    iep_time: LocalDateTime | None = None
    iep_details: Annotated[tuple[Review, ...], BeforeValidator(_readable)] = ()


class Level(Response):
    """An incentive level that applies to all prisons."""

    code: str
    name: str
    active: bool
    required: bool | None = None


class PrisonIncentiveLevel(Response):
    """An incentive level of one prison; limits are in pence."""

    level_code: str
    prison_id: str
    active: bool
    default_on_admission: bool
    remand_transfer_limit_in_pence: int | None = None
    remand_spend_limit_in_pence: int | None = None
    convicted_transfer_limit_in_pence: int | None = None
    convicted_spend_limit_in_pence: int | None = None
    visit_orders: int | None = None
    privileged_visit_orders: int | None = None


class _CurrentLevel(TypedDict, total=False):
    """A row of the bulk response: a booking and the name of its current level."""

    bookingId: int
    iepLevel: str


REVIEW = Operation(UpstreamName.INCENTIVES, "GET", "/iep/reviews/id/{id}", one(Review))
BOOKING_SUMMARY = Operation(
    UpstreamName.INCENTIVES,
    "GET",
    "/iep/reviews/booking/{bookingId}",
    optional(ReviewSummary),
    query=("with-details",),
)
PRISONER_SUMMARY = Operation(
    UpstreamName.INCENTIVES, "GET", "/iep/reviews/prisoner/{prisonerNumber}", optional(ReviewSummary)
)
CURRENT_LEVELS = Operation(
    UpstreamName.INCENTIVES, "POST", "/iep/reviews/bookings", unparsed(_CurrentLevel, "list"), body=list[int]
)
LEVELS = Operation(UpstreamName.INCENTIVES, "GET", "/incentive/levels", rows(Level), query=("with-inactive",))
PROBE = ContractProbe(LEVELS, query={"with-inactive": "true"})
LEVEL = Operation(UpstreamName.INCENTIVES, "GET", "/incentive/levels/{code}", one(Level))
PRISON_LEVEL = Operation(
    UpstreamName.INCENTIVES, "GET", "/incentive/prison-levels/{prisonId}/level/{levelCode}", one(PrisonIncentiveLevel)
)


def review(incentives: ServiceClient, review_id: int | str) -> Review:
    """The review with the id `review_id`. Raises `UpstreamError`, with status 404 for an unknown id."""
    return REVIEW.call(incentives, review_id, asked={"id": review_id})


def booking_summary(incentives: ServiceClient, booking_id: int, *, with_details: bool = True) -> ReviewSummary | None:
    """The current level of a booking, or None if the booking has no reviews. Raises `UpstreamError`.

    The current level is that of the review with the latest time. with_details: whether to read all reviews of the
    booking as well.
    """
    query = {"with-details": "true" if with_details else "false"}
    return BOOKING_SUMMARY.call(incentives, booking_id, query=query, asked={"bookingId": booking_id})


def prisoner_summary(incentives: ServiceClient, offender_no: str) -> ReviewSummary | None:
    """A prisoner's current level and all reviews, from every booking, or None if the prisoner has no reviews."""
    summary = PRISONER_SUMMARY.call(incentives, offender_no)
    if summary is not None and summary.prisoner_number not in (None, offender_no):
        path = PRISONER_SUMMARY.path_of(offender_no)
        message = "the response is about another prisoner"
        raise NotUnderstood(incentives.name, "GET", path, status=200, message=message)
    return summary


def current_levels(incentives: ServiceClient, booking_ids: Sequence[int]) -> Mapping[int, str]:
    """The names of the current levels of up to 1,000 bookings, by booking id.

    A booking is left out if it has no row, if one of its rows has no readable level, or if its rows contradict each
    other. Rows without the id of a requested booking are skipped. Raises `UpstreamError`.
    """
    if not booking_ids:
        return {}
    response = CURRENT_LEVELS.call(incentives, body=list(booking_ids))
    if not isinstance(response, list):
        path = CURRENT_LEVELS.path
        raise NotUnderstood(incentives.name, "POST", path, status=200, message="the response is not a list")
    levels: dict[int, str | None] = dict.fromkeys(booking_ids)
    contradictory = set()
    for row in response:
        named = cast(_CurrentLevel, row if isinstance(row, dict) else {})
        booking_id, level = named.get("bookingId"), named.get("iepLevel")
        if type(booking_id) is not int or booking_id not in levels:
            continue
        if not isinstance(level, str) or levels[booking_id] not in (None, level):
            contradictory.add(booking_id)
        else:
            levels[booking_id] = level
    return {booking: level for booking, level in levels.items() if level is not None and booking not in contradictory}


def levels(incentives: ServiceClient) -> tuple[Level, ...]:
    """All global levels in their order, including inactive ones. Raises `UpstreamError`."""
    return LEVELS.call(incentives, query={"with-inactive": "true"})


def level(incentives: ServiceClient, code: str) -> Level:
    """The global level with the code `code`, active or not. Raises `UpstreamError`."""
    return LEVEL.call(incentives, code, asked={"code": code})


def prison_level(incentives: ServiceClient, prison_id: str, code: str) -> PrisonIncentiveLevel:
    """The level with the code `code` in the prison `prison_id`. Raises `UpstreamError`."""
    return PRISON_LEVEL.call(incentives, prison_id, code, asked={"prisonId": prison_id, "levelCode": code})
