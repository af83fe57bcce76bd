"""What the pipeline of one queue works with."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sync.creation.protocol import CreationProtocol
from sync.domains.declaration import Domain
from sync.pipeline.outcome import Outcome
from sync.settings.declaration import Settings, UpstreamName
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.telemetry import Telemetry
from sync.upstream.breaker import Breakers
from sync.upstream.services import Services

#: Called with the queue id, the outcome of a message, and how often it had been received.
OnMessageEnd = Callable[[str, Outcome, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueContext:
    """The domain of one queue, with the services and stores that the handling of its messages needs.

    upstreams: the services without which no message of the queue can be handled.
    on_message_end: called for every message that is acknowledged or returned; the metrics listen here.
    """

    domain: Domain
    settings: Settings
    services: Services
    creations: CreationProtocol
    leases: Leases
    telemetry: Telemetry
    database: Database
    breakers: Breakers
    upstreams: tuple[UpstreamName, ...]
    on_message_end: OnMessageEnd | None = None

    @property
    def queue(self) -> str:
        """The queue id, such as `visit`."""
        return self.domain.queue

    def entity_held(self, entity: str) -> AbstractContextManager[None]:
        """Holds the lease of an entity, whose events are handled one at a time. Raises `LeaseBusy`."""
        return self.leases.held(f"{self.queue}:{entity}")
