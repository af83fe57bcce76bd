"""The mapping service: which NOMIS record belongs to which DPS record, for the five kinds that are created.

A POST of the same pair again is accepted; another pair with either id is refused with 409 (with 400 for activities).
A look-up gives the mapping as the service wrote it, since findings and telemetry name its fields.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sync.upstream.transport import ServiceClient, segment

MappingBody = Mapping[str, Any]

VISITS = "/mapping/visits"
INCENTIVES = "/mapping/incentives"
ACTIVITIES = "/mapping/activities"
APPOINTMENTS = "/mapping/appointments"
ADJUSTMENTS = "/mapping/sentencing/adjustments"


def visit_mapping(mapping: ServiceClient, reference: str) -> MappingBody:
    """The mapping of a visit; raises `UpstreamError` with status 404 when there is none, as all that begin so do."""
    return _required(mapping, f"{VISITS}/vsipId/{segment(reference)}")


def find_visit_mapping(mapping: ServiceClient, reference: str) -> MappingBody | None:
    """The mapping of a visit, None when there is none, as all that begin with `find` do."""
    return _optional(mapping, f"{VISITS}/vsipId/{segment(reference)}")


def find_visit_mapping_by_nomis_id(mapping: ServiceClient, visit_id: int) -> MappingBody | None:
    """The mapping of a NOMIS visit."""
    return _optional(mapping, f"{VISITS}/nomisId/{visit_id}")


def find_incentive_mapping(mapping: ServiceClient, review_id: int | str) -> MappingBody | None:
    """The mapping of an incentive review."""
    return _optional(mapping, f"{INCENTIVES}/incentive-id/{segment(review_id)}")


def find_incentive_mapping_by_nomis_id(mapping: ServiceClient, booking_id: int, sequence: int) -> MappingBody | None:
    """The mapping of an IEP record."""
    return _optional(mapping, f"{INCENTIVES}/nomis-booking-id/{booking_id}/nomis-incentive-sequence/{sequence}")


def activity_mapping(mapping: ServiceClient, schedule_id: int | str) -> MappingBody:
    """The mapping of an activity schedule, which must be there."""
    return _required(mapping, f"{ACTIVITIES}/activity-schedule-id/{segment(schedule_id)}")


def find_activity_mapping(mapping: ServiceClient, schedule_id: int | str) -> MappingBody | None:
    """The mapping of an activity schedule."""
    return _optional(mapping, f"{ACTIVITIES}/activity-schedule-id/{segment(schedule_id)}")


def activity_mappings(mapping: ServiceClient) -> Sequence[MappingBody]:
    """The mappings of all activity schedules."""
    return mapping.call("GET", ACTIVITIES) or []


def delete_activity_mapping(mapping: ServiceClient, schedule_id: int | str) -> None:
    """Deletes the mapping of an activity schedule, where there is one."""
    mapping.call("DELETE", f"{ACTIVITIES}/activity-schedule-id/{segment(schedule_id)}")


def appointment_mapping(mapping: ServiceClient, instance_id: int | str) -> MappingBody:
    """The mapping of an appointment instance, which must be there."""
    return _required(mapping, f"{APPOINTMENTS}/appointment-instance-id/{segment(instance_id)}")


def find_appointment_mapping(mapping: ServiceClient, instance_id: int | str) -> MappingBody | None:
    """The mapping of an appointment instance."""
    return _optional(mapping, f"{APPOINTMENTS}/appointment-instance-id/{segment(instance_id)}")


def find_appointment_mapping_by_nomis_id(mapping: ServiceClient, event_id: int) -> MappingBody | None:
    """The mapping of a NOMIS appointment."""
    return _optional(mapping, f"{APPOINTMENTS}/nomis-event-id/{event_id}")


def appointment_mappings(mapping: ServiceClient) -> Sequence[MappingBody]:
    """The mappings of all appointment instances."""
    return mapping.call("GET", APPOINTMENTS) or []


def delete_appointment_mapping(mapping: ServiceClient, instance_id: int | str) -> None:
    """Deletes the mapping of an appointment instance, where there is one."""
    mapping.call("DELETE", f"{APPOINTMENTS}/appointment-instance-id/{segment(instance_id)}")


def adjustment_mapping(mapping: ServiceClient, adjustment_id: str) -> MappingBody:
    """The mapping of an adjustment, which must be there."""
    return _required(mapping, f"{ADJUSTMENTS}/adjustment-id/{segment(adjustment_id)}")


def find_adjustment_mapping(mapping: ServiceClient, adjustment_id: str) -> MappingBody | None:
    """The mapping of an adjustment."""
    return _optional(mapping, f"{ADJUSTMENTS}/adjustment-id/{segment(adjustment_id)}")


def find_adjustment_mapping_by_nomis_id(mapping: ServiceClient, category: str, nomis_id: int) -> MappingBody | None:
    """The mapping of a NOMIS adjustment; `category` is `SENTENCE` or `KEY-DATE`, whose numbers overlap."""
    path = f"{ADJUSTMENTS}/nomis-adjustment-category/{segment(category)}/nomis-adjustment-id/{nomis_id}"
    return _optional(mapping, path)


def delete_adjustment_mapping(mapping: ServiceClient, adjustment_id: str) -> None:
    """Deletes the mapping of an adjustment, where there is one."""
    mapping.call("DELETE", f"{ADJUSTMENTS}/adjustment-id/{segment(adjustment_id)}")


def post_mapping(mapping: ServiceClient, path: str, body: MappingBody) -> None:
    """Saves a pair under `path`, one of the constants here; fields that are null are left out."""
    mapping.call("POST", path, body={name: value for name, value in body.items() if value is not None})


def _required(mapping: ServiceClient, path: str) -> MappingBody:
    answer: MappingBody = mapping.call("GET", path)
    return answer


def _optional(mapping: ServiceClient, path: str) -> MappingBody | None:
    answer: MappingBody | None = mapping.call("GET", path, none_on_404=True)
    return answer
