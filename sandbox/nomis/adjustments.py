"""Sentence and key-date adjustments in NOMIS: two families whose numbers overlap."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_now
from sandbox.hmpps.auth import NOMIS_SYNCHRONISATION
from sandbox.http.paging import flag, page
from sandbox.http.serving import Reply, Request, Route
from sandbox.nomis.bodies import (
    KEY_DATE_ADJUSTMENT_TYPES,
    NEWER_SENTENCE_ADJUSTMENT_TYPES,
    SENTENCE_ADJUSTMENT_TYPES,
    Fields,
    bad_request,
    not_found,
    path_number,
    read_date,
)

if TYPE_CHECKING:
    from sandbox.world import World

ROLE: Final = "NOMIS_SENTENCING"
FIRST_ID: Final = 33_001
NEWER_TYPES_SINCE: Final = "2025-01"
_DESCRIPTIONS: Final = {
    **SENTENCE_ADJUSTMENT_TYPES,
    **NEWER_SENTENCE_ADJUSTMENT_TYPES,
    **KEY_DATE_ADJUSTMENT_TYPES,
}


@dataclass(slots=True)
class NomisAdjustment:
    """One adjustment of either family; `sentence` is None for an adjustment to a key date.

    For a hidden adjustment, `made_by` is the id of the key-date adjustment that caused it; otherwise it is None.
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
        """The last day, or None if there is no start. A period of one day starts and ends on the same day."""
        return None if self.start is None else self.start + timedelta(days=self.days - 1)


class NomisSentencing:
    """Both families of adjustments, each with its own sequence of numbers."""

    def __init__(self) -> None:
        """Starts without adjustments."""
        self.sentence: dict[int, NomisAdjustment] = {}
        self.key_date: dict[int, NomisAdjustment] = {}
        self.sentence_ids = itertools.count(FIRST_ID)
        self.key_date_ids = itertools.count(FIRST_ID)
        self._by_booking: defaultdict[int, list[NomisAdjustment]] = defaultdict(list)

    def add(self, made: NomisAdjustment) -> NomisAdjustment:
        """Gives an adjustment the next number of its family, stores it, and returns it."""
        made.id = next(self.key_date_ids if made.sentence is None else self.sentence_ids)
        (self.key_date if made.sentence is None else self.sentence)[made.id] = made
        self._by_booking[made.booking_id].append(made)
        return made

    def of_booking(self, booking_id: int) -> Iterable[NomisAdjustment]:
        """A booking's adjustments from both families, including the hidden ones."""
        return self._by_booking.get(booking_id, ())

    def delete_sentence(self, adjustment_id: int) -> None:
        """Removes a sentence adjustment; does nothing if the id is unknown."""
        self._remove(self.sentence.pop(adjustment_id, None))

    def delete_key_date(self, adjustment_id: int) -> None:
        """Removes a key-date adjustment and its hidden adjustments; does nothing if the id is unknown."""
        self._remove(self.key_date.pop(adjustment_id, None))
        for hidden in [each.id for each in self.sentence.values() if each.made_by == adjustment_id]:
            self._remove(self.sentence.pop(hidden))

    def _remove(self, deleted: NomisAdjustment | None) -> None:
        if deleted is not None:
            self._by_booking[deleted.booking_id].remove(deleted)


def plant_duplicate(world: World, adjustment_id: int, category: str) -> int:
    """Adds a copy of an adjustment, as another installation would have made it; returns the id of the copy.

    `category` (`SENTENCE` or `KEY-DATE`) is needed because both families can use the same number.
    """
    held = world.nomis_sentencing
    family = held.sentence if category == "SENTENCE" else held.key_date
    return held.add(replace(family[adjustment_id])).id


def routes(world: World) -> list[Route]:
    """Returns the NOMIS endpoints that read and write the adjustments of both families."""

    def create_sentence(request: Request, booking_id: str, sequence: str) -> Reply:
        booking, sentence = path_number(booking_id, "bookingId"), path_number(sequence, "sentenceSequence")
        return Reply(201, {"id": create_sentence_adjustment(world, booking, sentence, Fields.of(request)).id})

    def create_key_date(request: Request, booking_id: str) -> Reply:
        booking = path_number(booking_id, "bookingId")
        return Reply(201, {"id": create_key_date_adjustment(world, booking, Fields.of(request)).id})

    def update_sentence(request: Request, number: str) -> Reply:
        update_adjustment(world, _found(world.nomis_sentencing.sentence, number, "Sentence"), Fields.of(request))
        return Reply()

    def update_key_date(request: Request, number: str) -> Reply:
        update_adjustment(world, _found(world.nomis_sentencing.key_date, number, "Key date"), Fields.of(request))
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

    def list_of_booking(request: Request, booking_id: str) -> Reply:
        number = path_number(booking_id, "bookingId")
        active_only = flag(request, "active-only", True)
        _check_booking(world, number)
        return Reply(body=_of_booking(world, number, active_only=active_only))

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
        Route("GET", "/adjustments/ids", ids, ROLE, until="2025-12"),
        Route("GET", f"{of_booking}/sentencing-adjustments", list_of_booking, NOMIS_SYNCHRONISATION, since="2023-11"),
    ]


def create_sentence_adjustment(world: World, booking_id: int, sequence: int, fields: Fields) -> NomisAdjustment:
    """Adds an adjustment to a sentence.

    The booking and the sentence must exist (otherwise 404), and the type must be valid for sentences (otherwise 400).
    """
    made = _read(fields, booking_id, sequence)
    _check_booking(world, booking_id)
    _check_sentence(world, booking_id, sequence)
    _check_type(world, made)
    return world.nomis_sentencing.add(made)


def create_key_date_adjustment(world: World, booking_id: int, fields: Fields) -> NomisAdjustment:
    """Adds an adjustment to a key date and, as the database would, a hidden one to every sentence of the booking.

    The booking must exist (otherwise 404), and the type must be valid for key dates (otherwise 400).
    """
    made = _read(fields, booking_id, None)
    _check_booking(world, booking_id)
    _check_type(world, made)
    return add_key_date_adjustment(world, made)


def add_key_date_adjustment(world: World, made: NomisAdjustment) -> NomisAdjustment:
    """Stores a key-date adjustment, with the hidden adjustments that the database would add."""
    world.nomis_sentencing.add(made)
    for sequence in range(1, world.places.sentences(made.booking_id) + 1):
        hidden = NomisAdjustment(
            id=0,
            booking_id=made.booking_id,
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
        world.nomis_sentencing.add(hidden)
    return made


def update_adjustment(world: World, found: NomisAdjustment, fields: Fields) -> None:
    """Changes an adjustment within its family.

    Since February 2024, a change to a sentence adjustment must name a sentence of the booking. If that is a different
    sentence, the adjustment moves to it. Before November 2023, a request without `active` was refused. Since then, such
    a request leaves `active` unchanged.
    """
    asked = _read(fields, found.booking_id, found.sentence)
    _check_type(world, asked)
    asked.active = fields.flag("active", default=found.active if world.options.month >= "2023-11" else None)
    if found.sentence is not None and world.options.month >= "2024-02":
        sequence = fields.optional_number("sentenceSequence")
        if sequence is None:
            raise bad_request("Validation failed for sentenceSequence: must be greater than or equal to 0")
        _check_sentence(world, found.booking_id, sequence)
        found.sentence = sequence
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


def _check_sentence(world: World, booking_id: int, sequence: int) -> None:
    if not world.places.sentence_exists(booking_id, sequence):
        raise not_found(f"Sentence with sequence {sequence} not found for booking {booking_id}")


def _check_type(world: World, asked: NomisAdjustment) -> None:
    allowed = KEY_DATE_ADJUSTMENT_TYPES if asked.sentence is None else SENTENCE_ADJUSTMENT_TYPES
    newer = asked.sentence is not None and world.options.month >= NEWER_TYPES_SINCE
    if asked.type not in allowed and not (newer and asked.type in NEWER_SENTENCE_ADJUSTMENT_TYPES):
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


def _of_booking(world: World, booking_id: int, *, active_only: bool) -> dict[str, object]:
    prisoner = world.by_booking[booking_id]
    latest = world.by_offender.get(prisoner.offender_no) is prisoner
    booking = {
        "bookingSequence": 1 if latest else 2,
        "hasBeenReleased": not prisoner.active,
        "prisonId": prisoner.agency,
    }
    found = [
        each
        for each in world.nomis_sentencing.of_booking(booking_id)
        if each.made_by is None and (each.active or not active_only)
    ]
    return {
        "keyDateAdjustments": [_view(world, each) | booking for each in found if each.sentence is None],
        "sentenceAdjustments": [_view(world, each) | booking for each in found if each.sentence is not None],
    }


def _view(world: World, found: NomisAdjustment) -> dict[str, object]:
    body: dict[str, object] = {
        "id": found.id,
        "bookingId": found.booking_id,
        "offenderNo": world.by_booking[found.booking_id].offender_no,
        "adjustmentType": {"code": found.type, "description": _DESCRIPTIONS[found.type]},
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
