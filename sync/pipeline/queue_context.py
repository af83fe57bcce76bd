"""The objects that all parts of one queue's pipeline share: services, stores, and the control of the drain."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sync.creation.protocol import CreationProtocol
from sync.domains.declaration import Domain
from sync.events.context import Outcome
from sync.queues.queue import Message
from sync.settings.declaration import Settings
from sync.settings.upstreams import UpstreamName
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.telemetry import Telemetry
from sync.upstream.breaker import Breakers
from sync.upstream.services import Services

#: Called for each message that is acknowledged or returned to the queue, with the queue id, the outcome, and how many
#: times the message has been received.
OnMessageEnd = Callable[[str, Outcome, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueContext:
    """The domain of one queue, with the services and stores that its messages need.

    upstreams: the services without which no message of the queue can be handled.
    on_message_end: updates the metrics; it is called for every message that is acknowledged or returned to the queue.
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
        """Holds the lease of an entity, so that its events are handled one at a time.

        Raises `LeaseBusy` if the lease is held elsewhere.
        """
        return self.leases.held(f"{self.queue}:{entity}")

    def seconds_after_failure(self, event_type: str | None, message: Message) -> int:
        """The configured wait, in seconds, before a failed message is delivered again.

        It depends on the event type and on how many times the message has been received.
        """
        waits = self.settings.event_visibility_timeouts(self.queue, event_type or "")
        return waits[min(message.receive_count, len(waits)) - 1]


class DrainControl:
    """Stops a drain and watches its progress. Safe to share between threads.

    `grace_seconds`: how long work in flight may continue after `stop` before its messages are returned to the queue.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._stopping = threading.Event()
        self._grace_ends = 0.0
        self._progressed_at = time.monotonic()

    def stop(self) -> None:
        """Asks the drain to stop; the first call starts the grace period."""
        if not self._stopping.is_set():
            self._grace_ends = time.monotonic() + self._grace_seconds
            self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether the drain has been asked to stop."""
        return self._stopping.is_set()

    @property
    def grace_over(self) -> bool:
        """Whether the drain has been asked to stop and the grace period has ended."""
        return self.stopping and time.monotonic() >= self._grace_ends

    def wait(self, seconds: float) -> None:
        """Waits for `seconds`, or until the drain is asked to stop."""
        self._stopping.wait(seconds)

    def note_progress(self) -> None:
        """Records progress: messages were received or handled, or the drain is waiting for an outage to end."""
        self._progressed_at = time.monotonic()

    def seconds_since_progress(self) -> float:
        """The number of seconds since progress was last recorded. It grows while the drain hangs."""
        return time.monotonic() - self._progressed_at
