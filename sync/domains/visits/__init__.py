"""Prison visits, booked in visit-scheduler.

What is special about them:

- When the program creates a visit in NOMIS, it puts the booking's reference in the comment. The reference identifies
  the visit if the outcome of the creation is unknown.
- NOMIS refuses a new visit if it already has an equal one. If the existing visit belongs to the same booking, the
  program uses that visit, and the creation succeeds.
- NOMIS does not delete visits, so a duplicate is cancelled instead.
- A NOMIS visit that is no longer scheduled does not have to be cancelled: the event about its cancellation succeeds.
- The mapping service cannot delete the mapping of a visit.
"""

from sync.domains.declaration import Domain
from sync.domains.visits.repair import REPAIR, RESYNCS
from sync.domains.visits.rules import CREATION, UPDATES
from sync.settings.upstreams import UpstreamName

DOMAIN = Domain(
    name="visits",
    noun="visit",
    publisher=UpstreamName.VISITS,
    creation=CREATION,
    updates=UPDATES,
    repair=REPAIR,
    resyncs=RESYNCS,
)
