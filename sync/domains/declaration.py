"""What a domain declares: its events, what each does, and how its records are created exactly once.

A domain is one module that holds rules and nothing else. It declares a `Domain`; the machinery (queues, gathering,
creation protocol, settling, telemetry) reads the declaration and calls the functions in it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from sync.pipeline.context import HandlerContext
from sync.pipeline.envelope import DomainEvent, MappingRetry
from sync.upstream.services import Services

#: Properties of a telemetry event: values as they are, made text when tracked; None is left out.
Properties = Mapping[str, object]


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
class Ignored:
    """The event needs nothing in NOMIS; `<name>-create-ignored` is tracked."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A creation that is ready to be sent.

    `request` is plain JSON, enough for `create` and for `locate` in another process: what is sent to NOMIS, and whose
    record it is. `leases` are further keys to hold during the creation, such as the booking's.
    """

    request: Mapping[str, Any]
    leases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Creation:
    """An event that creates a record in NOMIS, through the creation protocol and exactly once.

    name: the word of the telemetry events (`visit`, `sentencing-adjustment`); queue: the queue id.
    find_mapping: the mapping of a DPS id as the mapping service gives it, None when there is none.
    prepare: reads the DPS record and transforms it; raises `RuleError` or `UpstreamError`.
    create: sends the request to NOMIS and returns the ids, named as the fields of the mapping.
    mapping: the body of the mapping POST from DPS id and NOMIS ids, null fields included as the retry message has them.
    post_mapping: posts it.
    duplicate_of: after a refusal that says only "exists already" (activities answer 400), the mapping that exists.
    locate: after an unknown outcome, the records of NOMIS that may have come of the intent, by their ids, named as the
        fields of the mapping; None where no endpoint can tell. `since` is when the intent was recorded.
    subject: whose record it is, by the request, where records of one subject may look alike.
    passes_over: events that need nothing, told before any call (so before `find_mapping`); `ignored` is then tracked.
    """

    event_type: str
    name: str
    queue: str
    entity: Callable[[DomainEvent], str]
    dps_id: Callable[[DomainEvent], str]
    start: Callable[[DomainEvent], Properties]
    find_mapping: Callable[[str, Services], Mapping[str, Any] | None]
    prepare: Callable[[DomainEvent, HandlerContext], Prepared | Ignored]
    create: Callable[[Mapping[str, Any], Services], Mapping[str, Any]]
    mapping: Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
    post_mapping: Callable[[Mapping[str, Any], Services], None]
    locate: Callable[[Mapping[str, Any], datetime, Services], Sequence[Mapping[str, Any]] | None]
    retry_success: str
    retry_properties: Callable[[MappingRetry], Properties]
    read_retry: Callable[[MappingRetry], Mapping[str, Any]]
    retry_dps_id: Callable[[MappingRetry], str]
    duplicate_of: Callable[[Mapping[str, Any], Services], Mapping[str, Any] | None] | None = None
    ignored: str | None = None
    passes_over: Callable[[DomainEvent], bool] | None = None
    subject: Callable[[Mapping[str, Any]], str] | None = None
    severity: str = "medium"


def creation_lease(name: str, dps_id: str) -> str:
    """The key of the lease under which a DPS record is created; `name` is that of the `Creation`.

    A deletion holds it too, so that it never meets a creation that is under way.
    """
    return f"create:{name}:{dps_id}"


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
