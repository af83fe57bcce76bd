"""NOMIS: the calls for visits."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sync.errors import NotUnderstood, UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import EMPTY, Operation, optional, paged, unparsed, written
from sync.upstream.responses import Body, LocalDateTime, RecordNumber, Response
from sync.upstream.transport import ServiceClient


class CreateVisit(Body):
    """A new visit; `start_date_time` is `yyyy-MM-dd'T'HH:mm:ss` and `end_time` is `HH:mm:ss`, both in London time."""

    prison_id: str
    start_date_time: str
    end_time: str
    visitor_person_ids: tuple[int, ...]
    issue_date: str
    visit_type: str
    visit_comment: str
    visit_order_comment: str
    room: str
    open_closed_status: str


class UpdateVisit(Body):
    """The fields of a visit that an update can change."""

    start_date_time: str
    end_time: str
    visitor_person_ids: tuple[int, ...]
    room: str
    open_closed_status: str


class CancelVisit(Body):
    """Why a visit is cancelled: a code of the reference domain `MOVE_CANC_RS`."""

    outcome: str


class VisitCreated(Response):
    """The id of a new visit."""

    visit_id: RecordNumber


class ReferenceCode(Response):
    """A reference code in NOMIS. As the status of a visit, `SCH` means scheduled and `CANC` means cancelled."""

    code: str


#: NOMIS makes special rooms for booked visits: for each restriction, one for each real room or, in later versions, one
#: for all real rooms. The end of the description of such a room shows the restriction. A room that a user chose in
#: NOMIS does not show a restriction.
_RESTRICTED_ROOM = r"(?:-VSIP-.+-|VSIP_)(SOC|CLO)$"
ROOM_RESTRICTIONS: Mapping[str, str] = {"SOC": "OPEN", "CLO": "CLOSED"}


class NomisVisit(Response):
    """A visit in NOMIS. If this program created it, the comment contains the reference of the DPS visit.

    Times are in London time.
    """

    visit_id: RecordNumber
    offender_no: str | None = None
    prison_id: str | None = None
    start_date_time: LocalDateTime | None = None
    end_date_time: LocalDateTime | None = None
    visit_status: ReferenceCode | None = None
    comment_text: str | None = None

    def names(self, reference: str) -> bool:
        """Whether the comment contains `reference`, the reference of a DPS visit."""
        return re.search(rf"(?<![\w-]){re.escape(reference)}(?![\w-])", self.comment_text or "") is not None


class NomisVisitor(Response):
    """A visitor in a NOMIS visit, identified by their person number."""

    person_id: int


class VisitDetails(NomisVisit):
    """A visit with all the fields that a comparison needs.

    The code in `agency_internal_location` is the description of the room.
    """

    offender_no: str
    prison_id: str
    start_date_time: LocalDateTime
    visit_status: ReferenceCode
    visit_type: ReferenceCode
    visit_outcome: ReferenceCode | None = None
    visitors: tuple[NomisVisitor, ...]
    agency_internal_location: ReferenceCode | None = None
    when_created: LocalDateTime
    when_updated: LocalDateTime | None = None
    create_user_id: str | None = None
    modify_user_id: str | None = None

    @property
    def restriction(self) -> str | None:
        """The restriction in the description of the visit's room (`OPEN` or `CLOSED`), or None if it contains none."""
        room = "" if self.agency_internal_location is None else self.agency_internal_location.code
        found = re.search(_RESTRICTED_ROOM, room)
        return None if found is None else ROOM_RESTRICTIONS[found[1]]


class _VisitId(Response):
    visit_id: RecordNumber


_ROLE = "NOMIS_VISITS"
CREATE_VISIT = Operation(
    UpstreamName.NOMIS,
    "POST",
    "/prisoners/{offenderNo}/visits",
    written(VisitCreated),
    role=_ROLE,
    body=CreateVisit,
    statuses=(409,),
)
UPDATE_VISIT = Operation(
    UpstreamName.NOMIS, "PUT", "/prisoners/{offenderNo}/visits/{visitId}", EMPTY, role=_ROLE, body=UpdateVisit
)
CANCEL_VISIT = Operation(
    UpstreamName.NOMIS,
    "PUT",
    "/prisoners/{offenderNo}/visits/{visitId}/cancel",
    EMPTY,
    role=_ROLE,
    body=CancelVisit,
    statuses=(409,),
)
VISIT = Operation(UpstreamName.NOMIS, "GET", "/visits/{visitId}", optional(NomisVisit), role=_ROLE)
VISIT_DETAILS = Operation(UpstreamName.NOMIS, "GET", "/visits/{visitId}", optional(VisitDetails), role=_ROLE)
VISIT_IDS = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/visits/ids",
    paged(_VisitId),
    role=_ROLE,
    query=("prisonIds", "visitTypes", "fromDateTime"),
)
_VISIT_BALANCE = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/prisoners/{offenderNo}/visit-balance",
    unparsed(None, "empty", none_on_404=True),
    role="NOMIS_PRISONER_API__SYNCHRONISATION__RW",
    since="2025-04",
)


def create_visit(nomis: ServiceClient, offender_no: str, body: Mapping[str, Any]) -> int:
    """Creates a visit and returns its id; a repeated call may create another. `body` is a `CreateVisit` as JSON."""
    return CREATE_VISIT.call(nomis, offender_no, body=body).visit_id


def existing_visit(error: UpstreamError) -> int | None:
    """The id of the equal visit because of which NOMIS refused a new visit with 409.

    None if `error` is any other error, or if it comes from an older version of NOMIS, which does not name that visit.
    """
    if error.status != 409 or not error.from_service:
        return None
    visit_id = str(error.more_info)
    return int(visit_id) if visit_id.isascii() and visit_id.isdecimal() else None


def update_visit(nomis: ServiceClient, offender_no: str, visit_id: int, body: UpdateVisit) -> None:
    """Changes a visit, whatever its status."""
    UPDATE_VISIT.call(nomis, offender_no, visit_id, body=body)


def cancel_visit(nomis: ServiceClient, offender_no: str, visit_id: int, body: CancelVisit) -> None:
    """Cancels a visit.

    Raises `UpstreamError`, with status 409 if the visit is already cancelled or no longer scheduled.
    """
    CANCEL_VISIT.call(nomis, offender_no, visit_id, body=body)


def find_visit(nomis: ServiceClient, visit_id: int) -> NomisVisit | None:
    """The visit with the id `visit_id`, or None if NOMIS does not have it."""
    return VISIT.call(nomis, visit_id, asked={"visitId": visit_id})


def find_details(nomis: ServiceClient, visit_id: int) -> VisitDetails | None:
    """The details of the visit with the id `visit_id`, or None if NOMIS does not have the visit."""
    return VISIT_DETAILS.call(nomis, visit_id, asked={"visitId": visit_id})


def visit_ids(nomis: ServiceClient, prison_id: str, visit_type: str, created_from: datetime) -> Iterator[int]:
    """The ids of a prison's visits of one type that were created at or after `created_from`, in order of creation.

    created_from: a London time; its offset, if any, is ignored.
    """
    query = {
        "prisonIds": prison_id,
        "visitTypes": visit_type,
        "fromDateTime": created_from.replace(tzinfo=None).isoformat(timespec="seconds"),
    }
    return (each.visit_id for each in VISIT_IDS.pages(nomis, query=query))


def knows_prisoner(nomis: ServiceClient, offender_no: str) -> bool:
    """Whether NOMIS has a booking under the number `offender_no`; after a merge, it has none under the old number.

    The endpoint for the visit balance, which NOMIS has had since April 2025, shows this. Its response is empty if the
    booking exists but has no balance.
    """
    try:
        return _VISIT_BALANCE.call(nomis, offender_no) is not None
    except NotUnderstood as error:
        if error.status != 200:
            raise
        return True
