"""One look over all domains: is every published record in NOMIS exactly once, mapped rightly and in the right state?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.domains import DOMAINS
from sandbox.verification.discrepancies import Discrepancies

if TYPE_CHECKING:
    from sandbox.world import World


def verify(world: World) -> dict[str, object]:
    """Compare NOMIS and the mappings with everything that was published and is not to be ignored.

    Returns:
        `entities` (how many were checked), `by_domain`, `problems` (each with domain, dps_id, problem and details),
        and `surplus` (NOMIS records made since the start that no mapping points to).
    """
    found = Discrepancies()
    for domain in DOMAINS:
        domain.verify(world, found)
    return {
        "entities": sum(found.looked_at.values()),
        "by_domain": dict(found.looked_at),
        "problems": found.problems,
        "surplus": found.surplus,
    }
