"""The classes with which a domain declares its events and everything that belongs to them.

Each domain is one package with one `DOMAIN`. The pipeline, the creation protocol and `sync.repair` use a domain only
through its `DOMAIN`. In `sync`, only the registry and a domain's own modules import modules of that domain.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from sync.creation.creation import Creation
from sync.domains.duplicate_rows import RowKind
from sync.domains.repair_declaration import Advice, Repair, Resync
from sync.errors import Failure, UpstreamError
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import Properties
from sync.upstream.mappings import Mappings


class Coalesce(Enum):
    """Whether several events of one entity in a batch may be handled as one task."""

    NEVER = "never"
    #: The handler reads the current state, so one task covers all consecutive events of the same type.
    LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Changes, cancels, deletes or upserts a record for each event of one type; a repeated event does no harm.

    entity: returns the entity of an event. start: returns the telemetry properties that come from the event itself.
    apply: makes the change, and raises an error on failure. It may return the name of a telemetry event to track
    instead of `success`, such as the one for an ignored event. success, failed: the telemetry events for success and
    failure, with the properties that `apply` bound; `failed` may be None. others: the other telemetry events that
    `apply` may return or track. rows: the kind of row that the events change, or None if NOMIS cannot hold two such
    rows for one key. If it does hold two, it refuses every change to either of them.
    """

    event_type: str
    entity: Callable[[DomainEvent], str]
    start: Callable[[DomainEvent], Properties]
    apply: Callable[[DomainEvent, HandlerContext], str | None]
    success: str
    failed: str | None
    others: tuple[str, ...] = ()
    coalesce: Coalesce = Coalesce.LATEST
    rows: RowKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Everything about one domain. Queues, clients, switches, texts and documents are derived from it.

    name: the name of its package. noun: what people call a record. publisher: the DPS service that publishes its
    events. creation, updates: the handlers of its events. repair: what operators can do about its NOMIS records.
    resyncs: the kinds of DPS records that operators can write to NOMIS again. advice: the advice for its failed
    messages. is_awaited: whether a failure means that a record is missing, and that another event of the domain will
    create it. The message then waits for that event.
    """

    name: str
    noun: str
    publisher: UpstreamName
    creation: Creation
    updates: tuple[Update, ...] = ()
    repair: Repair
    resyncs: tuple[Resync, ...] = ()
    advice: tuple[Advice, ...] = ()
    is_awaited: Callable[[Failure], bool] | None = None
    #: The handler of each event type.
    handlers: Mapping[str, Creation | Update] = field(init=False)

    def __post_init__(self) -> None:
        every: tuple[Creation | Update, ...] = (self.creation, *self.updates)
        object.__setattr__(self, "handlers", {handler.event_type: handler for handler in every})

    @property
    def queue(self) -> str:
        """The queue id, such as `sentencing`."""
        return self.creation.queue

    @property
    def record(self) -> str:
        """The word for the domain's records in telemetry and in the database, such as `sentencing-adjustment`."""
        return self.creation.name

    @property
    def mappings(self) -> Mappings:
        """The mappings of the domain's records."""
        return self.creation.mappings

    @property
    def upstreams(self) -> tuple[UpstreamName, ...]:
        """The services that are needed to handle the domain's messages."""
        return UpstreamName.NOMIS, UpstreamName.MAPPING, self.publisher


Apply = Callable[[DomainEvent, HandlerContext], str | None]
#: Reads the DPS record of an event. Raises `UpstreamError`.
ReadDps = Callable[[DomainEvent, HandlerContext], object]


def ignored_if_gone(apply: Apply, creation: Creation, read_dps: ReadDps, ignored: str) -> Apply:
    """Wraps `apply` so that an event about a record that no longer exists is ignored instead of failing.

    The event is ignored if `apply` fails with a 404, DPS does not have the record of the event, and the mapping service
    does not have the record's mapping. The properties `dps-error` and `mapping-error` then hold the two responses, and
    the telemetry event that `ignored` names is tracked.

    If only the record or only the mapping is missing, the event fails. A later attempt ignores the event if both are
    missing by then. The event also fails while the creation of the record is under way, since NOMIS may already have
    the record.
    """

    @functools.wraps(apply)
    def applied(event: DomainEvent, context: HandlerContext) -> str | None:
        try:
            return apply(event, context)
        except UpstreamError as error:
            dps_id = creation.dps_id(event)
            if not error.absent or context.creation_open(creation.name, dps_id):
                raise
            step = context.current_step
            dps_error = _absence(lambda: read_dps(event, context))
            mapping_error = _absence(lambda: creation.mappings.get(context.services.mapping, dps_id))
            if dps_error is None or mapping_error is None:
                context.step(step)
                raise
        context.bind(**{"dps-error": dps_error, "mapping-error": mapping_error})
        return ignored

    return applied


def _absence(read: Callable[[], object]) -> str | None:
    """The text of the 404 if the service does not have the record, or None if it does. Raises any other error."""
    try:
        read()
    except UpstreamError as error:
        if not error.absent:
            raise
        return str(error)
    return None
