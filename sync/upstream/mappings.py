"""The mapping service: which NOMIS record belongs to which DPS record, for the five kinds that are created.

A POST of the same pair again is accepted; another pair with either id is refused with 409 (with 400 for activities).
A look-up gives the mapping as the service wrote it, since findings and telemetry name its fields. But only one that
names both records, and the very record that was asked for: every other answer is `NotUnderstood`, for on the word of a
mapping nothing is created, and other records are changed and deleted.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from sync.failures import NotUnderstood, UpstreamError
from sync.upstream.bodies import Answer, RecordNumber, read_answer
from sync.upstream.transport import ServiceClient, segment

MappingBody = Mapping[str, Any]

VISITS = "/mapping/visits"
INCENTIVES = "/mapping/incentives"
ACTIVITIES = "/mapping/activities"
APPOINTMENTS = "/mapping/appointments"
ADJUSTMENTS = "/mapping/sentencing/adjustments"

_Text = Annotated[str, Field(min_length=1)]


class _Visit(Answer):
    vsip_id: _Text
    nomis_id: RecordNumber


class _Incentive(Answer):
    incentive_id: RecordNumber
    nomis_booking_id: RecordNumber
    nomis_incentive_sequence: RecordNumber


class _Activity(Answer):
    activity_schedule_id: RecordNumber
    nomis_course_activity_id: RecordNumber


class _Appointment(Answer):
    appointment_instance_id: RecordNumber
    nomis_event_id: RecordNumber


class _Adjustment(Answer):
    adjustment_id: _Text
    nomis_adjustment_id: RecordNumber
    nomis_adjustment_category: Literal["SENTENCE", "KEY-DATE"]


def visit_mapping(mapping: ServiceClient, reference: str) -> MappingBody:
    """The mapping of a visit; raises `UpstreamError` with status 404 when there is none, as all that begin so do."""
    return _required(_Visit, mapping, f"{VISITS}/vsipId/{segment(reference)}", vsipId=reference)


def find_visit_mapping(mapping: ServiceClient, reference: str) -> MappingBody | None:
    """The mapping of a visit, None when there is none, as all that begin with `find` do."""
    return _optional(_Visit, mapping, f"{VISITS}/vsipId/{segment(reference)}", vsipId=reference)


def find_visit_mapping_by_nomis_id(mapping: ServiceClient, visit_id: int) -> MappingBody | None:
    """The mapping of a NOMIS visit."""
    return _optional(_Visit, mapping, f"{VISITS}/nomisId/{visit_id}", nomisId=visit_id)


def find_incentive_mapping(mapping: ServiceClient, review_id: int | str) -> MappingBody | None:
    """The mapping of an incentive review."""
    return _optional(_Incentive, mapping, f"{INCENTIVES}/incentive-id/{segment(review_id)}", incentiveId=review_id)


def find_incentive_mapping_by_nomis_id(mapping: ServiceClient, booking_id: int, sequence: int) -> MappingBody | None:
    """The mapping of an IEP record."""
    path = f"{INCENTIVES}/nomis-booking-id/{booking_id}/nomis-incentive-sequence/{sequence}"
    return _optional(_Incentive, mapping, path, nomisBookingId=booking_id, nomisIncentiveSequence=sequence)


def delete_incentive_mapping(mapping: ServiceClient, review_id: int | str) -> None:
    """Deletes the mapping of an incentive review, where there is one."""
    mapping.call("DELETE", f"{INCENTIVES}/incentive-id/{segment(review_id)}")


def activity_mapping(mapping: ServiceClient, schedule_id: int | str) -> MappingBody:
    """The mapping of an activity schedule, which must be there."""
    path = f"{ACTIVITIES}/activity-schedule-id/{segment(schedule_id)}"
    return _required(_Activity, mapping, path, activityScheduleId=schedule_id)


def find_activity_mapping(mapping: ServiceClient, schedule_id: int | str) -> MappingBody | None:
    """The mapping of an activity schedule."""
    path = f"{ACTIVITIES}/activity-schedule-id/{segment(schedule_id)}"
    return _optional(_Activity, mapping, path, activityScheduleId=schedule_id)


def activity_mappings(mapping: ServiceClient) -> Sequence[MappingBody]:
    """The mappings of all activity schedules."""
    return _list(_Activity, mapping, ACTIVITIES)


def delete_activity_mapping(mapping: ServiceClient, schedule_id: int | str) -> None:
    """Deletes the mapping of an activity schedule, where there is one."""
    mapping.call("DELETE", f"{ACTIVITIES}/activity-schedule-id/{segment(schedule_id)}")


def appointment_mapping(mapping: ServiceClient, instance_id: int | str) -> MappingBody:
    """The mapping of an appointment instance, which must be there."""
    path = f"{APPOINTMENTS}/appointment-instance-id/{segment(instance_id)}"
    return _required(_Appointment, mapping, path, appointmentInstanceId=instance_id)


def find_appointment_mapping(mapping: ServiceClient, instance_id: int | str) -> MappingBody | None:
    """The mapping of an appointment instance."""
    path = f"{APPOINTMENTS}/appointment-instance-id/{segment(instance_id)}"
    return _optional(_Appointment, mapping, path, appointmentInstanceId=instance_id)


def find_appointment_mapping_by_nomis_id(mapping: ServiceClient, event_id: int) -> MappingBody | None:
    """The mapping of a NOMIS appointment."""
    return _optional(_Appointment, mapping, f"{APPOINTMENTS}/nomis-event-id/{event_id}", nomisEventId=event_id)


def appointment_mappings(mapping: ServiceClient) -> Sequence[MappingBody]:
    """The mappings of all appointment instances."""
    return _list(_Appointment, mapping, APPOINTMENTS)


def delete_appointment_mapping(mapping: ServiceClient, instance_id: int | str) -> None:
    """Deletes the mapping of an appointment instance, where there is one."""
    mapping.call("DELETE", f"{APPOINTMENTS}/appointment-instance-id/{segment(instance_id)}")


def adjustment_mapping(mapping: ServiceClient, adjustment_id: str) -> MappingBody:
    """The mapping of an adjustment, which must be there."""
    path = f"{ADJUSTMENTS}/adjustment-id/{segment(adjustment_id)}"
    return _required(_Adjustment, mapping, path, adjustmentId=adjustment_id)


def find_adjustment_mapping(mapping: ServiceClient, adjustment_id: str) -> MappingBody | None:
    """The mapping of an adjustment."""
    path = f"{ADJUSTMENTS}/adjustment-id/{segment(adjustment_id)}"
    return _optional(_Adjustment, mapping, path, adjustmentId=adjustment_id)


def find_adjustment_mapping_by_nomis_id(mapping: ServiceClient, category: str, nomis_id: int) -> MappingBody | None:
    """The mapping of a NOMIS adjustment; `category` is `SENTENCE` or `KEY-DATE`, whose numbers overlap."""
    path = f"{ADJUSTMENTS}/nomis-adjustment-category/{segment(category)}/nomis-adjustment-id/{nomis_id}"
    return _optional(_Adjustment, mapping, path, nomisAdjustmentCategory=category, nomisAdjustmentId=nomis_id)


def delete_adjustment_mapping(mapping: ServiceClient, adjustment_id: str) -> None:
    """Deletes the mapping of an adjustment, where there is one."""
    mapping.call("DELETE", f"{ADJUSTMENTS}/adjustment-id/{segment(adjustment_id)}")


def post_mapping(mapping: ServiceClient, path: str, body: MappingBody) -> None:
    """Saves a pair under `path`, one of the constants here; fields that are null are left out.

    The service answers with nothing. Whatever else comes is `NotUnderstood`: it may be saved, or may not.
    """
    answer = mapping.call("POST", path, body={name: value for name, value in body.items() if value is not None})
    if answer is not None:
        message = "the answer is not that of a mapping that was saved"
        raise NotUnderstood(mapping.name, "POST", path, status=201, message=message, outcome_unknown=True)


def _required(model: type[Answer], mapping: ServiceClient, path: str, **asked: int | str) -> MappingBody:
    return _checked(model, mapping.call("GET", path), mapping, path, asked)


def _optional(model: type[Answer], mapping: ServiceClient, path: str, **asked: int | str) -> MappingBody | None:
    answer = mapping.call("GET", path, none_on_404=True)
    return None if answer is None else _checked(model, answer, mapping, path, asked)


def _list(model: type[Answer], mapping: ServiceClient, path: str) -> Sequence[MappingBody]:
    answer = mapping.call("GET", path)
    if not isinstance(answer, list):
        raise NotUnderstood(mapping.name, "GET", path, status=200, message="the answer is no list of mappings")
    return [_checked(model, each, mapping, path, {}) for each in answer]


def _checked(
    model: type[Answer], answer: Any, mapping: ServiceClient, path: str, asked: Mapping[str, int | str]
) -> MappingBody:
    """`answer`, a mapping of the form of `model` that has the ids that were asked for."""
    try:
        read_answer(model, answer, mapping, "GET", path, asked=asked)
    except UpstreamError as error:
        raise NotUnderstood(mapping.name, "GET", path, status=200, message=error.message) from None
    body: MappingBody = answer
    return body
