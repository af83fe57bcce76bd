"""Which prisons use the new services: the agency switches of NOMIS, and the rollout of the activities API."""

from sync.upstream.responses import Response, parse_list, parse_response
from sync.upstream.transport import ServiceClient, segment

#: The service code of activities in the agency switches.
ACTIVITY = "ACTIVITY"
#: A row of an agency switch with this agency means every prison.
EVERY_PRISON = "*ALL*"


class _Agency(Response):
    agency_id: str


class _ServicePrison(Response):
    prison_id: str


class RolloutPlan(Response):
    """Which parts of the activities API a prison uses."""

    prison_code: str
    activities_rolled_out: bool
    appointments_rolled_out: bool


def switched_on(nomis: ServiceClient, service: str) -> tuple[str, ...]:
    """The agencies for which NOMIS has switched a service on; `EVERY_PRISON` among them stands for all.

    Raises `UpstreamError`: with `no_route` before June 2025, 404 for an unknown service.
    """
    path = f"/agency-switches/{segment(service)}"
    response = nomis.call("GET", path, may_lack_route=True)
    return tuple(each.agency_id for each in parse_list(_Agency, response, nomis, "GET", path))


def service_prisons(nomis: ServiceClient, service: str) -> tuple[str, ...]:
    """As `switched_on`, for the route from October 2023 to June 2025."""
    path = f"/service-prisons/{segment(service)}"
    response = nomis.call("GET", path, may_lack_route=True)
    return tuple(each.prison_id for each in parse_list(_ServicePrison, response, nomis, "GET", path))


def rollout_plans(activities: ServiceClient) -> tuple[RolloutPlan, ...]:
    """The plans of all prisons that use some part of the activities API; a route since November 2024."""
    path = "/rollout"
    response = activities.call("GET", path, query={"prisonsLive": "true"})
    return parse_list(RolloutPlan, response, activities, "GET", path)


def rollout_plan(activities: ServiceClient, prison_id: str) -> RolloutPlan | None:
    """The plan of one prison, None for an unknown one."""
    path = f"/rollout/{segment(prison_id)}"
    response = activities.call("GET", path, none_on_404=True)
    asked = {"prisonCode": prison_id}
    return None if response is None else parse_response(RolloutPlan, response, activities, "GET", path, asked=asked)
