"""Changes of a record that is gone on both sides: they are ignored, for nothing is left to change, now or later."""

from collections.abc import Callable
from dataclasses import dataclass

from sync.failures import UpstreamError
from sync.pipeline.context import HandlerContext
from sync.pipeline.envelope import DomainEvent
from sync.upstream.services import Services

Apply = Callable[[DomainEvent, HandlerContext], str | None]


@dataclass(frozen=True, slots=True)
class Gone:
    """How to see that a record is gone, and the telemetry event that says so.

    creation: the name of its `Creation`. dps_id: its id in DPS. record, mapping: read it, and raise for an absent one.
    """

    creation: str
    dps_id: Callable[[DomainEvent], str]
    record: Callable[[Services, str], object]
    mapping: Callable[[Services, str], object]
    ignored: str

    def unless_gone(self, apply: Apply) -> Apply:
        """`apply`; where it fails since DPS or the mapping service lacks the record, ignored if both do.

        With one of them missing alone it fails: the other may follow. So it does while a creation of the record is
        open, for then NOMIS may have it. The properties `dps-error` and `mapping-error` say what the two answered.
        """

        def applied(event: DomainEvent, context: HandlerContext) -> str | None:
            try:
                return apply(event, context)
            except UpstreamError as error:
                dps_id = self.dps_id(event)
                if not error.absent or context.creation_open(self.creation, dps_id):
                    raise
                step = context.current_step
                context.step("see whether it is gone on both sides")
                dps_error, mapping_error = (_absence(read, context, dps_id) for read in (self.record, self.mapping))
                if dps_error is None or mapping_error is None:
                    context.step(step)
                    raise
            context.bind(**{"dps-error": dps_error, "mapping-error": mapping_error})
            return self.ignored

        return applied


def _absence(read: Callable[[Services, str], object], context: HandlerContext, dps_id: str) -> str | None:
    """What the service answers that lacks the record; None where it has it. Raises what else it answers."""
    try:
        read(context.services, dps_id)
    except UpstreamError as error:
        if not error.absent:
            raise
        return str(error)
    return None
