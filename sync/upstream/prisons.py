"""Which prisons use the new services, according to NOMIS's agency switches and the activities API's rollout plans."""

from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import ContractProbe, Operation, optional, rows
from sync.upstream.responses import Response
from sync.upstream.transport import ServiceClient

#: The service code of activities in the agency switches.
ACTIVITY = "ACTIVITY"
#: An agency switch with this agency applies to every prison.
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


_AGENCY_SWITCHES = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/agency-switches/{serviceCode}",
    rows(_Agency),
    role="NOMIS_PRISONER_API__SYNCHRONISATION__RW",
    since="2025-06",
    may_lack_route=True,
)
_SERVICE_PRISONS = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/service-prisons/{serviceCode}",
    rows(_ServicePrison),
    role="NOMIS_PRISONER_API__SYNCHRONISATION__RW",
    since="2023-10",
    until="2025-06",
    may_lack_route=True,
)
_ROLLOUT_PLANS = Operation(
    UpstreamName.ACTIVITIES,
    "GET",
    "/rollout",
    rows(RolloutPlan),
    role="ACTIVITY_ADMIN",
    query=("prisonsLive",),
    since="2024-11",
)
_ROLLOUT_PLAN = Operation(UpstreamName.ACTIVITIES, "GET", "/rollout/{prisonCode}", optional(RolloutPlan))

PROBE = ContractProbe(_ROLLOUT_PLAN, ("MDI",))


def switched_on(nomis: ServiceClient, service: str) -> tuple[str, ...]:
    """The agencies for which NOMIS has switched `service` on; `EVERY_PRISON` stands for all prisons.

    Raises `UpstreamError`: with `no_route` if NOMIS is a version from before June 2025, and with status 404 but without
    `no_route` for an unknown service.
    """
    return tuple(each.agency_id for each in _AGENCY_SWITCHES.call(nomis, service))


def service_prisons(nomis: ServiceClient, service: str) -> tuple[str, ...]:
    """As `switched_on`, but from the route that NOMIS had from October 2023 to June 2025."""
    return tuple(each.prison_id for each in _SERVICE_PRISONS.call(nomis, service))


def rollout_plans(activities: ServiceClient) -> tuple[RolloutPlan, ...]:
    """The rollout plans of all prisons that use any part of the activities API.

    The API has had this endpoint since November 2024.
    """
    return _ROLLOUT_PLANS.call(activities, query={"prisonsLive": "true"})


def rollout_plan(activities: ServiceClient, prison_id: str) -> RolloutPlan | None:
    """The rollout plan of one prison, or None for an unknown prison."""
    return _ROLLOUT_PLAN.call(activities, prison_id, asked={"prisonCode": prison_id})
