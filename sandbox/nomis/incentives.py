"""Incentives in NOMIS: the IEP records of each booking, which of them is current, and the levels of each prison."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING

from sandbox.clock import london_now, london_today
from sandbox.http.paging import page
from sandbox.http.serving import Reply, Request, Route
from sandbox.nomis.bodies import (
    COMMENT_BYTES,
    Fields,
    bad_request,
    check_column,
    not_found,
    path_number,
    read_date,
    unexpected,
)
from sandbox.population import levels
from sandbox.population.levels import NomisPrisonLevel, ReferenceCode

if TYPE_CHECKING:
    from sandbox.world import World

ROLE = "NOMIS_INCENTIVES"
BY_API = "JDBC Thin Client"
BY_SCREEN = "OIDOIEPS"
BY_TRANSFER = "OIDITRAN"
BY_ADMISSION = "OIDADMIS"
BY_MERGE = "MERGE"


@dataclass(slots=True)
class IepRecord:
    """One IEP record of a booking. `module` names the NOMIS function that wrote the record."""

    booking_id: int
    sequence: int
    level: str
    at: datetime
    prison_id: str
    module: str
    user_id: str | None
    comment: str | None
    created: datetime


class NomisIncentives:
    """The IEP records of each booking, in order of sequence; the reference codes; and the levels of each prison.

    If `race_ms` is above 0, a post that comes less than that many milliseconds after another one for the same booking
    fails because of the primary key, as one of two simultaneous posts does. The booking's next post does not fail.
    """

    def __init__(self, race_ms: float = 0) -> None:
        """Starts with only the reference codes."""
        self.race_ms = race_ms
        self.records: dict[int, list[IepRecord]] = {}
        self.codes = levels.nomis_codes()
        self.prison_levels: dict[tuple[str, str], levels.NomisPrisonLevel] = {}
        self.deleted: list[tuple[int, int]] = []
        self._posted: dict[int, float] = {}

    def current(self, booking_id: int) -> IepRecord | None:
        """Returns the record with the latest date, or None if the booking has no record.

        If several records have that date, the one with the highest sequence is returned.
        """
        records = self.records.get(booking_id)
        return max(records, key=lambda each: (each.at.date(), each.sequence)) if records else None

    def record(self, booking_id: int, sequence: int) -> IepRecord | None:
        """Returns a booking's record with this sequence, or None if there is none."""
        return next((each for each in self.records.get(booking_id, ()) if each.sequence == sequence), None)

    def add(
        self,
        booking_id: int,
        level: str,
        at: datetime,
        prison_id: str,
        module: str = BY_API,
        user_id: str | None = None,
        comment: str | None = None,
        created: datetime | None = None,
    ) -> IepRecord:
        """Adds a record with the booking's next sequence (the highest + 1), and returns the record."""
        held = self.records.setdefault(booking_id, [])
        sequence = held[-1].sequence + 1 if held else 1
        record = IepRecord(booking_id, sequence, level, at, prison_id, module, user_id, comment, created or at)
        held.append(record)
        return record

    def delete(self, booking_id: int, sequence: int) -> bool:
        """Deletes a record, as only NOMIS support can; returns whether the record existed."""
        record = self.record(booking_id, sequence)
        if record is None:
            return False
        self.records[booking_id].remove(record)
        self.deleted.append((booking_id, sequence))
        return True

    def races(self, booking_id: int) -> bool:
        """Notes a post for a booking, and returns whether it collides with one in the last `race_ms` milliseconds.

        The booking's next post after a collision does not collide.
        """
        now = time.monotonic()
        last = self._posted.get(booking_id)
        self._posted[booking_id] = now
        if last is None or (now - last) * 1000 >= self.race_ms:
            return False
        del self._posted[booking_id]
        return True


def plant_duplicate(world: World, booking_id: int, sequence: int) -> int:
    """Adds a copy of an IEP record, as another installation would have made it; returns the sequence of the copy."""
    records = world.nomis_incentives.records[booking_id]
    first = next(each for each in records if each.sequence == sequence)
    records.append(replace(first, sequence=records[-1].sequence + 1))
    return records[-1].sequence


def routes(world: World) -> list[Route]:
    """Returns the endpoints for IEP records, global levels and prison levels."""
    return [
        Route("POST", "/prisoners/booking-id/{booking}/incentives", partial(_create, world), ROLE, writes=True),
        Route("GET", "/incentives/booking-id/{booking}/current", partial(_current, world), ROLE),
        Route("GET", "/incentives/booking-id/{booking}/incentive-sequence/{sequence}", partial(_one, world), ROLE),
        Route("GET", "/incentives/ids", partial(_ids, world), ROLE),
        *_code_routes(world),
        *_prison_routes(world),
    ]


def _create(world: World, request: Request, booking: str) -> Reply:
    booking_id = path_number(booking, "bookingId")
    fields = Fields.of(request)
    level, at, prison_id = fields.text("iepLevel"), fields.moment("iepDateTime"), fields.text("prisonId")
    user_id, comment = fields.text_or_null("userId"), fields.optional_text("comments")
    _check_booking(world, booking_id)
    if prison_id not in world.prisons:
        raise bad_request(f"Prison with id={prison_id} does not exist")
    state = world.nomis_incentives
    if (prison_id, level) not in state.prison_levels:
        raise bad_request(f"IEP type {level} does not exist for prison {prison_id}")
    if comment is not None:
        check_column(comment, "COMMENT_TEXT", COMMENT_BYTES)
    if state.race_ms and state.races(booking_id):
        raise unexpected("ORA-00001: unique constraint (OMS_OWNER.OFFENDER_IEP_LEVELS_PK) violated")
    record = state.add(booking_id, level, at, prison_id, BY_API, user_id, comment, london_now())
    return Reply(201, {"bookingId": booking_id, "sequence": record.sequence})


def _current(world: World, request: Request, booking: str) -> Reply:
    booking_id = path_number(booking, "bookingId")
    _check_booking(world, booking_id)
    if booking_id in world.in_flight:
        world.settle_in_flight(booking_id)
    record = world.nomis_incentives.current(booking_id)
    if record is None:
        raise not_found(f"Current Incentive not found, booking id {booking_id}")
    return Reply(body=view(world, record, is_current=True))


def _one(world: World, request: Request, booking: str, sequence: str) -> Reply:
    booking_id, wanted = path_number(booking, "bookingId"), path_number(sequence, "incentiveSequence")
    _check_booking(world, booking_id)
    record = world.nomis_incentives.record(booking_id, wanted)
    if record is None:
        raise not_found(f"Incentive not found, booking id {booking_id}, sequence {wanted}")
    return Reply(body=view(world, record, is_current=record is world.nomis_incentives.current(booking_id)))


def _ids(world: World, request: Request) -> Reply:
    first, last = _day(request, "fromDate"), _day(request, "toDate")
    found = [
        record
        for records in world.nomis_incentives.records.values()
        for record in records
        if (first is None or record.created.date() >= first) and (last is None or record.created.date() <= last)
    ]
    found.sort(key=lambda each: (each.created, each.booking_id, each.sequence))

    def view_of(start: int, end: int) -> list[object]:
        return [{"bookingId": each.booking_id, "sequence": each.sequence} for each in found[start:end]]

    return page(request, found, view_of)


def _check_booking(world: World, booking_id: int) -> None:
    if booking_id not in world.by_booking:
        raise not_found(f"Booking {booking_id} not found")


def view(world: World, record: IepRecord, is_current: bool) -> dict[str, object]:
    """Returns a record as NOMIS shows it; null fields are left out."""
    code = world.nomis_incentives.codes.get(record.level)
    body: dict[str, object] = {
        "offenderNo": world.by_booking[record.booking_id].offender_no,
        "bookingId": record.booking_id,
        "incentiveSequence": record.sequence,
        "iepDateTime": record.at,
        "prisonId": record.prison_id,
        "iepLevel": {"code": record.level, "description": code.description if code else record.level},
        "currentIep": is_current,
        "auditModule": record.module,
        "whenCreated": record.created,
    }
    if record.comment is not None:
        body["commentText"] = record.comment
    if record.user_id is not None:
        body["userId"] = record.user_id
    return body


def _day(request: Request, name: str) -> date | None:
    text = request.first(name)
    return read_date(text, name) if text else None


DOMAIN = "IEP_LEVEL"


def _code_routes(world: World) -> list[Route]:
    def get(request: Request, code: str) -> Reply:
        return Reply(body=_code_view(_known(world, code)))

    def create(request: Request) -> Reply:
        fields = Fields.of(request)
        code, description, active = fields.text("code"), fields.text("description"), fields.flag("active")
        held = world.nomis_incentives.codes
        if code not in held:
            sequence = max((each.sequence for each in held.values()), default=0) + 1
            held[code] = ReferenceCode(code, description, sequence, active, None if active else london_today())
        return Reply(201, _code_view(held[code]))

    def update(request: Request, code: str) -> Reply:
        fields = Fields.of(request)
        description, active = fields.text("description"), fields.flag("active")
        held = _known(world, code)
        held.description, held.active = description, active
        held.expired = None if active else held.expired or london_today()
        return Reply(body=_code_view(held))

    def reorder(request: Request) -> Reply:
        body = request.json()
        wanted = body.get("codeList") if isinstance(body, dict) else None
        if not isinstance(wanted, list):
            raise bad_request("JSON parse error: value failed for JSON property codeList due to missing value")
        for place, code in enumerate(wanted, 1):
            held = world.nomis_incentives.codes.get(code)
            if held is not None:
                held.sequence = place
        return Reply()

    return [
        Route("GET", "/incentives/reference-codes/{code}", get, ROLE),
        Route("POST", "/incentives/reference-codes", create, ROLE, writes=True),
        Route("PUT", "/incentives/reference-codes/{code}", update, ROLE, writes=True),
        Route("POST", "/incentives/reference-codes/reorder", reorder, ROLE, writes=True),
    ]


def _prison_routes(world: World) -> list[Route]:
    def get(request: Request, prison_id: str, code: str) -> Reply:
        if prison_id not in world.prisons:
            raise bad_request(f"Prison with id={prison_id} does not exist")
        level = world.nomis_incentives.prison_levels.get((prison_id, code))
        if level is None:
            raise not_found(f"Prison incentive level code: {code} does not exist for prison {prison_id}")
        return Reply(body=_prison_view(level))

    def create(request: Request, prison_id: str) -> Reply:
        fields = Fields.of(request)
        code = fields.text("levelCode")
        _check_prison(world, prison_id)
        if code not in world.nomis_incentives.codes:
            raise bad_request(f"Incentive level with code={code} does not exist")
        return Reply(201, _prison_view(_written(world, prison_id, code, fields)))

    def update(request: Request, prison_id: str, code: str) -> Reply:
        fields = Fields.of(request)
        _check_prison(world, prison_id)
        _known(world, code)
        return Reply(body=_prison_view(_written(world, prison_id, code, fields)))

    return [
        Route("GET", "/incentives/prison/{prison_id}/code/{code}", get, ROLE),
        Route("POST", "/incentives/prison/{prison_id}", create, ROLE, writes=True),
        Route("PUT", "/incentives/prison/{prison_id}/code/{code}", update, ROLE, writes=True),
    ]


def _known(world: World, code: str) -> ReferenceCode:
    held = world.nomis_incentives.codes.get(code)
    if held is None:
        raise not_found(f"Incentive level: {code} not found")
    return held


def _check_prison(world: World, prison_id: str) -> None:
    if prison_id not in world.prisons:
        raise not_found(f"Prison with id={prison_id} does not exist")


def _written(world: World, prison_id: str, code: str, fields: Fields) -> NomisPrisonLevel:
    """Creates or changes a prison level as a request asks, and returns the level."""
    active, default = fields.flag("active"), fields.flag("defaultOnAdmission")
    held = world.nomis_incentives.prison_levels.get((prison_id, code))
    expired = None if active else (held.expired if held is not None and held.expired else london_today())
    level = NomisPrisonLevel(
        prison_id,
        code,
        active,
        default,
        expired,
        fields.optional_number("remandTransferLimitInPence"),
        fields.optional_number("remandSpendLimitInPence"),
        fields.optional_number("convictedTransferLimitInPence"),
        fields.optional_number("convictedSpendLimitInPence"),
        fields.optional_number("visitOrderAllowance"),
        fields.optional_number("privilegedVisitOrderAllowance"),
    )
    world.nomis_incentives.prison_levels[prison_id, code] = level
    return level


def _code_view(code: ReferenceCode) -> dict[str, object]:
    body: dict[str, object] = {
        "code": code.code,
        "domain": DOMAIN,
        "description": code.description,
        "active": code.active,
        "sequence": code.sequence,
        "systemDataFlag": False,
    }
    if code.expired is not None:
        body["expiredDate"] = code.expired
    return body


def _prison_view(level: NomisPrisonLevel) -> dict[str, object]:
    allowed = level.visit_orders is not None or level.privileged_visit_orders is not None
    body: dict[str, object] = {
        "prisonId": level.prison_id,
        "iepLevelCode": level.code,
        "defaultOnAdmission": level.default_on_admission,
        "active": level.active,
        "expiryDate": level.expired,
        "remandTransferLimitInPence": level.remand_transfer,
        "remandSpendLimitInPence": level.remand_spend,
        "convictedTransferLimitInPence": level.convicted_transfer,
        "convictedSpendLimitInPence": level.convicted_spend,
        "visitOrderAllowance": level.visit_orders,
        "privilegedVisitOrderAllowance": level.privileged_visit_orders,
        "visitAllowanceActive": level.active if allowed else None,
        "visitAllowanceExpiryDate": level.expired if allowed else None,
    }
    return {name: value for name, value in body.items() if value is not None}
