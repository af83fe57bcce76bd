"""Incentive reviews and incentive levels.

What is special about them:

- A review becomes an IEP record, which is identified by the booking and a sequence number that NOMIS assigns.
- NOMIS keeps the records of one day in the order in which they were written, so the reviews of a prisoner are handled
  one at a time.
- Reviews that a user made in NOMIS are ignored.
- Only the NOMIS support team can delete a duplicate IEP record. A duplicate is harmless if both records have the same
  level.
- Levels, both global ones and those of each prison, are reference data without mappings (see the module `levels`).
"""

from sync.domains.declaration import Domain
from sync.domains.incentives.levels import LEVEL_UPDATES
from sync.domains.incentives.repair import IncentiveRepair
from sync.domains.incentives.rules import CREATION
from sync.settings.upstreams import UpstreamName

DOMAIN = Domain(
    name="incentives",
    noun="incentive",
    publisher=UpstreamName.INCENTIVES,
    creation=CREATION,
    updates=LEVEL_UPDATES,
    repair=IncentiveRepair(),
)
