"""Adjustments of sentences and of key dates."""

from sync.domains.adjustments.repair import REPAIR, RESYNCS
from sync.domains.adjustments.rules import CREATION, UPDATES
from sync.domains.declaration import Domain
from sync.settings.upstreams import UpstreamName

DOMAIN = Domain(
    name="adjustments",
    noun="sentencing adjustment",
    publisher=UpstreamName.SENTENCE_ADJUSTMENTS,
    creation=CREATION,
    updates=UPDATES,
    repair=REPAIR,
    resyncs=RESYNCS,
)
