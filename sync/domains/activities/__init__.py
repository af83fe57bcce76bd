"""Activities, allocations and attendances."""

from sync.domains.activities.allocations import ALLOCATION_UPDATES
from sync.domains.activities.attendances import ATTENDANCE_UPDATES
from sync.domains.activities.repair import ADVICE, RESYNCS, ActivityRepair, is_missing_allocation
from sync.domains.activities.rules import CREATION, UPDATES
from sync.domains.declaration import Domain
from sync.settings.upstreams import UpstreamName

DOMAIN = Domain(
    name="activities",
    noun="activity",
    publisher=UpstreamName.ACTIVITIES,
    creation=CREATION,
    updates=(*UPDATES, *ALLOCATION_UPDATES, *ATTENDANCE_UPDATES),
    repair=ActivityRepair(),
    resyncs=RESYNCS,
    advice=ADVICE,
    is_awaited=is_missing_allocation,
)
