"""What a domain declares: its events, what each does, and what else follows from it.

Each domain is one package with one `DOMAIN`. The pipeline, the creation protocol and the operators' commands call what
it names; in `sync`, nothing outside its package and the registry knows a domain by its name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from sync.creation.creation import Creation
from sync.domains.duplicate_rows import RowKind
from sync.domains.repair import Advice, Repair, Resync
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent
from sync.failures import Failure, UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import Properties
from sync.upstream.mappings import Mappings


class Coalesce(Enum):
    """Whether several events of one entity in a batch may become one task."""

    NEVER = "never"
    #: The handler fetches the current state, so one run serves all equal events that are pending.
    LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An event that changes, cancels, deletes or upserts: idempotent, and safe to repeat.

    `apply` raises on failure. Success tracks `success`, failure tracks `failed` (if there is one), both with the
    properties that `apply` bound. `apply` may return another event name to track instead of `success`, such as that of
    an ignored event; `others` lists these. `rows`: the rows that NOMIS may hold twice, after which it refuses every
    change to them.
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
    """Everything about one domain; queues, clients, switches, texts and documents follow from it.

    name: that of its package. noun: what people call a record.
    publisher: the DPS service whose events these are.
    creation, updates: its events. repair: what operators can do. resyncs: the kinds of DPS records that operators can
    write again.
    advice: for its failed messages. is_awaited: whether a failure says that something is missing which another event of
    the domain will bring, so that the message waits for that event.
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
    #: What handles each event type.
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
        """The word for its records in telemetry and in the database, such as `sentencing-adjustment`."""
        return self.creation.name

    @property
    def mappings(self) -> Mappings:
        """The mappings of its records."""
        return self.creation.mappings

    @property
    def upstreams(self) -> tuple[UpstreamName, ...]:
        """The services without which none of its messages can be handled."""
        return UpstreamName.NOMIS, UpstreamName.MAPPING, self.publisher


Apply = Callable[[DomainEvent, HandlerContext], str | None]
#: Reads the DPS record of an event. Raises `UpstreamError`.
ReadDps = Callable[[DomainEvent, HandlerContext], object]


def ignored_if_gone(apply: Apply, creation: Creation, read_dps: ReadDps, ignored: str) -> Apply:
    """Wraps `apply` so that an event about a record that is gone is ignored instead of failing.

    The record is gone if `apply` fails because a record is absent, and neither DPS nor the mapping service has it. If
    only one of them lacks it, the event fails, since the other may follow. It also fails while a creation of the record
    is open, since NOMIS may have it then. The properties `dps-error` and `mapping-error` hold the two responses; the
    event `ignored` is tracked.
    """

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
    """What the service that lacks the record responded, or None if it has it. Raises any other error."""
    try:
        read()
    except UpstreamError as error:
        if not error.absent:
            raise
        return str(error)
    return None
