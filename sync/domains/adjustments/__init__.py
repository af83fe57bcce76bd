"""Adjustments to sentences and to key dates.

What is special about them:

- In NOMIS, the two kinds are separate families. Their ids overlap, so an id identifies an adjustment only together with
  its family.
- Events with the source NOMIS are ignored, since NOMIS already has the adjustment.
- If NOMIS has two equal adjustments, both count, so a duplicate makes the release date wrong.
- If DPS deletes an adjustment, the NOMIS adjustment and its mapping are deleted too.
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
