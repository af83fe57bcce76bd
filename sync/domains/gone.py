"""Changes of a record that is gone on both sides are ignored: nothing is left to change, now or later."""

from collections.abc import Callable

from sync.creation.creation import Creation
from sync.failures import UpstreamError
from sync.pipeline.context import HandlerContext
from sync.pipeline.envelope import DomainEvent

Apply = Callable[[DomainEvent, HandlerContext], str | None]
#: Reads the DPS record of an event. Raises `UpstreamError`.
ReadDps = Callable[[DomainEvent, HandlerContext], object]


def ignored_if_gone(apply: Apply, creation: Creation, read_dps: ReadDps, ignored: str) -> Apply:
    """`apply`, but if it fails because a record is absent, and DPS and the mapping service both lack it, ignored.

    If only one of them lacks it, it fails: the other may follow. So it does while a creation of the record is open, as
    NOMIS may have it then. The properties `dps-error` and `mapping-error` say what the two responded; the event
    `ignored` is tracked.
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
    """What the service that lacks the record responded; None if it has it. Raises any other error."""
    try:
        read()
    except UpstreamError as error:
        if not error.absent:
            raise
        return str(error)
    return None
