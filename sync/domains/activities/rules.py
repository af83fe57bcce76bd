"""Writes activity schedules and their sessions to NOMIS, as course activities."""

from datetime import datetime
from decimal import Decimal

from sync.alerting import Severity
from sync.clock import with_minutes
from sync.creation.creation import Creation, Json, Prepared
from sync.domains.activities import dps as activities_api
from sync.domains.activities import nomis as nomis_activities
from sync.domains.activities.dps import Activity, Instance, Pay, Schedule, ScheduledInstance, Slot
from sync.domains.activities.nomis import CourseSchedule, CreateActivity, PayRate, ScheduleRule, UpdateActivity
from sync.domains.declaration import Update
from sync.errors import RuleError
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import Properties
from sync.upstream.mappings import Mappings
from sync.upstream.responses import RecordNumber, Response, cut_to_bytes
from sync.upstream.services import Services

#: The description of a course in NOMIS has at most 40 bytes: the prefix and the beginning of the activity's summary.
_LONGEST_DESCRIPTION = 40
_DESCRIPTION_PREFIX = "SAA "
SUMMARY_LENGTH = 36


def course_description(summary: str) -> str:
    """The description of a course in NOMIS, made in the same way for new and amended courses."""
    return cut_to_bytes(_DESCRIPTION_PREFIX + summary[:SUMMARY_LENGTH], _LONGEST_DESCRIPTION)


def pay_rate(pay: Pay) -> PayRate:
    """The NOMIS pay rate in pounds for a pay line. Raises `RuleError` for piece work, which has no rate."""
    band = str(pay.prison_pay_band.nomis_pay_band)
    if pay.rate is None:
        raise RuleError(f"the pay line for level {pay.incentive_nomis_code} and band {band} has no rate (piece work)")
    return PayRate(incentive_level=pay.incentive_nomis_code, pay_band=band, rate=Decimal(pay.rate) / 100)


def _course_session(instance: Instance) -> CourseSchedule:
    """The NOMIS session for one session of a DPS schedule."""
    return CourseSchedule(
        date=instance.date,
        start_time=with_minutes(instance.start_time),
        end_time=with_minutes(instance.end_time),
        cancelled=instance.cancelled,
    )


def _schedule_rule(slot: Slot) -> ScheduleRule:
    """The NOMIS schedule rule for a slot: its days of the week and times."""
    return ScheduleRule(
        start_time=with_minutes(slot.start_time),
        end_time=with_minutes(slot.end_time),
        monday=slot.monday_flag,
        tuesday=slot.tuesday_flag,
        wednesday=slot.wednesday_flag,
        thursday=slot.thursday_flag,
        friday=slot.friday_flag,
        saturday=slot.saturday_flag,
        sunday=slot.sunday_flag,
    )


def _amended_course(schedule: Schedule, activity: Activity) -> UpdateActivity:
    """The NOMIS course for a schedule and its activity. The dates are those of the schedule."""
    location = schedule.internal_location
    return UpdateActivity(
        start_date=schedule.start_date,
        end_date=schedule.end_date,
        internal_location_id=None if location is None else location.id,
        capacity=schedule.capacity,
        pay_rates=tuple(pay_rate(pay) for pay in activity.pay),
        description=course_description(activity.summary),
        minimum_incentive_level_code=schedule.activity.minimum_incentive_nomis_code,
        program_code=activity.category.code,
        pay_per_session=schedule.activity.pay_per_session,
        schedules=tuple(_course_session(instance) for instance in schedule.instances),
        schedule_rules=tuple(_schedule_rule(slot) for slot in schedule.slots),
        exclude_bank_holidays=not schedule.runs_on_bank_holiday,
    )


def new_course(schedule: Schedule, activity: Activity) -> CreateActivity:
    """The new NOMIS course for a schedule. The dates and the minimum incentive level are those of the activity."""
    amended = dict(_amended_course(schedule, activity))
    of_activity = {
        "code": str(schedule.id),
        "prison_id": activity.prison_code,
        "start_date": activity.start_date,
        "end_date": activity.end_date,
        "minimum_incentive_level_code": activity.minimum_incentive_nomis_code,
    }
    return CreateActivity(**{**amended, **of_activity})


class _Mapping(Response):
    activity_schedule_id: RecordNumber
    nomis_course_activity_id: RecordNumber


MAPPINGS = Mappings(
    path="/mapping/activities",
    role="NOMIS_ACTIVITIES",
    model=_Mapping,
    dps="activityScheduleId",
    nomis=("nomisCourseActivityId",),
    by_dps="activity-schedule-id/{activityScheduleId}",
    by_nomis=None,
    is_listed=True,
)


class ActivityCreation(Creation):
    """Creates a NOMIS course activity for a schedule."""

    event_type = "activities.activity-schedule.created"
    name = "activity"
    queue = "activity"
    event_id = "activityScheduleId"
    mappings = MAPPINGS
    numeric_ids = True
    retry_success = "activity-create-mapping-retry-success"
    severity = Severity.LOW

    def start(self, event: DomainEvent) -> Properties:
        """The id of the schedule."""
        return {"dpsActivityScheduleId": self.dps_id(event)}

    def prepare(self, event: DomainEvent, context: HandlerContext) -> Prepared:
        """Reads the schedule and its activity, and combines them in the request for a course activity."""
        schedule = _read_schedule(event, context)
        context.bind(description=schedule.description)
        activity = _read_activity(schedule, context)
        context.step("create activity")
        return Prepared({"activityScheduleId": schedule.id, "body": new_course(schedule, activity).as_json()})

    def create(self, request: Json, services: Services) -> Json:
        """Creates the course activity with its sessions and pay rates."""
        return {"nomisCourseActivityId": nomis_activities.create_activity(services.nomis, request["body"])}

    def locate(self, request: Json, since: datetime, services: Services) -> None:
        """Returns None, since NOMIS has no endpoint that reads course activities."""

    def mapping(self, dps_id: str, nomis_ids: Json) -> Json:
        """The mapping of a schedule to the course activity that this program created."""
        return {
            "nomisCourseActivityId": nomis_ids["nomisCourseActivityId"],
            "activityScheduleId": int(dps_id),
            "mappingType": "ACTIVITY_CREATED",
            "whenCreated": None,
        }

    def find_conflicting(self, mapping: Json, services: Services) -> Json | None:
        """A mapping that differs from `mapping` but has one of its ids, or None.

        This method is needed because the mapping service responds to an activity's second mapping with 400, not 409.
        """
        existing = MAPPINGS.find(services.mapping, mapping["activityScheduleId"])
        if existing is None:
            existing = MAPPINGS.find_by_nomis_ids(services.mapping, mapping["nomisCourseActivityId"])
        return None if existing is None or self.same_records(existing, mapping) else existing


CREATION = ActivityCreation()


def _amend(event: DomainEvent, context: HandlerContext) -> None:
    with context.lease(_course_lease(CREATION.dps_id(event))):
        course_id = _mapped_course(CREATION.dps_id(event), context)
        schedule = _read_schedule(event, context)
        context.bind(dpsActivityId=schedule.activity.id)
        activity = _read_activity(schedule, context)
        context.step("update activity")
        nomis_activities.update_activity(context.services.nomis, course_id, _amended_course(schedule, activity))


def _instance_id(event: DomainEvent) -> str:
    return str(event.number("scheduledInstanceId"))


def _instance_entity(event: DomainEvent) -> str:
    return f"scheduled-instance:{_instance_id(event)}"


def _start_instance(event: DomainEvent) -> Properties:
    return {"dpsScheduledInstanceId": _instance_id(event)}


def _amend_instance(event: DomainEvent, context: HandlerContext) -> None:
    schedule_id = _read_instance(event, context).activity_schedule.id
    with context.lease(_course_lease(schedule_id)):
        # The session is read again under the lease, since the schedule may have been amended in between.
        instance = _read_instance(event, context)
        session = _course_session(instance)
        context.bind(
            dpsActivityScheduleId=instance.activity_schedule.id,
            scheduleDate=instance.date.isoformat(),
            startTime=session.start_time,
            endTime=session.end_time,
        )
        course_id = _mapped_course(instance.activity_schedule.id, context)
        context.step("update session")
        context.bind(nomisCourseScheduleId=nomis_activities.update_schedule(context.services.nomis, course_id, session))


def _course_lease(schedule_id: int | str) -> str:
    """The key of the lease for writing a course, including its sessions.

    An amendment to a schedule writes all its sessions, so it must not come between the reading and the writing of one
    session.
    """
    return f"write:activity:{schedule_id}"


def _read_instance(event: DomainEvent, context: HandlerContext) -> ScheduledInstance:
    context.step("read scheduled instance")
    return activities_api.scheduled_instance(context.services[UpstreamName.ACTIVITIES], int(_instance_id(event)))


def _mapped_course(schedule_id: int | str, context: HandlerContext) -> int:
    context.step("look up mapping")
    course_id = int(MAPPINGS.get(context.services.mapping, schedule_id)["nomisCourseActivityId"])
    context.bind(nomisCourseActivityId=course_id)
    return course_id


def _read_schedule(event: DomainEvent, context: HandlerContext) -> Schedule:
    context.step("read schedule")
    return activities_api.schedule(context.services[UpstreamName.ACTIVITIES], int(CREATION.dps_id(event)))


def _read_activity(schedule: Schedule, context: HandlerContext) -> Activity:
    context.step("read activity")
    return activities_api.activity(context.services[UpstreamName.ACTIVITIES], schedule.activity.id)


UPDATES = (
    Update(
        event_type="activities.activity-schedule.amended",
        entity=CREATION.entity,
        start=CREATION.start,
        apply=_amend,
        success="activity-amend-success",
        failed="activity-amend-failed",
    ),
    Update(
        event_type="activities.scheduled-instance.amended",
        entity=_instance_entity,
        start=_start_instance,
        apply=_amend_instance,
        success="activity-scheduled-instance-amend-success",
        failed="activity-scheduled-instance-amend-failed",
    ),
)
