"""The upstream services a handler works with, one client each."""

from dataclasses import dataclass

from sync.settings import UpstreamName
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
