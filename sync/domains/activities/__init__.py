"""Activities, allocations and attendances.

What is special about them:

- A schedule becomes a course activity in NOMIS. No endpoint of NOMIS reads course activities, so if the outcome of a
  creation is unknown, a person resolves it.
- Allocations (`allocations`) and attendances (`attendances`) have no mappings: NOMIS finds a row by its booking and
  course activity and, for an attendance, its session.
- NOMIS does not prevent concurrent calls from creating two rows where only one is allowed. So each call for a booking
  and a course activity is made under a lease, and if NOMIS has two rows anyway, this becomes a finding.
- The message about an attendance waits until NOMIS has the prisoner's allocation to the activity.
- `counts` reads the numbers of allocations and attendances that the reconciliations compare.
"""

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
