"""The adjustments API, which holds the days that are added to or taken off sentences and key dates."""

from datetime import date, datetime
from typing import Any

from pydantic import model_validator

from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import ContractProbe, Operation, one, optional, rows
from sync.upstream.responses import LocalDateTime, Response
from sync.upstream.transport import ServiceClient

#: The service selects its endpoint by the content type of the request, although a GET has no content.
_HEADERS = {"Content-Type": "application/vnd.nomis-offence+json"}
_NO_SENTENCE = 422


class Adjustment(Response):
    """An adjustment to a sentence, or to a key date if `sentence_sequence` is None."""

    booking_id: int
    sentence_sequence: int | None = None
    adjustment_type: str
    adjustment_date: date | None = None
    adjustment_from_date: date | None = None
    adjustment_days: int
    comment: str | None = None
    active: bool = True


class PersonAdjustment(Response):
    """An adjustment in the list of a prisoner's adjustments.

    adjustment_type: the name of the type, as the service displays it. effective_days: the number of days that take
    effect, or None if the service does not say. The 2023 versions of the service nest all fields except the id one
    level deeper.
    """

    id: str
    booking_id: int | None = None
    adjustment_type: str
    days: int | None = None
    effective_days: int | None = None
    prison_id: str | None = None
    created_date: LocalDateTime | None = None
    last_updated_date: LocalDateTime | None = None

    @property
    def changed_at(self) -> datetime | None:
        """The time of the last change, or else of the creation, in London time; None if the service gives neither."""
        return self.last_updated_date or self.created_date

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("adjustment"), dict):
            return {**value["adjustment"], "id": value.get("id")}
        return value


class _AnyAdjustment(Response):
    booking_id: int


_ROLE = "SENTENCE_ADJUSTMENTS_SYNCHRONISATION"
_ONE = "/legacy/adjustments/{adjustmentId}"
ADJUSTMENT = Operation(UpstreamName.SENTENCE_ADJUSTMENTS, "GET", _ONE, one(Adjustment), role=_ROLE, headers=_HEADERS)
PROBE = ContractProbe(ADJUSTMENT, ("00000000-0000-0000-0000-000000000000",), record="sentencing-adjustment")
_ADJUSTMENT_EXISTS = Operation(
    UpstreamName.SENTENCE_ADJUSTMENTS, "GET", _ONE, optional(_AnyAdjustment), role=_ROLE, headers=_HEADERS
)
PERSON_ADJUSTMENTS = Operation(
    UpstreamName.SENTENCE_ADJUSTMENTS,
    "GET",
    "/adjustments",
    rows(PersonAdjustment),
    role="ADJUSTMENTS__ADJUSTMENTS_RO",
    query=("person",),
    statuses=(404, _NO_SENTENCE),
    since="2023-11",
)


def adjustment(adjustments: ServiceClient, adjustment_id: str) -> Adjustment:
    """The adjustment with the id `adjustment_id`. Raises `UpstreamError`, with status 404 for an unknown id."""
    return ADJUSTMENT.call(adjustments, adjustment_id)


def adjustment_exists(adjustments: ServiceClient, adjustment_id: str) -> bool:
    """Whether DPS still has the adjustment. Raises `UpstreamError`."""
    return _ADJUSTMENT_EXISTS.call(adjustments, adjustment_id) is not None


def person_adjustments(adjustments: ServiceClient, offender_no: str) -> tuple[PersonAdjustment, ...]:
    """The active adjustments for a prisoner's current period of custody.

    The 2023 versions of the service list all adjustments of the prisoner. The result is empty for a prisoner who is
    unknown to the service (404) or is not serving a sentence (422). Raises `UpstreamError`.
    """
    try:
        return PERSON_ADJUSTMENTS.call(adjustments, query={"person": offender_no})
    except UpstreamError as error:
        if error.absent or (error.status == _NO_SENTENCE and error.from_service):
            return ()
        raise
