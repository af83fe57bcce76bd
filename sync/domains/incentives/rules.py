"""Incentive reviews of prisoners, written to NOMIS as IEP records."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sync.domains.declaration import Creation, Domain, Prepared, Properties
from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives import nomis as nomis_incentives
from sync.domains.incentives.levels import LEVEL_UPDATES
from sync.domains.incentives.mapping import MAPPINGS
from sync.domains.incentives.nomis import IepRecord
from sync.domains.times import earliest_creation, local_seconds
from sync.failures import RuleError
from sync.pipeline.context import HandlerContext
from sync.pipeline.envelope import DomainEvent, MappingRetry
from sync.upstream.services import Services

NAME = "incentive"

#: How the entity of a review begins: its prisoner's, or its own where the event names no prisoner.
OF_PRISONER, OF_REVIEW = "incentive:", "incentive-review:"

#: A review that a user made on the NOMIS screen is in NOMIS already.
MADE_IN_NOMIS = "USER_CREATED_NOMIS"

#: Support may have deleted records, so some sequences are missing; a longer row of missing ones is the end.
_LONGEST_GAP = 3


def _review_id(event: DomainEvent) -> str:
    return str(event.number("id"))


def _entity(event: DomainEvent) -> str:
    # NOMIS orders the records of one day as they were written, so the reviews of a prisoner go one after the other.
    offender_no = event.optional_text("nomsNumber")
    return f"{OF_PRISONER}{offender_no}" if offender_no else f"{OF_REVIEW}{_review_id(event)}"


def _start(event: DomainEvent) -> Properties:
    return {"id": _review_id(event), "offenderNo": event.optional_text("nomsNumber") or "unknown"}


def _made_in_nomis(event: DomainEvent) -> bool:
    return event.optional_text("reason") == MADE_IN_NOMIS


def _find_mapping(review_id: str, services: Services) -> Mapping[str, Any] | None:
    return MAPPINGS.find(services.mapping, review_id)


def _prepare(event: DomainEvent, context: HandlerContext) -> Prepared:
    context.step("read review")
    review = incentives_api.review(context.services.incentives, _review_id(event))
    context.bind(
        prisonId=review.agency_id,
        iep=review.iep_code,
        iepDate=review.iep_date.isoformat(),
        iepTime=review.iep_time.time().isoformat(),
    )
    if review.agency_id is None:
        raise RuleError("the review names no prison")
    body = nomis_incentives.CreateIep(
        iep_level=review.iep_code,
        iep_date_time=local_seconds(datetime.combine(review.iep_date, review.iep_time.time())),
        prison_id=review.agency_id,
        user_id=review.user_id,
        comments=review.comments,
    )
    context.step("create incentive")
    request = {"incentiveId": review.id, "bookingId": review.booking_id, "body": body.as_json()}
    return Prepared(request, leases=(f"incentive-booking:{review.booking_id}",))


def _create(request: Mapping[str, Any], services: Services) -> Mapping[str, Any]:
    made = nomis_incentives.create_iep(services.nomis, request["bookingId"], request["body"])
    return {"nomisBookingId": made.booking_id, "nomisIncentiveSequence": made.sequence}


def _mapping(review_id: str, nomis_ids: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "nomisBookingId": nomis_ids["nomisBookingId"],
        "nomisIncentiveSequence": nomis_ids["nomisIncentiveSequence"],
        "incentiveId": int(review_id),
        "label": None,
        "mappingType": "INCENTIVE_CREATED",
        "whenCreated": None,
    }


def _post_mapping(mapping: Mapping[str, Any], services: Services) -> None:
    MAPPINGS.post(services.mapping, mapping)


def _locate(request: Mapping[str, Any], since: datetime, services: Services) -> Sequence[Mapping[str, Any]]:
    """Among the records of the booking written since then, those that say the same and are no other review's."""
    booking_id = request["bookingId"]
    return [
        {"nomisBookingId": booking_id, "nomisIncentiveSequence": record.incentive_sequence}
        for record in _records_since(booking_id, earliest_creation(since), services)
        if _says_the_same(record, request["body"]) and _is_no_other_review(record, request["incentiveId"], services)
    ]


def _subject(request: Mapping[str, Any]) -> str:
    return f"booking:{request['bookingId']}"


def _records_since(booking_id: int, earliest: datetime, services: Services) -> Iterator[IepRecord]:
    """The booking's records created since `earliest`.

    Sequences grow with the time of writing. The current record is the one of the latest date, so a record of an earlier
    date that was written after it lies above it.
    """
    current = nomis_incentives.current_iep(services.nomis, booking_id)
    if current is None:
        return
    yield current
    for step in (1, -1):
        sequence, gap = current.incentive_sequence + step, 0
        while sequence > 0 and gap < _LONGEST_GAP:
            record = nomis_incentives.iep_record(services.nomis, booking_id, sequence)
            gap = gap + 1 if record is None else 0
            if record is not None:
                if record.when_created < earliest:
                    break
                yield record
            sequence += step


def _says_the_same(record: IepRecord, body: Mapping[str, Any]) -> bool:
    said = (record.iep_level.code, local_seconds(record.iep_date_time), record.prison_id, record.user_id)
    return said == (body["iepLevel"], body["iepDateTime"], body["prisonId"], body["userId"])


def _is_no_other_review(record: IepRecord, review_id: int, services: Services) -> bool:
    mapping = MAPPINGS.find_by_nomis_ids(services.mapping, record.booking_id, record.incentive_sequence)
    return mapping is None or int(mapping["incentiveId"]) == review_id


def _read_retry(retry: MappingRetry) -> Mapping[str, Any]:
    ids = {name: retry.number(name) for name in ("nomisBookingId", "nomisIncentiveSequence")}
    return _mapping(_retry_dps_id(retry), ids)


def _retry_dps_id(retry: MappingRetry) -> str:
    return str(retry.number("incentiveId"))


def _retry_properties(retry: MappingRetry) -> Properties:
    names = ("nomisBookingId", "nomisIncentiveSequence", "incentiveId")
    values = ", ".join(f"{name}={retry.number(name)}" for name in names)
    return {"id": f"IncentiveMapping({values})"}


DOMAIN = Domain(
    queue="incentive",
    creation=Creation(
        event_type="incentives.iep-review.inserted",
        name=NAME,
        queue="incentive",
        entity=_entity,
        dps_id=_review_id,
        start=_start,
        find_mapping=_find_mapping,
        prepare=_prepare,
        create=_create,
        mapping=_mapping,
        post_mapping=_post_mapping,
        locate=_locate,
        retry_success="incentive-retry-success",
        retry_properties=_retry_properties,
        read_retry=_read_retry,
        retry_dps_id=_retry_dps_id,
        subject=_subject,
        ignored="incentive-create-ignored",
        passes_over=_made_in_nomis,
        severity="low",
    ),
    updates=LEVEL_UPDATES,
)
