"""How course activities in NOMIS are repaired, and how DPS records are written to NOMIS again.

NOMIS has an endpoint that reads the status of an attendance, but none that reads a course activity or an allocation.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from sync.clock import london_now
from sync.domains import nomis_sql
from sync.domains.activities import dps as activities_api
from sync.domains.activities import nomis as nomis_activities
from sync.domains.activities.attendances import nomis_attendance, session_of
from sync.domains.activities.dps import Allocation, Attendance
from sync.domains.activities.rules import CREATION
from sync.domains.repair_declaration import (
    Advice,
    Effect,
    EventParts,
    Record,
    RemovingRepair,
    Resync,
    ResyncPlan,
    iso_or_none,
    of_event,
    read_if_there,
    refused,
)
from sync.errors import NON_UNIQUE_TEXT, Failure
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from sync.store.creations import CreationRecord
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services

#: The message that a booking is not allocated to a course activity. NOMIS calls an allocation a program profile.
_NO_ALLOCATION = re.compile(r"(program profile|allocation)\b.*\b(does not exist|not found)", re.IGNORECASE)


class ActivityRepair(RemovingRepair):
    """What an operator can do about course activities in NOMIS."""

    noun = "course activity"
    given = "course activity id"
    owner = ""
    removal = "delete {record}, with its allocations and attendances"
    readable = False
    harm = "The second course activity confuses users, but does no other harm: all changes go to the mapped one."
    dps_property = "dpsActivityScheduleId"

    def read(self, services: Services, ids: MappingIds) -> Record | None:
        """Returns None, since NOMIS has no endpoint that reads course activities."""
        return None

    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        """Deletes the course activity and everything that depends on it."""
        nomis_activities.delete_activity(services.nomis, int(ids.nomis_ids[0]))

    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The id of the course activity."""
        return {"nomisCourseActivityId": number}

    def search_text(self, request: Mapping[str, Any]) -> str:
        """The code (the id of the schedule), the prison and the start date."""
        body = request["body"]
        return f"a course activity with code {body['code']} at {body['prisonId']}, from {body['startDate']}"

    def search_sql(self, request: Mapping[str, Any]) -> str:
        """The SQL that finds course activities by the code (the id of the schedule) and the prison in the request."""
        body = request["body"]
        conditions = {"CODE": nomis_sql.code(body["code"]), "AGY_LOC_ID": nomis_sql.code(body["prisonId"])}
        return nomis_sql.select("COURSE_ACTIVITIES", "CRS_ACTY_ID", conditions)

    def event_parts(self, record: CreationRecord) -> EventParts:
        """The id of the schedule; the event does not name a prisoner."""
        return {"activityScheduleId": int(record.dps_id)}, None, None


class ActivityResync(Resync):
    """Creates or changes a schedule's course activity, including the sessions."""

    kind = "activity"
    creation = CREATION
    readable = False

    def plan(self, dps_id: str, services: Services) -> ResyncPlan:
        """Reads the schedule and its mapping.

        The plan amends the course activity if there is a mapping, and otherwise creates one. It writes nothing if DPS
        does not have the schedule.
        """
        api = services[UpstreamName.ACTIVITIES]
        schedule = read_if_there(lambda: activities_api.schedule(api, int(dps_id)))
        ids = self.find_ids(dps_id, services)
        plan = partial(ResyncPlan, creation_id=dps_id, ids=ids)
        if schedule is None:
            stays = (
                "" if ids is None else f"; course activity {ids.nomis_text} stays in NOMIS, since no event deletes it"
            )
            objection = f"the activities API has no schedule {dps_id}{stays}"
            return plan(
                dps=None, effect=Effect.NOTHING, because="the activities API does not have it", objection=objection
            )
        dps = {
            "activityId": str(schedule.activity.id),
            "start": iso_or_none(schedule.start_date),
            "end": iso_or_none(schedule.end_date),
            "sessions": str(len(schedule.instances)),
        }
        plan = partial(plan, dps=dps)
        if ids is None:
            because = "it is not mapped to a course activity"
            return plan(
                effect=Effect.CREATE,
                because=because,
                events=(_event("activity-schedule.created", "activityScheduleId", dps_id),),
            )
        because = f"it is mapped to course activity {ids.nomis_text}"
        return plan(
            effect=Effect.UPDATE,
            because=because,
            events=(_event("activity-schedule.amended", "activityScheduleId", dps_id),),
        )


class AllocationResync(Resync):
    """Writes a DPS allocation to NOMIS, for the course activity of its schedule."""

    kind = "allocation"
    creation = CREATION
    readable = False
    tracked = "activity-allocation-requested"

    def plan(self, dps_id: str, services: Services) -> ResyncPlan:
        """Reads the allocation and the mapping of its schedule.

        NOMIS itself decides whether to create or update its allocation.
        """
        api = services[UpstreamName.ACTIVITIES]
        allocation = read_if_there(lambda: activities_api.allocation(api, int(dps_id)))
        properties = {"dpsAllocationId": dps_id}
        if allocation is None:
            return _plan_gone("allocation", properties)
        ids = self.find_ids(allocation.schedule_id, services)
        return ResyncPlan(
            creation_id=str(allocation.schedule_id),
            ids=ids,
            dps=_shown_allocation(allocation),
            effect=Effect.CREATE_OR_UPDATE,
            because=f"it is {allocation.status} in DPS",
            events=(_event("prisoner.allocation-amended", "allocationId", dps_id),),
            objection=_unmapped(allocation.schedule_id, ids),
            properties=properties,
        )


class AttendanceResync(Resync):
    """Writes a DPS attendance to NOMIS, for its session of a course activity."""

    kind = "attendance"
    creation = CREATION
    agreement = "its status is correct; NOMIS shows neither its outcome nor its pay"
    tracked = "activity-attendance-requested"

    def plan(self, dps_id: str, services: Services) -> ResyncPlan:
        """Reads the attendance, the mapping of its schedule and, if there is a mapping, the status in NOMIS."""
        api = services[UpstreamName.ACTIVITIES]
        attendance = read_if_there(lambda: activities_api.attendance(api, int(dps_id)))
        properties = {"dpsAttendanceId": dps_id}
        if attendance is None:
            return _plan_gone("attendance", properties)
        schedule_id = attendance.activity_schedule_id
        ids = self.find_ids(schedule_id, services)
        nomis = None if ids is None else _status_in_nomis(attendance, int(ids.nomis_ids[0]), services)
        status = None if nomis is None else nomis["status"]
        body = nomis_attendance(attendance, session_of(attendance), status, london_now().date())
        return ResyncPlan(
            creation_id=str(schedule_id),
            ids=ids,
            nomis=nomis,
            dps=_shown_attendance(attendance),
            expected={"status": body.event_status_code},
            effect=Effect.CREATE if nomis is None else Effect.UPDATE,
            because=f"it is {attendance.status} in DPS",
            events=(
                _event(f"prisoner.attendance-{'created' if nomis is None else 'amended'}", "attendanceId", dps_id),
            ),
            objection=_unmapped(schedule_id, ids),
            properties=properties,
        )


def _plan_gone(noun: str, properties: Mapping[str, object]) -> ResyncPlan:
    """The plan for an allocation or attendance that DPS does not have.

    Nothing is written: no event deletes the NOMIS record, and without the DPS record it is not known which one that is.
    """
    (dps_id,) = properties.values()
    return ResyncPlan(
        creation_id="",
        ids=None,
        dps=None,
        effect=Effect.NOTHING,
        because="the activities API does not have it",
        objection=f"the activities API has no {noun} {dps_id}; the NOMIS record stays, since no event deletes it",
        properties=properties,
    )


def _unmapped(schedule_id: int, ids: MappingIds | None) -> str | None:
    if ids is not None:
        return None
    return f"its schedule is not mapped to a course activity: run `resync activity {schedule_id}` first"


def _event(word: str, given: str, dps_id: str) -> DomainEvent:
    return DomainEvent(f"activities.{word}", additional_information={given: int(dps_id)})


def _status_in_nomis(attendance: Attendance, course_id: int, services: Services) -> Record | None:
    session, nomis = session_of(attendance), services.nomis
    status = nomis_activities.attendance_status(nomis, course_id, attendance.booking_id, session)
    return None if status is None else {"status": status}


def _shown_allocation(allocation: Allocation) -> Record:
    return {
        "prisonerNumber": allocation.prisoner_number,
        "bookingId": str(allocation.booking_id),
        "scheduleId": str(allocation.schedule_id),
        "status": allocation.status,
        "start": iso_or_none(allocation.start_date),
        "end": iso_or_none(allocation.end_date),
    }


def _shown_attendance(attendance: Attendance) -> Record:
    return {
        "prisonerNumber": attendance.prisoner_number,
        "bookingId": str(attendance.booking_id),
        "scheduleId": str(attendance.activity_schedule_id),
        "date": iso_or_none(attendance.session_date),
        "start": attendance.session_start_time.strftime("%H:%M"),
        "status": attendance.status,
        "reason": attendance.attendance_reason_code,
        "paid": "yes" if attendance.issue_payment else "no",
    }


RESYNCS = (ActivityResync(), AllocationResync(), AttendanceResync())


def is_missing_allocation(failure: Failure) -> bool:
    """Whether NOMIS refused an attendance because the booking does not have an allocation (yet)."""
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
        "NOMIS holds two allocations for this booking and activity: delete one (`activities delete-allocation`), "
        'close the finding if it is still open (`duplicates resolve ID --by-hand "deleted NUMBER"`), then leave the '
        "message",
        may_succeed_later=True,
    ),
    Advice(
        refused("nomis", 500, path="/attendance", words=NON_UNIQUE_TEXT),
        "NOMIS 500 on an attendance: `query did not return a unique result`",
        "NOMIS holds two attendances for this booking and session: delete one (`activities delete-attendance`), "
        'close the finding if it is still open (`duplicates resolve ID --by-hand "deleted NUMBER"`), then leave the '
        "message",
        may_succeed_later=True,
    ),
    Advice(
        lambda _, failure: is_missing_allocation(failure),
        "NOMIS 400 on an attendance, no allocation",
        "the allocation is not in NOMIS yet: find its message, which may have failed or be on the DLQ; this message "
        "succeeds once the allocation is in NOMIS",
        may_succeed_later=True,
    ),
    Advice(
        refused("nomis", 400, path="/attendance", words="paid"),
        "NOMIS 400 on an attendance, already paid",
        "NOMIS payroll has paid this attendance: nothing is left to synchronise, so purge the message",
    ),
    Advice(
        refused("nomis", 400, path="/allocation", words="prison"),
        "NOMIS 400 on an allocation, wrong prison",
        "the prisoner is not in the activity's prison (transferred or released): inform the prison or the DPS team",
    ),
    Advice(
        _ended,
        "NOMIS 400 on an allocation, expired or ended",
        "the activity has ended (usually on the same day as its last allocations, whose messages were handled after "
        "midnight): inform the prison or the DPS team",
    ),
    Advice(
        refused("mapping", 400, path="/mapping/activities"),
        "mapping 400 on an activity",
        "the schedule or the course has another mapping, so the new course is a duplicate: see `duplicates list`",
    ),
    Advice(
        of_event("activities.scheduled-instance.amended", refused("nomis", 404)),
        "NOMIS 404 on a `scheduled-instance.amended` event",
        "the cause is nearly always a second delivery, or an amendment that has removed the session: a retry does not "
        "help, so purge the message",
    ),
    Advice(
        of_event("activities.activity-schedule.amended", refused("nomis", 400)),
        "NOMIS 400 on an `activity-schedule.amended` event",
        "DPS allowed a change that NOMIS refuses: read the reason, then inform the DPS team",
    ),
)
