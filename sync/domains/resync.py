"""What a domain declares so that one DPS record can be written to NOMIS again, as its events would write it.

A resync decides which events bring NOMIS in step with the present DPS record, and in which order. What they do is said
by their handlers alone. Of both records only codes, ids and times are shown, never comments or names.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, TypeVar

from sync.creation.creation import Creation
from sync.domains.repair import Record
from sync.events.envelope import DomainEvent
from sync.failures import UpstreamError
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services

Value = TypeVar("Value")


class Effect(StrEnum):
    """What a resync does in NOMIS."""

    CREATE = "create"
    UPDATE = "update"
    #: NOMIS does what is needed, and has no read that tells beforehand.
    CREATE_OR_UPDATE = "create or update"
    CANCEL = "cancel"
    DELETE = "delete"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncPlan:
    """What brings NOMIS in step with a DPS record, by what both sides have now.

    effect: what happens in NOMIS. because: why, or what it means, as a sentence.
    events: the events that are handled, in this order. objection: why nothing must be written although the two differ.
    creation_id: the DPS id of the record whose mapping is needed; of an allocation, that of its schedule.
    ids: the mapping of that record, None without one. mapping_is_stale: NOMIS has no such record, so that the mapping
        is deleted first.
    dps: the DPS record, None if DPS does not have it. nomis: the NOMIS record, None if there is none or no read of it.
    expected: what NOMIS must show, by fields of `nomis`.
    unchecked: what nobody checked before a record is created, as a sentence; None where nothing is left open.
    made_at: when DPS made the record (aware), where NOMIS can be asked for one that another program created.
    properties: the telemetry properties that name the record, for the event of the replaced service.
    """

    effect: Effect
    because: str
    events: tuple[DomainEvent, ...] = ()
    objection: str | None = None
    creation_id: str
    ids: MappingIds | None
    mapping_is_stale: bool = False
    dps: Record | None
    nomis: Record | None = None
    expected: Record = field(default_factory=dict)
    unchecked: str | None = None
    made_at: datetime | None = None
    properties: Mapping[str, object] = field(default_factory=dict)

    @property
    def differences(self) -> tuple[str, ...]:
        """How the NOMIS record differs from the DPS record, as far as NOMIS can be read; without one, nothing."""
        if self.nomis is None:
            return ()
        return tuple(
            f"{name} {self.nomis.get(name) or 'none'} in NOMIS, {expected or 'none'} in DPS"
            for name, expected in self.expected.items()
            if self.nomis.get(name) != expected
        )


class Resync(ABC):
    """How a kind of DPS record is written to NOMIS again.

    kind: what an operator types, such as `visit`. creation: what makes the records that have the mapping.
    readable: whether NOMIS has a read of the record. agreement: what is known when that read shows what was written.
    numeric: whether DPS ids are numbers.
    tracked: the telemetry event that the replaced service tracked for it, None where it had none.
    """

    kind: ClassVar[str]
    creation: ClassVar[Creation]
    readable: ClassVar[bool] = True
    agreement: ClassVar[str] = "as it should be"
    numeric: ClassVar[bool] = True
    tracked: ClassVar[str | None] = None

    @abstractmethod
    def plan(self, dps_id: str, services: Services) -> ResyncPlan:
        """Reads the DPS record, its mapping and the NOMIS record, and decides. Raises `SyncError`."""

    def find_ids(self, dps_id: str | int, services: Services) -> MappingIds | None:
        """The mapping of a DPS record, None without one."""
        mappings = self.creation.mappings
        mapping = mappings.find(services.mapping, dps_id)
        return None if mapping is None else mappings.ids(mapping)


def read_if_there(read: Callable[[], Value]) -> Value | None:
    """The record that `read` returns; None if the service itself says that it does not have it."""
    try:
        return read()
    except UpstreamError as error:
        if not error.absent:
            raise
        return None
