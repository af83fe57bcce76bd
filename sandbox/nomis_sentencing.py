"""Sentence and key-date adjustments in NOMIS: two families whose numbers overlap."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sandbox.bodies import Fields, bad_request, not_found, path_number, read_date
from sandbox.clock import london_now
from sandbox.nomis_codes import KEY_DATE_ADJUSTMENT_TYPES, SENTENCE_ADJUSTMENT_TYPES
from sandbox.paging import page
from sandbox.serving import Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.world import World

ROLE: Final = "NOMIS_SENTENCING"
FIRST_ID: Final = 33_001


@dataclass(slots=True)
class NomisAdjustment:
    """One adjustment of either family; `sentence` is None for a key date.

    A hidden one belongs to the key-date adjustment `made_by`.
    """

    id: int
    booking_id: int
    sentence: int | None
    type: str
    day: date | None
    start: date | None
    days: int
    comment: str | None
    active: bool
    created: datetime
    made_by: int | None = None

    @property
    def end(self) -> date | None:
        """The last day: a period of one day starts and ends on the same."""
        return None if self.start is None else self.start + timedelta(days=self.days - 1)


class NomisSentencing:
    """Both families of adjustments, each with its own sequence of numbers."""

    def __init__(self) -> None:
        """Start without adjustments."""
        self.sentence: dict[int, NomisAdjustment] = {}
        self.key_date: dict[int, NomisAdjustment] = {}
        self.sentence_ids = itertools.count(FIRST_ID)
        self.key_date_ids = itertools.count(FIRST_ID)

    def delete_sentence(self, adjustment_id: int) -> None:
        """Remove a sentence adjustment; an unknown one is nothing to do."""
        self.sentence.pop(adjustment_id, None)

    def delete_key_date(self, adjustment_id: int) -> None:
        """Remove a key-date adjustment and the hidden ones made by it; an unknown one is nothing to do."""
        if self.key_date.pop(adjustment_id, None) is None:
            return
        for hidden in [each.id for each in self.sentence.values() if each.made_by == adjustment_id]:
            del self.sentence[hidden]


def routes(world: World) -> list[Route]:
    """The endpoints of NOMIS about adjustments."""

    def create_sentence(request: Request, booking_id: str, sequence: str) -> Reply:
        booking, sentence = path_number(booking_id, "bookingId"), path_number(sequence, "sentenceSequence")
        return Reply(201, {"id": create_sentence_adjustment(world, booking, sentence, Fields.of(request)).id})

    def create_key_date(request: Request, booking_id: str) -> Reply:
        booking = path_number(booking_id, "bookingId")
        return Reply(201, {"id": create_key_date_adjustment(world, booking, Fields.of(request)).id})

    def update_sentence(request: Request, number: str) -> Reply:
        update_adjustment(_found(world.nomis_sentencing.sentence, number, "Sentence"), Fields.of(request))
        return Reply()

    def update_key_date(request: Request, number: str) -> Reply:
        update_adjustment(_found(world.nomis_sentencing.key_date, number, "Key date"), Fields.of(request))
        return Reply()

    def delete_sentence(request: Request, number: str) -> Reply:
        world.nomis_sentencing.delete_sentence(path_number(number, "adjustmentId"))
        return Reply(status=204)

    def delete_key_date(request: Request, number: str) -> Reply:
        world.nomis_sentencing.delete_key_date(path_number(number, "adjustmentId"))
        return Reply(status=204)

    def get_sentence(request: Request, number: str) -> Reply:
        return Reply(body=_view(world, _found(world.nomis_sentencing.sentence, number, "Sentence")))

    def get_key_date(request: Request, number: str) -> Reply:
        return Reply(body=_view(world, _found(world.nomis_sentencing.key_date, number, "Key date")))

    def ids(request: Request) -> Reply:
        found = _listed(world, request)
        return page(request, found, lambda start, end: [_listing(each) for each in found[start:end]])

    of_booking = "/prisoners/booking-id/{booking_id}"
    return [
        Route("POST", f"{of_booking}/sentences/{{sequence}}/adjustments", create_sentence, ROLE, writes=True),
        Route("POST", f"{of_booking}/adjustments", create_key_date, ROLE, writes=True),
        Route("GET", "/sentence-adjustments/{number}", get_sentence, ROLE),
        Route("PUT", "/sentence-adjustments/{number}", update_sentence, ROLE, writes=True),
        Route("DELETE", "/sentence-adjustments/{number}", delete_sentence, ROLE, writes=True),
        Route("GET", "/key-date-adjustments/{number}", get_key_date, ROLE),
        Route("PUT", "/key-date-adjustments/{number}", update_key_date, ROLE, writes=True),
        Route("DELETE", "/key-date-adjustments/{number}", delete_key_date, ROLE, writes=True),
        Route("GET", "/adjustments/ids", ids, ROLE),
    ]


def create_sentence_adjustment(world: World, booking_id: int, sequence: int, fields: Fields) -> NomisAdjustment:
    """Adjust a sentence: booking and sentence must exist (404), the type be one of sentences (400)."""
    made = _read(fields, booking_id, sequence)
    _check_booking(world, booking_id)
    if not world.places.sentence_exists(booking_id, sequence):
        raise not_found(f"Sentence with sequence {sequence} not found for booking {booking_id}")
    _check_type(made)
    made.id = next(world.nomis_sentencing.sentence_ids)
    world.nomis_sentencing.sentence[made.id] = made
    return made


def create_key_date_adjustment(world: World, booking_id: int, fields: Fields) -> NomisAdjustment:
    """Adjust a key date; the database adds a hidden adjustment to every sentence of the booking."""
    made = _read(fields, booking_id, None)
    _check_booking(world, booking_id)
    _check_type(made)
    sentencing = world.nomis_sentencing
    made.id = next(sentencing.key_date_ids)
    sentencing.key_date[made.id] = made
    for sequence in range(1, world.places.sentences(booking_id) + 1):
        hidden = NomisAdjustment(
            id=next(sentencing.sentence_ids),
            booking_id=booking_id,
            sentence=sequence,
            type=made.type,
            day=made.day,
            start=made.start,
            days=made.days,
            comment=made.comment,
            active=made.active,
            created=made.created,
            made_by=made.id,
        )
        sentencing.sentence[hidden.id] = hidden
    return made


def update_adjustment(found: NomisAdjustment, fields: Fields) -> None:
    """Change an adjustment inside its family."""
    asked = _read(fields, found.booking_id, found.sentence)
    _check_type(asked)
    found.type, found.day, found.start, found.days = asked.type, asked.day, asked.start, asked.days
    found.comment, found.active = asked.comment, asked.active


def _read(fields: Fields, booking_id: int, sentence: int | None) -> NomisAdjustment:
    days = fields.number("adjustmentDays")
    if days < 0:
        raise bad_request("Validation failed for adjustmentDays: must be greater than or equal to 0")
    return NomisAdjustment(
        id=0,
        booking_id=booking_id,
        sentence=sentence,
        type=fields.text("adjustmentTypeCode"),
        day=fields.optional_day("adjustmentDate"),
        start=fields.day("adjustmentFromDate") if sentence is None else fields.optional_day("adjustmentFromDate"),
        days=days,
        comment=fields.comment("comment"),
        active=fields.flag("active", default=True),
        created=london_now(),
    )


def _check_booking(world: World, booking_id: int) -> None:
    if booking_id not in world.by_booking:
        raise not_found(f"Booking {booking_id} not found")


def _check_type(asked: NomisAdjustment) -> None:
    allowed = KEY_DATE_ADJUSTMENT_TYPES if asked.sentence is None else SENTENCE_ADJUSTMENT_TYPES
    if asked.type not in allowed:
        family = "key date" if asked.sentence is None else "sentence"
        raise bad_request(f"Sentence adjustment type {asked.type} not found or not valid for a {family} adjustment")


def _found(held: dict[int, NomisAdjustment], text: str, family: str) -> NomisAdjustment:
    found = held.get(path_number(text, "adjustmentId"))
    if found is None:
        raise not_found(f"{family} adjustment with id {text} not found")
    return found


def _listed(world: World, request: Request) -> list[NomisAdjustment]:
    from_date, to_date = request.first("fromDate"), request.first("toDate")
    earliest = read_date(from_date, "fromDate") if from_date else date.min
    latest = read_date(to_date, "toDate") if to_date else date.max
    held = world.nomis_sentencing
    found = [
        each for each in (*held.sentence.values(), *held.key_date.values()) if earliest <= each.created.date() <= latest
    ]
    return sorted(found, key=lambda each: each.created)


def _listing(found: NomisAdjustment) -> dict[str, object]:
    return {"adjustmentId": found.id, "adjustmentCategory": "KEY_DATE" if found.sentence is None else "SENTENCE"}


def _view(world: World, found: NomisAdjustment) -> dict[str, object]:
    description = {**SENTENCE_ADJUSTMENT_TYPES, **KEY_DATE_ADJUSTMENT_TYPES}[found.type]
    body: dict[str, object] = {
        "id": found.id,
        "bookingId": found.booking_id,
        "offenderNo": world.by_booking[found.booking_id].offender_no,
        "adjustmentType": {"code": found.type, "description": description},
        "adjustmentDays": found.days,
        "active": found.active,
    }
    optional = {
        "adjustmentDate": found.day,
        "adjustmentFromDate": found.start,
        "adjustmentToDate": found.end,
    }
    body.update((name, day.isoformat()) for name, day in optional.items() if day is not None)
    if found.comment is not None:
        body["comment"] = found.comment
    if found.sentence is not None:
        body["sentenceSequence"] = found.sentence
        body["hiddenFromUsers"] = found.made_by is not None
    return body
