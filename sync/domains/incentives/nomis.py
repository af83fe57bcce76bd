"""NOMIS: the IEP records of a booking, the global levels (reference codes), and the levels of each prison."""

from collections.abc import Mapping, Sequence
from typing import Any

from sync.upstream.responses import Body, Comment, LocalDateTime, RecordNumber, Response, parse_response
from sync.upstream.transport import ServiceClient, segment


class IepLevel(Response):
    """A level by its code."""

    code: str


class IepRecord(Response):
    """An IEP record; times are local to London."""

    booking_id: int
    incentive_sequence: int
    iep_date_time: LocalDateTime
    prison_id: str
    iep_level: IepLevel
    user_id: str | None = None
    comment_text: str | None = None
    current_iep: bool | None = None
    audit_module: str | None = None
    when_created: LocalDateTime
    when_updated: LocalDateTime | None = None
    offender_no: str | None = None


class IepCreated(Response):
    """The id of a new IEP record."""

    booking_id: int
    sequence: RecordNumber


class CreateIep(Body):
    """A new IEP record; `iep_date_time` is `yyyy-MM-dd'T'HH:mm:ss`, local."""

    iep_level: str
    iep_date_time: str
    prison_id: str
    user_id: str | None
    comments: Comment | None = None

    def as_json(self) -> dict[str, Any]:
        """Like every body, but `userId` is always present: NOMIS requires the key, even if null."""
        return {**super().as_json(), "userId": self.user_id}


class HeldLevel(Response):
    """What NOMIS has of a global level: its place in the order, counted from 1."""

    code: str
    sequence: int | None = None


class _HeldPrisonLevel(Response):
    prison_id: str
    iep_level_code: str


class GlobalLevel(Body):
    """A level of the reference domain `IEP_LEVEL`."""

    code: str
    domain: str = "IEP_LEVEL"
    description: str
    active: bool


class PrisonLevel(Body):
    """A level of one prison; limits are in pence."""

    level_code: str
    active: bool
    default_on_admission: bool
    visit_order_allowance: int | None = None
    privileged_visit_order_allowance: int | None = None
    remand_transfer_limit_in_pence: int | None = None
    remand_spend_limit_in_pence: int | None = None
    convicted_transfer_limit_in_pence: int | None = None
    convicted_spend_limit_in_pence: int | None = None


def current_iep_body(nomis: ServiceClient, booking_id: int) -> Mapping[str, Any] | None:
    """The current record of a booking as raw JSON, None if there is none; for bulk reading."""
    body: Mapping[str, Any] | None = nomis.call("GET", f"/incentives/booking-id/{booking_id}/current", none_on_404=True)
    return body


def current_iep(nomis: ServiceClient, booking_id: int) -> IepRecord | None:
    """The current record of a booking (latest date, then highest sequence), None if there is none."""
    response = current_iep_body(nomis, booking_id)
    path, asked = f"/incentives/booking-id/{booking_id}/current", {"bookingId": booking_id}
    return None if response is None else parse_response(IepRecord, response, nomis, "GET", path, asked=asked)


def iep_record(nomis: ServiceClient, booking_id: int, sequence: int) -> IepRecord | None:
    """One record of a booking, None if the sequence is a gap."""
    path = f"/incentives/booking-id/{booking_id}/incentive-sequence/{sequence}"
    response = nomis.call("GET", path, none_on_404=True)
    asked = {"bookingId": booking_id, "incentiveSequence": sequence}
    return None if response is None else parse_response(IepRecord, response, nomis, "GET", path, asked=asked)


def create_iep(nomis: ServiceClient, booking_id: int, body: Mapping[str, Any]) -> IepCreated:
    """Creates a record; repeating creates another. `body` is a `CreateIep` as JSON."""
    path = f"/prisoners/booking-id/{booking_id}/incentives"
    response, asked = nomis.call("POST", path, body=body), {"bookingId": booking_id}
    return parse_response(IepCreated, response, nomis, "POST", path, writes=True, asked=asked)


def find_global_level(nomis: ServiceClient, code: str) -> HeldLevel | None:
    """The level, active or not, None if NOMIS does not know it."""
    path, asked = _global(code), {"code": code}
    response = nomis.call("GET", path, none_on_404=True)
    return None if response is None else parse_response(HeldLevel, response, nomis, "GET", path, asked=asked)


def create_global_level(nomis: ServiceClient, level: GlobalLevel) -> None:
    """Creates a level, the last in the order; an existing one is left as it is."""
    nomis.call("POST", "/incentives/reference-codes", body=level.as_json())


def update_global_level(nomis: ServiceClient, level: GlobalLevel) -> None:
    """Changes the description of a level and whether it is active."""
    nomis.call("PUT", _global(level.code), body=level.as_json())


def reorder_global_levels(nomis: ServiceClient, codes: Sequence[str]) -> None:
    """Gives the levels the order of `codes`; NOMIS skips codes that it does not know."""
    nomis.call("POST", "/incentives/reference-codes/reorder", body={"codeList": list(codes)})


def prison_level_exists(nomis: ServiceClient, prison_id: str, code: str) -> bool:
    """Whether the level is set up in the prison, active or not."""
    path, asked = _of_prison(prison_id, code), {"prisonId": prison_id, "iepLevelCode": code}
    response = nomis.call("GET", path, none_on_404=True)
    if response is None:
        return False
    parse_response(_HeldPrisonLevel, response, nomis, "GET", path, asked=asked)
    return True


def create_prison_level(nomis: ServiceClient, prison_id: str, level: PrisonLevel) -> None:
    """Sets up a level in a prison; an existing one is changed."""
    nomis.call("POST", f"/incentives/prison/{segment(prison_id)}", body=level.as_json())


def update_prison_level(nomis: ServiceClient, prison_id: str, level: PrisonLevel) -> None:
    """Changes a level of a prison; a missing one is created."""
    nomis.call("PUT", _of_prison(prison_id, level.level_code), body=level.as_json())


def _global(code: str) -> str:
    return f"/incentives/reference-codes/{segment(code)}"


def _of_prison(prison_id: str, code: str) -> str:
    return f"/incentives/prison/{segment(prison_id)}/code/{segment(code)}"
