"""Repairs of activities; NOMIS has no read of course activities, allocations and attendances."""

import re
from collections.abc import Mapping
from typing import Any

from sync.creation.records import CreationRecord
from sync.domains.activities import nomis as nomis_activities
from sync.domains.repair import Advice, EventParts, Record, Repair, of_event, refused
from sync.failures import NON_UNIQUE_TEXT, Failure
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services

#: How NOMIS says that a booking is not allocated to a course activity; it calls an allocation a program profile.
_NO_ALLOCATION = re.compile(r"(program profile|allocation)\b.*\b(does not exist|not found)", re.IGNORECASE)


class ActivityRepair(Repair):
    """What an operator can do about course activities in NOMIS."""

    noun = "course activity"
    given = "course activity id"
    owner = ""
    removal = "delete, with its allocations and attendances,"
    readable = False

    def read(self, services: Services, ids: MappingIds) -> Record | None:
        """NOMIS has no read of course activities."""
        return None

    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        """Deletes the course activity with all that depends on it."""
        nomis_activities.delete_activity(services.nomis, int(ids.nomis_ids[0]))

    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"nomisCourseActivityId": number}

    def look_for(self, request: Mapping[str, Any]) -> str:
        body = request["body"]
        return f"a course activity with code {body['code']} at {body['prisonId']}, from {body['startDate']}"

    def event_parts(self, record: CreationRecord) -> EventParts:
        return {"activityScheduleId": int(record.dps_id)}, None, None


def is_missing_allocation(failure: Failure) -> bool:
    """Whether NOMIS refused an attendance because the booking is not allocated (yet)."""
    return (
        failure.service == "nomis"
        and failure.status == 400
        and (failure.path or "").endswith("/attendance")
        and _NO_ALLOCATION.search(failure.reason) is not None
    )


def _ended(event_type: str, failure: Failure) -> bool:
    fits = (refused("nomis", 400, path="/allocation", words=word) for word in ("expire", "ended"))
    return any(each(event_type, failure) for each in fits)


ADVICE = (
    Advice(
        refused("nomis", 500, path="/allocation", words=NON_UNIQUE_TEXT),
        "NOMIS 500 on an allocation: `query did not return a unique result`",
        "NOMIS holds two allocations of this booking and activity: delete one (`activities delete-allocation`), "
        "then leave the message",
        heals=True,
    ),
    Advice(
        refused("nomis", 500, path="/attendance", words=NON_UNIQUE_TEXT),
        "NOMIS 500 on an attendance: `query did not return a unique result`",
        "NOMIS holds two attendances of this booking and session: delete one (`activities delete-attendance`), "
        "then leave the message",
        heals=True,
    ),
    Advice(
        lambda _, failure: is_missing_allocation(failure),
        "NOMIS 400 on an attendance, no allocation",
        "the allocation is not in NOMIS yet: look for its event (failed, on the DLQ?); heals when that succeeds",
        heals=True,
    ),
    Advice(
        refused("nomis", 400, path="/attendance", words="paid"),
        "NOMIS 400 on an attendance, already paid",
        "NOMIS payroll has paid this attendance: nothing is left to synchronise, purge the message",
    ),
    Advice(
        refused("nomis", 400, path="/allocation", words="prison"),
        "NOMIS 400 on an allocation, the prison",
        "the prisoner is not in the activity's prison (transferred or released): inform the prison or the DPS team",
    ),
    Advice(
        _ended,
        "NOMIS 400 on an allocation, expired or ended",
        "the activity has ended (endings of its last night, tried after midnight): inform the prison or the DPS team",
    ),
    Advice(
        refused("mapping", 400, path="/mapping/activities"),
        "mapping 400 on an activity",
        "the schedule or the course is mapped otherwise, so the new course is a duplicate: see `duplicates list`",
    ),
    Advice(
        of_event("activities.scheduled-instance.amended", refused("nomis", 404)),
        "NOMIS 404 on a `scheduled-instance.amended`",
        "nearly always a second delivery, or a session that an amend has removed: a retry does nothing more, "
        "purge the message",
    ),
    Advice(
        of_event("activities.activity-schedule.amended", refused("nomis", 400)),
        "NOMIS 400 on an `activity-schedule.amended`",
        "DPS allowed what NOMIS refuses: read the reason, then inform the DPS team",
    ),
)
