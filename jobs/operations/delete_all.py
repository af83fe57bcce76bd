"""Development only: removes all mapped activities or appointments from NOMIS, and deletes their mappings."""

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.errors import OutcomeUnknown, UsageError, WorkError
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from reports.presentation.text import count
from sync.creation.creation import creation_lease
from sync.domains.declaration import Domain
from sync.domains.registry import DOMAINS
from sync.domains.repair_declaration import RemovingRepair
from sync.errors import SyncError
from sync.settings.declaration import Settings
from sync.store import creations


def check_allowed(settings: Settings) -> None:
    """Raises `UsageError` in production, or if delete-all is switched off."""
    if settings.environment_name.strip().lower().startswith("prod"):
        raise UsageError(
            f"delete-all never runs in {settings.environment_name}; ENVIRONMENT_NAME names the environment"
        )
    if not settings.delete_all_enabled:
        raise UsageError("delete-all is for development only and is switched off: set FEATURE_EVENT_DELETEALL=true")


def mapped_records(application: Application, domain: str) -> Sequence[Mapping[str, Any]]:
    """The mappings of all records of `domain`. Raises `SyncError`."""
    return DOMAINS[domain].mappings.list_all(application.services.mapping)


def delete_all(application: Application, domain: str, every: Sequence[Mapping[str, Any]], who: str) -> int:
    """Deletes the NOMIS records in `every` and their mappings, in the name of `who`. Returns how many it deleted.

    every: the mappings as the operator saw them. Raises `UsageError` if the deletion is not allowed, `LeaseBusy` if
    another delete-all of the same kind of record is running, `SyncError` if the current mappings cannot be read, and
    `WorkError` if they are no longer those in `every`. If some records cannot be deleted, the function continues with
    the others and raises `WorkError` at the end.
    """
    check_allowed(application.settings)
    record = DOMAINS[domain].record
    with (
        application.leases.held(f"write:delete-all:{record}"),
        recorded_action(application, who, "delete-all", record, {"records": len(every), "deleted": 0}) as ongoing,
    ):
        if list(mapped_records(application, domain)) != list(every):
            raise WorkError("the mappings changed before you confirmed: nothing was deleted; run the command again")
        for mapping in every:
            if _delete(application, DOMAINS[domain], mapping):
                ongoing.details["deleted"] += 1
        application.telemetry.flush()
        deleted: int = ongoing.details["deleted"]
        ongoing.outcome = f"{deleted} of {len(every)} deleted"
        if failed := len(every) - deleted:
            raise OutcomeUnknown(
                f"{failed} of {count(len(every), 'record')} could not be deleted; "
                f"see the telemetry events {record}-DELETE-ALL-failed"
            )
    return deleted


def _delete(application: Application, domain: Domain, mapping: Mapping[str, Any]) -> bool:
    mappings, record, services, repair = domain.mappings, domain.record, application.services, domain.repair
    assert isinstance(repair, RemovingRepair)
    ids = mappings.ids(mapping)
    properties = {mappings.nomis[0]: ids.nomis_ids[0], mappings.dps: ids.dps_id}
    try:
        with application.leases.held(creation_lease(record, ids.dps_id)):
            repair.remove(services, ids, None)
            mappings.delete(services.mapping, ids.dps_id)
            with application.database.begin() as connection:
                creations.mark_deleted(connection, record, ids.dps_id)
    except SyncError:
        application.telemetry.track(f"{record}-DELETE-ALL-failed", properties)
        return False
    application.telemetry.track(f"{record}-DELETE-ALL-success", properties)
    return True
