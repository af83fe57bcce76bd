"""The upstream services, one client each."""

from dataclasses import dataclass

from sync.settings.upstreams import UpstreamName
from sync.upstream.transport import ServiceClient, Transport


@dataclass(frozen=True, slots=True)
class Services:
    """A client for each upstream service: `services.nomis`, `services.mapping`, `services[UpstreamName.VISITS]`.

    A client is created when it is first used; creating one makes no call. HMPPS Auth has no client here: `tokens`
    calls it.
    """

    transport: Transport

    def __getitem__(self, name: UpstreamName) -> ServiceClient:
        return self.transport.client(name)

    @property
    def nomis(self) -> ServiceClient:
        """The client of hmpps-nomis-prisoner-api."""
        return self.transport.client(UpstreamName.NOMIS)

    @property
    def mapping(self) -> ServiceClient:
        """The client of the mapping service."""
        return self.transport.client(UpstreamName.MAPPING)
