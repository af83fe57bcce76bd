"""Adjustments to sentences and to key dates.

What is special about them:

- NOMIS has two families of adjustments: to sentences and to key dates. Their ids overlap, so an id only identifies an
  adjustment together with its family.
- Events with the source NOMIS are ignored, since NOMIS already has the adjustment.
- Two equal adjustments both count, so a duplicate makes the release date wrong.
- An adjustment that DPS has deleted is deleted in NOMIS, with its mapping.
"""

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
