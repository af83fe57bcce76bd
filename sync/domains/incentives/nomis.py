"""NOMIS: the IEP records of a booking, the global levels (reference codes) and the levels of each prison."""

from collections.abc import Mapping, Sequence
from typing import Any

from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import EMPTY, Operation, optional, unparsed, written
from sync.upstream.responses import Body, Comment, LocalDateTime, RecordNumber, Response
from sync.upstream.transport import ServiceClient


class IepLevel(Response):
    """The level of an IEP record, identified by its code."""

    code: str


class IepRecord(Response):
    """An IEP record in NOMIS; times are in London time."""

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
    """The booking and the sequence of a new IEP record."""

    booking_id: int
    sequence: RecordNumber


class CreateIep(Body):
    """A new IEP record; `iep_date_time` is `yyyy-MM-dd'T'HH:mm:ss`, in London time."""

    iep_level: str
    iep_date_time: str
    prison_id: str
    user_id: str | None
    comments: Comment | None = None

    def as_json(self) -> dict[str, Any]:
        """The body as plain JSON. `userId` is always present: NOMIS requires the key even if its value is null."""
        return {**super().as_json(), "userId": self.user_id}


class HeldLevel(Response):
    """A global level in NOMIS; `sequence` is its place in the order, counted from 1."""

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


class LevelOrder(Body):
    """The codes of the global levels in their order."""

    code_list: tuple[str, ...]


_ROLE = "NOMIS_INCENTIVES"
_CURRENT = "/incentives/booking-id/{bookingId}/current"
_GLOBAL_LEVEL = "/incentives/reference-codes/{code}"
_PRISON_LEVEL = "/incentives/prison/{prison}/code/{code}"
CURRENT_IEP_BODY = Operation(UpstreamName.NOMIS, "GET", _CURRENT, unparsed(IepRecord, none_on_404=True), role=_ROLE)
CURRENT_IEP = Operation(UpstreamName.NOMIS, "GET", _CURRENT, optional(IepRecord), role=_ROLE)
IEP_RECORD = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/incentives/booking-id/{bookingId}/incentive-sequence/{incentiveSequence}",
    optional(IepRecord),
    role=_ROLE,
)
CREATE_IEP = Operation(
    UpstreamName.NOMIS,
    "POST",
    "/prisoners/booking-id/{bookingId}/incentives",
    written(IepCreated),
    role=_ROLE,
    body=CreateIep,
)
GLOBAL_LEVEL = Operation(UpstreamName.NOMIS, "GET", _GLOBAL_LEVEL, optional(HeldLevel), role=_ROLE)
CREATE_GLOBAL_LEVEL = Operation(
    UpstreamName.NOMIS, "POST", "/incentives/reference-codes", EMPTY, role=_ROLE, body=GlobalLevel
)
UPDATE_GLOBAL_LEVEL = Operation(UpstreamName.NOMIS, "PUT", _GLOBAL_LEVEL, EMPTY, role=_ROLE, body=GlobalLevel)
REORDER_GLOBAL_LEVELS = Operation(
    UpstreamName.NOMIS, "POST", "/incentives/reference-codes/reorder", EMPTY, role=_ROLE, body=LevelOrder
)
PRISON_LEVEL = Operation(UpstreamName.NOMIS, "GET", _PRISON_LEVEL, optional(_HeldPrisonLevel), role=_ROLE)
CREATE_PRISON_LEVEL = Operation(
    UpstreamName.NOMIS, "POST", "/incentives/prison/{prison}", EMPTY, role=_ROLE, body=PrisonLevel
)
UPDATE_PRISON_LEVEL = Operation(UpstreamName.NOMIS, "PUT", _PRISON_LEVEL, EMPTY, role=_ROLE, body=PrisonLevel)


def current_iep_body(nomis: ServiceClient, booking_id: int) -> Mapping[str, Any] | None:
    """The current record of a booking as raw JSON, for bulk reading, or None if there is no record."""
    body: Mapping[str, Any] | None = CURRENT_IEP_BODY.call(nomis, booking_id)
    return body


def current_iep(nomis: ServiceClient, booking_id: int) -> IepRecord | None:
    """The current record of a booking (latest date, then highest sequence), or None if there is no record."""
    return CURRENT_IEP.call(nomis, booking_id, asked={"bookingId": booking_id})


def iep_record(nomis: ServiceClient, booking_id: int, sequence: int) -> IepRecord | None:
    """The booking's record with the sequence `sequence`, or None if there is no such record."""
    asked = {"bookingId": booking_id, "incentiveSequence": sequence}
    return IEP_RECORD.call(nomis, booking_id, sequence, asked=asked)


def create_iep(nomis: ServiceClient, booking_id: int, body: Mapping[str, Any]) -> IepCreated:
    """Creates an IEP record. A repeated call creates another record. `body` is a `CreateIep` as JSON."""
    return CREATE_IEP.call(nomis, booking_id, body=body, asked={"bookingId": booking_id})


def find_global_level(nomis: ServiceClient, code: str) -> HeldLevel | None:
    """The global level with the code `code`, active or not, or None if NOMIS does not have it."""
    return GLOBAL_LEVEL.call(nomis, code, asked={"code": code})


def create_global_level(nomis: ServiceClient, level: GlobalLevel) -> None:
    """Creates a global level, which NOMIS puts last in the order. If the level already exists, nothing changes."""
    CREATE_GLOBAL_LEVEL.call(nomis, body=level)


def update_global_level(nomis: ServiceClient, level: GlobalLevel) -> None:
    """Sets the description of a global level, and whether the level is active."""
    UPDATE_GLOBAL_LEVEL.call(nomis, level.code, body=level)


def reorder_global_levels(nomis: ServiceClient, codes: Sequence[str]) -> None:
    """Puts the global levels in the order of `codes`; NOMIS skips codes that it does not know."""
    REORDER_GLOBAL_LEVELS.call(nomis, body=LevelOrder(code_list=tuple(codes)))


def prison_level_exists(nomis: ServiceClient, prison_id: str, code: str) -> bool:
    """Whether the level is set up in the prison, active or not."""
    asked = {"prisonId": prison_id, "iepLevelCode": code}
    return PRISON_LEVEL.call(nomis, prison_id, code, asked=asked) is not None


def create_prison_level(nomis: ServiceClient, prison_id: str, level: PrisonLevel) -> None:
    """Sets up a level in a prison, or changes the level if the prison already has it."""
    CREATE_PRISON_LEVEL.call(nomis, prison_id, body=level)


def update_prison_level(nomis: ServiceClient, prison_id: str, level: PrisonLevel) -> None:
    """Changes a level of a prison, or sets up the level if the prison does not have it."""
    UPDATE_PRISON_LEVEL.call(nomis, prison_id, level.level_code, body=level)
