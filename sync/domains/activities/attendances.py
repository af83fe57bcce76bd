"""Upserts prisoners' attendances at activity sessions in NOMIS."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from sync.clock import london_now, with_minutes
from sync.domains import nomis_sql
from sync.domains.activities import dps as activities_api
from sync.domains.activities import nomis as nomis_activities
from sync.domains.activities.allocations import booking_activity_lease
from sync.domains.activities.dps import Attendance
from sync.domains.activities.nomis import AttendanceSession, UpsertAttendance
from sync.domains.activities.rules import MAPPINGS
from sync.domains.declaration import Update
from sync.domains.duplicate_rows import RowKind
from sync.errors import NeverAccepted, RuleError, UpstreamError
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import Properties
from sync.upstream.operation import MappedValues


@dataclass(frozen=True, slots=True)
class AttendanceOutcome:
    """An outcome in NOMIS (a code of the reference domain `PS_PA_OC`), and the kind of absence that it means."""

    code: str | None
    unexcused: bool = False
    authorised: bool = False


#: NOMIS error codes for an attendance: payroll has paid it, or the prisoner has moved and the allocation has ended.
_PAID, _MOVED_ON = 1001, 1002

_NO_OUTCOME = AttendanceOutcome(None)
_ACCEPTED = AttendanceOutcome("ACCAB", authorised=True)
_REST = AttendanceOutcome("REST", authorised=True)
_REFUSED = AttendanceOutcome("UNACAB", unexcused=True)

#: The outcomes with pay and without pay, by attendance reason.
_OUTCOMES = {
    "ATTENDED": (AttendanceOutcome("ATT"), AttendanceOutcome("UNBEH")),
    "CANCELLED": (AttendanceOutcome("CANC", authorised=True),) * 2,
    "SUSPENDED": (AttendanceOutcome("SUS", authorised=True),) * 2,
    "AUTO_SUSPENDED": (AttendanceOutcome("SUS", authorised=True),) * 2,
    "SICK": (_ACCEPTED, _REST),
    "REFUSED": (_REFUSED, _REFUSED),
    "NOT_REQUIRED": (AttendanceOutcome("NREQ", authorised=True),) * 2,
    "REST": (_ACCEPTED, _REST),
    "CLASH": (_ACCEPTED, _ACCEPTED),
    "OTHER": (_ACCEPTED, _REFUSED),
}

_STATUSES = frozenset({"WAITING", "COMPLETED", "LOCKED"})
MAPPED = (
    MappedValues(activities_api.ATTENDANCE, "attendanceReasonCode", frozenset(_OUTCOMES)),
    MappedValues(activities_api.ATTENDANCE, "status", _STATUSES, older=frozenset({"LOCKED"})),
)


def attendance_outcome(reason: str | None, *, paid: bool) -> AttendanceOutcome:
    """The NOMIS outcome for an attendance reason. Raises `RuleError` for an unknown reason."""
    if reason is None:
        return _NO_OUTCOME
    found = _OUTCOMES.get(reason)
    if found is None:
        raise RuleError(f"no NOMIS outcome for attendance reason {reason!r}")
    with_pay, without_pay = found
    return with_pay if paid else without_pay


def event_status(status: str, reason: str | None, nomis_status: str | None, *, is_over: bool = False) -> str:
    """The status that NOMIS must show for an attendance with the DPS `status` and `reason`.

    nomis_status: the current status in NOMIS, or None if NOMIS does not have the attendance. is_over: whether the day
    of the session has passed; if so, an attendance that is still `WAITING` has expired. A `LOCKED` attendance keeps its
    status in NOMIS, but expires if that is `SCH` or None. Raises `RuleError` for an unknown `status`.
    """
    if status not in _STATUSES:
        raise RuleError(f"no NOMIS event status for attendance status {status!r}")
    if status == "WAITING":
        return "EXP" if is_over else "SCH"
    if status == "COMPLETED":
        return "CANC" if reason == "CANCELLED" else "COMP"
    return "EXP" if nomis_status in (None, "SCH") else nomis_status


def bonus_pay(bonus_amount: int | None) -> Decimal | None:
    """The bonus in the form that NOMIS receives: the publisher's number, unchanged, with three decimal places.

    The publisher documents pence, and NOMIS documents pounds, but the number has always been sent without conversion.
    Before this is changed, the owners of both services must decide which unit is right.
    """
    return None if bonus_amount is None else Decimal(bonus_amount).quantize(Decimal("0.001"), ROUND_HALF_UP)


def session_of(attendance: Attendance) -> AttendanceSession:
    """The session of an attendance, in the form that identifies it in NOMIS."""
    return AttendanceSession(
        schedule_date=attendance.session_date,
        start_time=with_minutes(attendance.session_start_time),
        end_time=with_minutes(attendance.session_end_time),
    )


def nomis_attendance(
    attendance: Attendance, session: AttendanceSession, nomis_status: str | None, today: date
) -> UpsertAttendance:
    """The NOMIS attendance for a DPS attendance.

    nomis_status: the current status in NOMIS, which matters only if the attendance is locked. today: today's date in
    London. Raises `RuleError` for an unknown status or reason.
    """
    paid = bool(attendance.issue_payment)
    reason, is_over = attendance.attendance_reason_code, attendance.session_date < today
    outcome = attendance_outcome(reason, paid=paid)
    return UpsertAttendance(
        **dict(session),
        event_status_code=event_status(attendance.status, reason, nomis_status, is_over=is_over),
        event_outcome_code=outcome.code,
        comments=attendance.comment,
        unexcused_absence=outcome.unexcused,
        authorised_absence=outcome.authorised,
        paid=paid,
        bonus_pay=bonus_pay(attendance.bonus_amount),
    )


def _attendance_id(event: DomainEvent) -> str:
    return str(event.number("attendanceId"))


def _entity(event: DomainEvent) -> str:
    return f"attendance:{_attendance_id(event)}"


def _start(event: DomainEvent) -> Properties:
    return {"dpsAttendanceId": _attendance_id(event)}


def _upsert(event: DomainEvent, context: HandlerContext, ignored: str) -> str | None:
    """Writes the attendance. Returns None, or `ignored` if NOMIS refuses it and nothing is left to do.

    ignored: the name of the telemetry event for such a refusal.
    """
    services = context.services
    with context.lease(f"write:{_entity(event)}"):
        context.step("read attendance")
        attendance = activities_api.attendance(services[UpstreamName.ACTIVITIES], int(_attendance_id(event)))
        session = session_of(attendance)
        context.bind(
            dpsActivityScheduleId=attendance.activity_schedule_id,
            dpsScheduleInstanceId=attendance.scheduled_instance_id,
            sessionDate=attendance.session_date.isoformat(),
            sessionStartTime=session.start_time,
            sessionEndTime=session.end_time,
            offenderNo=attendance.prisoner_number,
            bookingId=attendance.booking_id,
        )
        context.step("look up mapping")
        mapping = MAPPINGS.get(services.mapping, attendance.activity_schedule_id)
        course_id, booking_id = int(mapping["nomisCourseActivityId"]), attendance.booking_id
        context.bind(nomisCourseActivityId=course_id)
        with context.lease(booking_activity_lease(booking_id, course_id)):
            nomis_status = None
            if attendance.status == "LOCKED":
                context.step("read attendance status in NOMIS")
                nomis_status = nomis_activities.attendance_status(services.nomis, course_id, booking_id, session)
            today = london_now().date()
            body = nomis_attendance(attendance, session, nomis_status, today)
            context.step("upsert attendance")
            try:
                upserted = nomis_activities.upsert_attendance(services.nomis, course_id, booking_id, body)
            except UpstreamError as error:
                context.bind(reason=_why_ignored(error, session, today))
                return ignored
        context.bind(
            nomisAttendanceEventId=upserted.event_id,
            nomisCourseScheduleId=upserted.course_schedule_id,
            created=upserted.created,
        )
    return None


def _why_ignored(error: UpstreamError, session: AttendanceSession, today: date) -> str:
    """The reason why an attendance that NOMIS refused with `error` can be ignored. Raises `error` if it cannot.

    Newer versions of NOMIS give an error code if the attendance has been paid, or if the prisoner has moved and the
    allocation has ended. It is normal for NOMIS to refuse a paid attendance on the day of the session. On any other
    day, such a refusal raises `NeverAccepted`, since a retry would not help.
    """
    if not error.from_service or error.error_code not in (_PAID, _MOVED_ON):
        raise error
    which = f"the session of {session.schedule_date.isoformat()} at {session.start_time}"
    if error.error_code == _MOVED_ON:
        return f"the prisoner moved, and the allocation ended before the attendance at {which} was written"
    reason = f"the attendance at {which} has already been paid"
    if session.schedule_date == today:
        return reason
    raise NeverAccepted(
        error.service,
        error.method,
        error.path,
        status=error.status,
        message=f"{reason}: {error.message}",
        from_service=True,
        error_code=error.error_code,
    ) from error


def _statements(key: Mapping[str, str]) -> tuple[str, ...]:
    """The SQL that shows a booking's attendances at a session; `key` identifies the booking and the session."""
    session = {
        "CRS_ACTY_ID": nomis_sql.number(key["nomisCourseActivityId"]),
        "OFFENDER_BOOK_ID": nomis_sql.number(key["bookingId"]),
        "EVENT_DATE": nomis_sql.day(key["sessionDate"]),
        nomis_sql.clock("START_TIME"): nomis_sql.minute(key["sessionStartTime"]),
        nomis_sql.clock("END_TIME"): nomis_sql.minute(key["sessionEndTime"]),
    }
    return (nomis_sql.select("OFFENDER_COURSE_ATTENDANCES", "EVENT_ID", session),)


ATTENDANCE_ROWS = RowKind(
    domain="activity",
    what="attendance",
    key=("nomisCourseActivityId", "bookingId", "sessionDate", "sessionStartTime", "sessionEndTime"),
    number="nomisAttendanceEventId",
    dps="dpsAttendanceId",
    pair=(
        "booking {bookingId} in the session of course activity {nomisCourseActivityId} on {sessionDate}, "
        "{sessionStartTime} to {sessionEndTime}"
    ),
    tracked_by=("activity-attendance-create-success", "activity-attendance-update-success"),
    path=re.compile(r"^/activities/\d+/booking/\d+/attendance(-status)?$"),
    delete=nomis_activities.delete_attendance,
    column="EVENT_ID",
    statements=_statements,
    alert="NOMIS holds two attendances for one booking and session",
)


def _update(event_type: str, word: str) -> Update:
    """The update for an event type.

    The names of its telemetry events contain `word`, which says what DPS did, not what NOMIS did.
    """
    name = f"activity-attendance-{word}"
    ignored = f"{name}-ignored"

    def apply(event: DomainEvent, context: HandlerContext) -> str | None:
        return _upsert(event, context, ignored)

    return Update(
        event_type=event_type,
        entity=_entity,
        start=_start,
        apply=apply,
        success=f"{name}-success",
        failed=f"{name}-failed",
        others=(ignored,),
        rows=ATTENDANCE_ROWS,
    )


ATTENDANCE_UPDATES = (
    _update("activities.prisoner.attendance-created", "create"),
    _update("activities.prisoner.attendance-amended", "update"),
    _update("activities.prisoner.attendance-expired", "update"),
)
