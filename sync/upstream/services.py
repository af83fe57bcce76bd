"""The upstream services, one client each."""

from collections.abc import Mapping
from dataclasses import dataclass

from sync.settings.upstreams import UpstreamName
from sync.upstream.transport import ServiceClient, Transport


@dataclass(frozen=True, slots=True)
class Services:
    """A client for each upstream service: `services.nomis`, `services.mapping`, `services[UpstreamName.VISITS]`."""

    clients: Mapping[UpstreamName, ServiceClient]

    def __getitem__(self, name: UpstreamName) -> ServiceClient:
        return self.clients[name]

    @property
    def nomis(self) -> ServiceClient:
        """The client of hmpps-nomis-prisoner-api."""
        return self.clients[UpstreamName.NOMIS]

    @property
    def mapping(self) -> ServiceClient:
        """The client of the mapping service."""
        return self.clients[UpstreamName.MAPPING]


def connect(transport: Transport) -> Services:
    """The services over `transport`; nothing is called yet. HMPPS Auth has no client: it gives the tokens."""
    return Services({name: transport.client(name) for name in UpstreamName if name is not UpstreamName.OAUTH})
