"""Prison visits."""

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
