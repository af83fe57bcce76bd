"""For development alone: every mapped activity or appointment removed from NOMIS, with its mapping."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.errors import OutcomeUnknown, UsageError, WorkError
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from sync.creation import records as creations
from sync.creation.creation import creation_lease
from sync.domains.activities import nomis as nomis_activities
from sync.domains.activities.mapping import MAPPINGS as ACTIVITY_MAPPINGS
from sync.domains.appointments import nomis as nomis_appointments
from sync.domains.appointments.mapping import MAPPINGS as APPOINTMENT_MAPPINGS
from sync.failures import SyncError, UpstreamError
from sync.repair.duplicates import PAIR_FIELDS, pair_of_mapping
from sync.settings.declaration import Settings
from sync.upstream.services import Services


@dataclass(frozen=True, slots=True)
class _Kind:
    """How all records of a domain are found and deleted, one by one: in NOMIS, then in the mapping service."""

    every: Callable[[Services], Sequence[Mapping[str, Any]]]
    delete: Callable[[Services, int], None]
    delete_mapping: Callable[[Services, str], None]


def _delete_appointment(services: Services, event_id: int) -> None:
    try:
        nomis_appointments.delete_appointment(services.nomis, event_id)
    except UpstreamError as error:
        if not error.absent:
            raise


_KINDS: Mapping[str, _Kind] = {
    "activity": _Kind(
        lambda services: ACTIVITY_MAPPINGS.list_all(services.mapping),
        lambda services, course_id: nomis_activities.delete_activity(services.nomis, course_id),
        lambda services, schedule_id: ACTIVITY_MAPPINGS.delete(services.mapping, schedule_id),
    ),
    "appointment": _Kind(
        lambda services: APPOINTMENT_MAPPINGS.list_all(services.mapping),
        _delete_appointment,
        lambda services, instance_id: APPOINTMENT_MAPPINGS.delete(services.mapping, instance_id),
    ),
}


def check_allowed(settings: Settings) -> None:
    """Raises `UsageError` unless the switch is on and the environment is not production."""
    if settings.environment_name.strip().lower().startswith("prod"):
        raise UsageError(
            f"delete-all never runs in {settings.environment_name}; ENVIRONMENT_NAME names the environment"
        )
    if not settings.delete_all_enabled:
        raise UsageError("delete-all is for development alone and switched off: set FEATURE_EVENT_DELETEALL=true")


def mapped_records(application: Application, domain: str) -> Sequence[Mapping[str, Any]]:
    """The mappings of all records of `domain`, `activity` or `appointment`. Raises `SyncError`."""
    return _KINDS[domain].every(application.services)


def delete_all(application: Application, domain: str, every: Sequence[Mapping[str, Any]], who: str) -> int:
    """Deletes each mapped record and its mapping, and goes on after errors; how many were deleted.

    Raises `UsageError` where it is not allowed, and `WorkError` at the end when some could not be deleted.
    """
    check_allowed(application.settings)
    with (
        application.leases.held(f"write:delete-all:{domain}"),
        recorded_action(application, who, "delete-all", domain, {"records": len(every), "deleted": 0}) as ongoing,
    ):
        if list(mapped_records(application, domain)) != list(every):
            raise WorkError("the mappings changed while you were asked: nothing was deleted, look again")
        for mapping in every:
            if _delete(application, domain, mapping):
                ongoing.details["deleted"] += 1
        application.telemetry.flush()
        deleted: int = ongoing.details["deleted"]
        ongoing.outcome = f"{deleted} of {len(every)} deleted"
        if failed := len(every) - deleted:
            raise OutcomeUnknown(
                f"{failed} of {len(every)} records could not be deleted; see telemetry {domain}-DELETE-ALL-failed"
            )
    return deleted


def _delete(application: Application, domain: str, mapping: Mapping[str, Any]) -> bool:
    kind, fields, pair = _KINDS[domain], PAIR_FIELDS[domain], pair_of_mapping(domain, mapping)
    told = {fields.nomis[0]: pair.nomis_ids[0], fields.dps: pair.dps_id}
    try:
        with application.leases.held(creation_lease(domain, pair.dps_id)):
            kind.delete(application.services, int(pair.nomis_ids[0]))
            kind.delete_mapping(application.services, pair.dps_id)
            with application.database.begin() as connection:
                creations.mark_deleted(connection, domain, pair.dps_id)
    except SyncError:
        application.telemetry.track(f"{domain}-DELETE-ALL-failed", told)
        return False
    application.telemetry.track(f"{domain}-DELETE-ALL-success", told)
    return True
