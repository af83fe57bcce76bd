"""Which services there are, and the endpoints of each in a given world."""

from __future__ import annotations

from sandbox import (
    activities_views,
    adjustments_api,
    appointments_api,
    incentives_api,
    mapping,
    nomis_activity_routes,
    nomis_appointments,
    nomis_incentives,
    nomis_levels,
    nomis_prisoners,
    nomis_sentencing,
    nomis_visits,
    prisoner_search,
    visit_scheduler,
)
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
        "nomis": [
            *nomis_prisoners.routes(world),
            *nomis_incentives.routes(world),
            *nomis_levels.routes(world),
            *nomis_visits.routes(world),
            *nomis_activity_routes.routes(world),
            *nomis_appointments.routes(world),
            *nomis_sentencing.routes(world),
        ],
        "visits": visit_scheduler.routes(world),
        "incentives": incentives_api.routes(world),
        "activities": activities_views.routes(world),
        "appointments": appointments_api.routes(world),
        "adjustments": adjustments_api.routes(world),
        "prisoner-search": prisoner_search.routes(world),
    }
