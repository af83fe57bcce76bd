"""The active prisoners in NOMIS, page by page, over a population that may move meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.bodies import unexpected
from sandbox.movements import Movements
from sandbox.paging import flag, page
from sandbox.serving import Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.world import World


def routes(world: World) -> list[Route]:
    """Return the listing of booking ids."""
    movements = Movements(world)

    def ids(request: Request) -> Reply:
        if not flag(request, "active", True):
            raise unexpected("An operation is not implemented: Only active prisoners are supported")
        active = [prisoner for prisoner in world.prisoners if prisoner.active] if world.moved else world.prisoners
        found = page(
            request,
            active,
            lambda start, end: [
                {"bookingId": each.booking_id, "offenderNo": each.offender_no} for each in active[start:end]
            ],
        )
        movements.after_page(world.options.moving)
        return found

    return [Route("GET", "/prisoners/ids", ids, "SYNCHRONISATION_REPORTING")]
