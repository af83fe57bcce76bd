"""The adjustments API: days added to, or taken off, sentences and key dates."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_today
from sandbox.dps.visits import MOCK_PRISONER
from sandbox.http.serving import Refused, Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.world import World

ROLE: Final = "SENTENCE_ADJUSTMENTS_SYNCHRONISATION"
READER: Final = "ADJUSTMENTS__ADJUSTMENTS_RO"
#: The month from which the list of a person's adjustments has its current form.
PRESENT_LIST: Final = "2023-11"
CONTENT_TYPE: Final = "application/vnd.nomis-offence+json"
MOCK_BOOKING: Final = 1_201_725
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


#: The names that the list of a person's adjustments uses for the NOMIS types.
TYPES: Final = {
    "LAL": "LAWFULLY_AT_LARGE",
    "UAL": "UNLAWFULLY_AT_LARGE",
    "RADA": "RESTORATION_OF_ADDITIONAL_DAYS_AWARDED",
    "ADA": "ADDITIONAL_DAYS_AWARDED",
    "SREM": "SPECIAL_REMISSION",
    "RX": "REMAND",
    "RSR": "REMAND",
    "UR": "UNUSED_DEDUCTIONS",
    "S240A": "TAGGED_BAIL",
    "RST": "TAGGED_BAIL",
    "TCA": "CUSTODY_ABROAD",
    "TSA": "APPEAL_APPLICANT",
}
STATUSES: Final = frozenset({"ACTIVE", "INACTIVE", "DELETED", "INACTIVE_WHEN_DELETED"})


@dataclass(slots=True)
class DpsAdjustment:
    """One adjustment; `sentence` is the sequence number of the sentence, or None for an adjustment to a key date.

    `effective_days` is the number of days that take effect, or None if the service has not worked it out.
    `changed` is when the adjustment was last updated; None means the start of the world.
    """

    id: str
    booking_id: int
    offender_no: str
    sentence: int | None
    type: str
    day: date | None
    start: date | None
    days: int
    comment: str | None
    active: bool = True
    source: str = "DPS"
    effective_days: int | None = None
    changed: datetime | None = None


class Adjustments(dict[str, DpsAdjustment]):
    """Adjustments by id; `changes` counts what is stored or removed, including attempts to remove an unknown id."""

    changes: int = 0

    def __setitem__(self, key: str, value: DpsAdjustment) -> None:
        self.changes += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.changes += 1
        super().__delitem__(key)

    def pop(self, key: str, *default: DpsAdjustment | None) -> DpsAdjustment | None:  # type: ignore[override]
        """Removes and returns an adjustment, or returns the default if the id is unknown, as `dict.pop` does.

        The call counts as a change in both cases.
        """
        self.changes += 1
        return super().pop(key, *default)


@dataclass(slots=True)
class AdjustmentsState:
    """The adjustments by id; if `mocks` is set, an unknown id gets a canned adjustment.

    `unsentenced` contains the prisoner numbers of people without an active sentence. `unknown` contains the prisoner
    numbers of people whom the service does not know until they have adjustments. `coming` contains adjustments by
    prisoner number; each is added once the list of that prisoner's adjustments has been read.
    """

    adjustments: Adjustments = field(default_factory=Adjustments)
    mocks: bool = False
    unsentenced: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    coming: dict[str, DpsAdjustment] = field(default_factory=dict)
    _persons: dict[str, list[DpsAdjustment]] = field(default_factory=dict)
    _persons_as_of: int = -1

    def of_person(self, offender_no: str) -> list[DpsAdjustment]:
        """All adjustments of a prisoner, active or not, on any booking."""
        if self._persons_as_of != self.adjustments.changes:
            persons: defaultdict[str, list[DpsAdjustment]] = defaultdict(list)
            for each in self.adjustments.values():
                persons[each.offender_no].append(each)
            self._persons, self._persons_as_of = persons, self.adjustments.changes
        return self._persons.get(offender_no, [])

    def find(self, adjustment_id: str) -> DpsAdjustment | None:
        """The adjustment with this id; for an unknown id, a canned adjustment if `mocks` is set, otherwise None.

        The canned adjustment applies to a sentence if the id ends in `S`, and otherwise to a key date.
        """
        found = self.adjustments.get(adjustment_id)
        if found is not None or not self.mocks:
            return found
        of_sentence = adjustment_id.endswith("S")
        return DpsAdjustment(
            id=adjustment_id,
            booking_id=MOCK_BOOKING,
            offender_no=MOCK_PRISONER,
            sentence=1 if of_sentence else None,
            type="RX" if of_sentence else "ADA",
            day=london_today(),
            start=_month_before(london_today()),
            days=15,
            comment="a comment",
        )


def routes(world: World) -> list[Route]:
    """The endpoints that read one adjustment and that list a person's adjustments.

    The endpoint that reads one adjustment responds with 415 to a request without the content type `CONTENT_TYPE`,
    although such requests have no body.
    """

    def get(request: Request, number: str) -> Reply:
        if request.headers.get("Content-Type", "").partition(";")[0].strip() != CONTENT_TYPE:
            raise Refused(415, f"Content type '{request.headers.get('Content-Type')}' not supported")
        if not world.adjustments.mocks and not _UUID.fullmatch(number):
            raise Refused(400, f"Validation failure: Invalid UUID string: {number}")
        found = world.adjustments.find(number)
        if found is None:
            raise Refused(404, f"No adjustment found with id {number}")
        return Reply(body=_view(found))

    def of_person(request: Request) -> Reply:
        person = _person(request)
        state = world.adjustments
        held = state.of_person(person)
        if person not in world.by_offender or (person in state.unknown and not held):
            raise Refused(404, f"No such prisoner or booking: {person}")
        if person in state.unsentenced and not held:
            raise Refused(422, f"No active sentences found for {person}")
        statuses = frozenset(request.query.get("status", ["ACTIVE"]))
        if statuses - STATUSES:
            raise Refused(400, f"Validation failure: no such status: {', '.join(sorted(statuses - STATUSES))}")
        found = [each for each in held if ("ACTIVE" if each.active else "INACTIVE") in statuses]
        return then_come(person, Reply(body=[_view_of_person(world, each) for each in found]))

    def of_person_2023(request: Request) -> Reply:
        person = _person(request)
        found = world.adjustments.of_person(person)
        return then_come(person, Reply(body=[_view_2023(each) for each in found]))

    def then_come(person: str, reply: Reply) -> Reply:
        coming = world.adjustments.coming.pop(person, None)
        if coming is not None:
            world.adjustments.adjustments[coming.id] = coming
        return reply

    return [
        Route("GET", "/legacy/adjustments/{number}", get, ROLE),
        Route("GET", "/adjustments", of_person_2023, until=PRESENT_LIST),
        Route("GET", "/adjustments", of_person, READER, since=PRESENT_LIST),
    ]


def _person(request: Request) -> str:
    person = request.first("person")
    if not person:
        raise Refused(400, "Validation failure: Required request parameter 'person' is not present")
    return person


def _view_of_person(world: World, found: DpsAdjustment) -> dict[str, object]:
    prisoner = world.by_booking.get(found.booking_id)
    changed = (found.changed or world.started).isoformat(timespec="seconds")
    return {
        "id": found.id,
        "bookingId": found.booking_id,
        "person": found.offender_no,
        "adjustmentType": TYPES[found.type],
        "adjustmentTypeText": TYPES[found.type].replace("_", " ").capitalize(),
        "adjustmentArithmeticType": "DEDUCTION" if TYPES[found.type] in {"REMAND", "TAGGED_BAIL"} else "ADDITION",
        "fromDate": _iso(found.start),
        "toDate": _iso(None if found.start is None else found.start + timedelta(days=max(0, found.days - 1))),
        "days": found.days,
        "effectiveDays": found.effective_days,
        "sentenceSequence": found.sentence,
        "status": "ACTIVE" if found.active else "INACTIVE",
        "source": found.source,
        "recallId": None,
        "prisonId": None if prisoner is None else prisoner.prison_id,
        "prisonName": None,
        "lastUpdatedBy": "Made up",
        "lastUpdatedDate": changed,
        "createdDate": changed,
        "remand": {"chargeId": [1]} if TYPES[found.type] == "REMAND" else None,
        "additionalDaysAwarded": None,
        "unlawfullyAtLarge": {"type": "ESCAPE"} if found.type == "UAL" else None,
        "lawfullyAtLarge": {"affectsDates": "YES"} if found.type == "LAL" else None,
        "specialRemission": {"type": "MERITORIOUS_CONDUCT"} if found.type == "SREM" else None,
        "taggedBail": {"caseSequence": 1} if TYPES[found.type] == "TAGGED_BAIL" else None,
        "timeSpentInCustodyAbroad": None,
        "timeSpentAsAnAppealApplicant": None,
    }


def _view_2023(found: DpsAdjustment) -> dict[str, object]:
    inner = {
        "bookingId": found.booking_id,
        "sentenceSequence": found.sentence,
        "person": found.offender_no,
        "adjustmentType": TYPES[found.type],
        "fromDate": _iso(found.start),
        "days": found.days,
    }
    return {"id": found.id, "adjustment": {name: value for name, value in inner.items() if value is not None}}


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _view(found: DpsAdjustment) -> dict[str, object]:
    return {
        "bookingId": found.booking_id,
        "sentenceSequence": found.sentence,
        "adjustmentType": found.type,
        "adjustmentDate": _iso(found.day),
        "adjustmentFromDate": _iso(found.start),
        "adjustmentDays": found.days,
        "comment": found.comment,
        "active": found.active,
    }


def _month_before(day: date) -> date:
    last_of_month_before = day.replace(day=1) - timedelta(days=1)
    return last_of_month_before.replace(day=min(day.day, last_of_month_before.day))
