"""Which services there are, and the endpoints of each in a given world."""

from __future__ import annotations

from sandbox import mapping, nomis_visits, visit_scheduler
from sandbox.serving import Route
from sandbox.world import World

NAMES = (
    "auth",
    "nomis",
    "mapping",
    "visits",
    "incentives",
    "activities",
    "appointments",
    "adjustments",
    "prisoner-search",
    "slack",
)


def routes_of(world: World) -> dict[str, list[Route]]:
    """Return the endpoints of every service; NOMIS is one service made of several modules."""
    return {
        "mapping": mapping.routes(world),
        "nomis": [*nomis_visits.routes(world)],
        "visits": visit_scheduler.routes(world),
        "incentives": [],
        "activities": [],
        "appointments": [],
        "adjustments": [],
        "prisoner-search": [],
    }
