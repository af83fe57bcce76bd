"""NOMIS: adjustments to sentences and to key dates. They form two families with overlapping ids."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import Annotated, Any, Literal, get_args

from sync.errors import NotUnderstood, RuleError, UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import EMPTY, Operation, optional, paged, written
from sync.upstream.responses import Body, Comment, RecordNumber, Response, Since
from sync.upstream.transport import ServiceClient

#: The names of the families as the mapping service writes them. NOMIS's own list has `KEY_DATE` for `KEY-DATE`.
Category = Literal["SENTENCE", "KEY-DATE"]


def category(word: object) -> Category:
    """The family called `word`. Raises `RuleError` if no family has this name."""
    for known in get_args(Category):
        if word == known:
            found: Category = known
            return found
    raise RuleError(f"no family of adjustments is called {word!r}")


class AdjustmentBody(Body):
    """An adjustment of either family. An adjustment to a key date must have a from-date."""

    adjustment_type_code: str
    adjustment_date: date
    adjustment_from_date: date | None
    adjustment_days: int
    comment: Comment | None
    active: bool


class ChangedAdjustment(AdjustmentBody):
    """The new state of an adjustment in NOMIS.

    For an adjustment to a sentence, versions of NOMIS since June 2023 also require the sentence.
    """

    sentence_sequence: Annotated[int | None, Since("2023-06")]


class AdjustmentCreated(Response):
    """The id of a new adjustment. Ids are unique only within a family."""

    id: RecordNumber


class AdjustmentType(Response):
    """The type of an adjustment, identified by its code."""

    code: str


class NomisAdjustment(Response):
    """An adjustment in NOMIS. If it is hidden from users, NOMIS itself created it."""

    id: RecordNumber
    booking_id: int
    offender_no: str | None = None
    sentence_sequence: int | None = None
    adjustment_type: AdjustmentType
    adjustment_date: date | None = None
    adjustment_from_date: date | None = None
    adjustment_days: int
    comment: str | None = None
    active: bool = True
    hidden_from_users: bool = False


class BookingAdjustment(Response):
    """An adjustment in the list of a booking's adjustments.

    prison_id: the prison where the prisoner is now, or `OUT` if the prisoner has been released.
    """

    id: RecordNumber
    booking_id: int
    prison_id: str | None = None
    adjustment_type: AdjustmentType
    adjustment_days: int
    active: bool


class BookingAdjustments(Response):
    """The adjustments of a booking, in both families, except those that NOMIS hides from users."""

    key_date_adjustments: tuple[BookingAdjustment, ...]
    sentence_adjustments: tuple[BookingAdjustment, ...]

    def by_category(self) -> Iterator[tuple[Category, BookingAdjustment]]:
        """Each adjustment with its family."""
        for each in self.key_date_adjustments:
            yield "KEY-DATE", each
        for each in self.sentence_adjustments:
            yield "SENTENCE", each


class _Listed(Response):
    adjustment_id: RecordNumber
    adjustment_category: Literal["SENTENCE", "KEY-DATE", "KEY_DATE"]


_ROLE = "NOMIS_SENTENCING"
CREATE_SENTENCE_ADJUSTMENT = Operation(
    UpstreamName.NOMIS,
    "POST",
    "/prisoners/booking-id/{bookingId}/sentences/{sentenceSequence}/adjustments",
    written(AdjustmentCreated),
    role=_ROLE,
    body=AdjustmentBody,
)
CREATE_KEY_DATE_ADJUSTMENT = replace(CREATE_SENTENCE_ADJUSTMENT, path="/prisoners/booking-id/{bookingId}/adjustments")
_ONE: Mapping[Category, str] = {
    "SENTENCE": "/sentence-adjustments/{adjustmentId}",
    "KEY-DATE": "/key-date-adjustments/{adjustmentId}",
}
UPDATES: Mapping[Category, Operation[None]] = {
    "SENTENCE": Operation(UpstreamName.NOMIS, "PUT", _ONE["SENTENCE"], EMPTY, role=_ROLE, body=ChangedAdjustment),
    # An adjustment to a key date does not have a sentence.
    "KEY-DATE": Operation(UpstreamName.NOMIS, "PUT", _ONE["KEY-DATE"], EMPTY, role=_ROLE, body=AdjustmentBody),
}
DELETES = {family: Operation(UpstreamName.NOMIS, "DELETE", path, EMPTY, role=_ROLE) for family, path in _ONE.items()}
ADJUSTMENTS = {
    family: Operation(UpstreamName.NOMIS, "GET", path, optional(NomisAdjustment), role=_ROLE)
    for family, path in _ONE.items()
}
BOOKING_ADJUSTMENTS = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/prisoners/booking-id/{bookingId}/sentencing-adjustments",
    optional(BookingAdjustments),
    role="NOMIS_PRISONER_API__SYNCHRONISATION__RW",
    query=("active-only",),
    since="2023-11",
)
CREATED_ADJUSTMENTS = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/adjustments/ids",
    paged(_Listed),
    role=_ROLE,
    query=("fromDate",),
    optional_query=("toDate",),
)


def create_adjustment(
    nomis: ServiceClient, booking_id: int, sentence_sequence: int | None, body: Mapping[str, Any]
) -> int:
    """Creates an adjustment to a sentence, or to a key date if `sentence_sequence` is None.

    Returns the id of the adjustment. A repeated call creates another adjustment. Raises `UpstreamError`.
    """
    if sentence_sequence is None:
        return CREATE_KEY_DATE_ADJUSTMENT.call(nomis, booking_id, body=body).id
    return CREATE_SENTENCE_ADJUSTMENT.call(nomis, booking_id, sentence_sequence, body=body).id


def update_adjustment(nomis: ServiceClient, category: Category, adjustment_id: int, body: ChangedAdjustment) -> None:
    """Changes the adjustment `adjustment_id` of the family `category`. Raises `UpstreamError`."""
    UPDATES[category].call(nomis, adjustment_id, body=body)


def delete_adjustment(nomis: ServiceClient, category: Category, adjustment_id: int) -> None:
    """Deletes the adjustment `adjustment_id` of the family `category`; an unknown id is ignored.

    Raises `UpstreamError`.
    """
    try:
        DELETES[category].call(nomis, adjustment_id)
    except UpstreamError as error:
        if not error.absent:
            raise


def find_adjustment(nomis: ServiceClient, category: Category, adjustment_id: int) -> NomisAdjustment | None:
    """The adjustment `adjustment_id` of the family `category`, or None if NOMIS does not have it.

    Raises `UpstreamError`.
    """
    return ADJUSTMENTS[category].call(nomis, adjustment_id, asked={"id": adjustment_id})


def booking_adjustments(nomis: ServiceClient, booking_id: int, *, active_only: bool) -> BookingAdjustments | None:
    """The adjustments of a booking, or None if NOMIS does not have the booking.

    active_only: whether to leave out adjustments that are not active. NOMIS has had this endpoint since November 2023.

    Raises `UpstreamError`.
    """
    found = BOOKING_ADJUSTMENTS.call(nomis, booking_id, query={"active-only": str(active_only).lower()})
    if found is None:
        return None
    others = {each.booking_id for _, each in found.by_category()} - {booking_id}
    if others:
        path = BOOKING_ADJUSTMENTS.path_of(booking_id)
        message = f"the response is about another record: booking {min(others)}"
        raise NotUnderstood(nomis.name, "GET", path, status=200, message=message)
    return found


def adjustment_ids(nomis: ServiceClient, category: Category, created_from: date) -> Iterator[int]:
    """The ids of the adjustments of the family `category` that were created on `created_from` or later."""
    return (number for family, number in created_adjustments(nomis, created_from) if family == category)


def created_adjustments(
    nomis: ServiceClient, created_from: date, created_to: date | None = None
) -> Iterator[tuple[Category, int]]:
    """The families and ids of the adjustments that were created from `created_from` to `created_to` inclusive.

    NOMIS had this list until December 2025.
    """
    query = {"fromDate": created_from.isoformat()} | ({} if created_to is None else {"toDate": created_to.isoformat()})
    for listed in CREATED_ADJUSTMENTS.pages(nomis, query=query):
        yield category(listed.adjustment_category.replace("_", "-")), listed.adjustment_id
