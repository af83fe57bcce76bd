"""The upstream services a handler works with, one client each."""

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
