"""What a domain declares: its events and what each does.

A domain is one module that holds rules and nothing else. It declares a `Domain`; the machinery (queues, gathering,
creation protocol, settling, telemetry) reads the declaration and calls the functions in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from sync.creation.creation import Creation
from sync.pipeline.context import HandlerContext
from sync.pipeline.envelope import DomainEvent
from sync.store.telemetry import Properties


class Coalesce(Enum):
    """Whether several events of one entity in a batch may become one piece of work."""

    NEVER = "never"
    #: The handler fetches the current state, so one run serves all pending events that it is equal to.
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Update:
    """An event that changes, cancels, deletes or upserts: idempotent, and safe to repeat.

    `apply` raises on failure. On success `success` is tracked, on failure `failed` (where there is one), with the
    properties that `apply` bound. It may return another event name, which is tracked instead of `success` (an ignored
    event, inserted or updated).
    """

    event_type: str
    entity: Callable[[DomainEvent], str]
    start: Callable[[DomainEvent], Properties]
    apply: Callable[[DomainEvent, HandlerContext], str | None]
    success: str
    failed: str | None
    others: tuple[str, ...] = ()
    coalesce: Coalesce = Coalesce.LATEST


@dataclass(frozen=True, slots=True)
class Domain:
    """All that one queue's events do."""

    queue: str
    creation: Creation
    updates: tuple[Update, ...] = ()
    handlers: Mapping[str, Creation | Update] = field(init=False)

    def __post_init__(self) -> None:
        every: tuple[Creation | Update, ...] = (self.creation, *self.updates)
        object.__setattr__(self, "handlers", {handler.event_type: handler for handler in every})
