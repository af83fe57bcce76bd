"""The upstream services a handler works with, one client each."""

from collections.abc import Mapping
from dataclasses import dataclass

from sync.settings.declaration import UpstreamName
from sync.upstream.transport import ServiceClient, Transport


@dataclass(frozen=True, slots=True)
class Services:
    """One client for each upstream service, called by the modules beside this one (`nomis_visits`, `mappings`, …)."""

    nomis: ServiceClient
    mapping: ServiceClient
    visits: ServiceClient
    incentives: ServiceClient
    activities: ServiceClient
    appointments: ServiceClient
    sentence_adjustments: ServiceClient
    prisoner_search: ServiceClient


def connect(transport: Transport) -> Services:
    """The services over `transport`; nothing is called yet."""
    return Services(
        nomis=transport.client(UpstreamName.NOMIS),
        mapping=transport.client(UpstreamName.MAPPING),
        visits=transport.client(UpstreamName.VISITS),
        incentives=transport.client(UpstreamName.INCENTIVES),
        activities=transport.client(UpstreamName.ACTIVITIES),
        appointments=transport.client(UpstreamName.APPOINTMENTS),
        sentence_adjustments=transport.client(UpstreamName.SENTENCE_ADJUSTMENTS),
        prisoner_search=transport.client(UpstreamName.PRISONER_SEARCH),
    )


_SYNCHRONISED = frozenset(
    {"NOMIS_VISITS", "NOMIS_INCENTIVES", "NOMIS_ACTIVITIES", "NOMIS_APPOINTMENTS", "NOMIS_SENTENCING"}
)
#: The roles that the client of each service must have, without `ROLE_`. Every other call works with any valid token.
ROLES: Mapping[UpstreamName, frozenset[str]] = {
    UpstreamName.NOMIS: _SYNCHRONISED | {"SYNCHRONISATION_REPORTING"},
    UpstreamName.MAPPING: _SYNCHRONISED,
    UpstreamName.VISITS: frozenset({"VISIT_SCHEDULER"}),
    UpstreamName.INCENTIVES: frozenset(),
    UpstreamName.ACTIVITIES: frozenset({"NOMIS_ACTIVITIES"}),
    UpstreamName.APPOINTMENTS: frozenset(),
    UpstreamName.SENTENCE_ADJUSTMENTS: frozenset({"SENTENCE_ADJUSTMENTS_SYNCHRONISATION"}),
    UpstreamName.PRISONER_SEARCH: frozenset({"EVENTS_ADMIN"}),
}

_PUBLISHERS = {
    "visit": UpstreamName.VISITS,
    "incentive": UpstreamName.INCENTIVES,
    "activity": UpstreamName.ACTIVITIES,
    "appointment": UpstreamName.APPOINTMENTS,
    "sentencing": UpstreamName.SENTENCE_ADJUSTMENTS,
}


def upstreams_of(queue: str) -> tuple[UpstreamName, ...]:
    """The services without which no message of the queue id can be handled."""
    return UpstreamName.NOMIS, UpstreamName.MAPPING, _PUBLISHERS[queue]
