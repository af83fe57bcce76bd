"""The mappings of activity schedules to course activities."""

from sync.upstream.mappings import Mappings
from sync.upstream.responses import RecordNumber, Response


class _Mapping(Response):
    activity_schedule_id: RecordNumber
    nomis_course_activity_id: RecordNumber


MAPPINGS = Mappings(
    path="/mapping/activities",
    model=_Mapping,
    dps="activityScheduleId",
    nomis=("nomisCourseActivityId",),
    by_dps="activity-schedule-id/{activityScheduleId}",
    by_nomis=None,
)
