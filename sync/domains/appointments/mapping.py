"""The mappings of appointment instances to NOMIS appointments."""

from sync.upstream.mappings import Mappings
from sync.upstream.responses import RecordNumber, Response


class _Mapping(Response):
    appointment_instance_id: RecordNumber
    nomis_event_id: RecordNumber


MAPPINGS = Mappings(
    path="/mapping/appointments",
    model=_Mapping,
    dps="appointmentInstanceId",
    nomis=("nomisEventId",),
    by_dps="appointment-instance-id/{appointmentInstanceId}",
    by_nomis="nomis-event-id/{nomisEventId}",
)
