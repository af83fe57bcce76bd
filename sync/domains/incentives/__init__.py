"""Incentive reviews and incentive levels."""

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
