"""What a domain declares for operators: how a NOMIS record is repaired, and how a DPS record is written again.

A `Repair` says which duplicate may be removed and how a creation of unknown outcome is resolved, an `Advice` what a
failed message needs. A `Resync` decides which events bring NOMIS in step with the current DPS record, and in which
order; their handlers alone say what they do.

Only the codes, ids and times of records are shown, never comments or names.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from sync.creation.creation import Creation
from sync.events.envelope import DomainEvent
from sync.failures import Failure, UpstreamError
from sync.store.creations import CreationRecord
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services

#: Where the NOMIS support team takes requests, for what no service can change.
SUPPORT_CHANNEL = "#dps-appsupport"
#: The fields of a NOMIS record that are compared and shown.
Record = Mapping[str, str | None]
#: The parts of an event: additional information, prisoner number, time.
EventParts = tuple[Mapping[str, Any], str | None, str | None]


class Repair(ABC):
    """What an operator can do about the NOMIS records of a domain: a `RemovingRepair` or an `AdvisingRepair`.

    noun: the word for a NOMIS record. given: what a person types to name one, such as `visit id`.
    owner: the field of a record that names its prisoner or booking. readable: whether NOMIS has an endpoint that reads
    it.
    removal: how a duplicate is removed, as the words before noun and id.
    harm: the consequence of a duplicate, as a sentence.
    dps_property: the telemetry property with the id of the DPS record.
    time_of: the telemetry properties that say when the record takes place: a date-time, or a date and a time.
    """

    noun: ClassVar[str]
    given: ClassVar[str]
    owner: ClassVar[str] = "bookingId"
    readable: ClassVar[bool] = True
    removal: ClassVar[str] = "delete"
    harm: ClassVar[str] = "NOMIS has it twice."
    dps_property: ClassVar[str] = ""
    time_of: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def read(self, services: Services, ids: MappingIds) -> Record | None:
        """The record in NOMIS, or None if it is not there, or NOMIS cannot read such records.

        Raises `UpstreamError`.
        """

    def is_gone(self, record: Record | None) -> bool:
        """Whether a record that was read no longer does harm."""
        return record is None

    def objections(self, ids: MappingIds, record: Record) -> Iterator[str]:
        """Sentences that say why this record must never be removed."""
        yield from ()

    @abstractmethod
    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The NOMIS ids, named as in the mapping, of the record that a person found. Raises `ValueError`."""

    @abstractmethod
    def search_text(self, request: Mapping[str, Any]) -> str:
        """What to look for in NOMIS, in one line."""

    def search_sql(self, request: Mapping[str, Any]) -> str | None:
        """The SQL that finds the record in the NOMIS database, if no endpoint does. Raises `ValueError`."""
        return None

    def owner_in(self, request: Mapping[str, Any]) -> str | None:
        """The value of `owner` that a record made from the request has."""
        return None

    def expected(self, request: Mapping[str, Any]) -> Record:
        """The fields of a record made from the request, named as `read` names them."""
        return {}

    def differences(self, dps_id: str, request: Mapping[str, Any], record: Record) -> Iterator[str]:
        """Sentences that say how a record that a person found differs from the request."""
        for name, expected in self.expected(request).items():
            if record.get(name) != expected:
                yield f"its {name} is {record.get(name) or 'none'}, not {expected or 'none'}"

    @abstractmethod
    def event_parts(self, record: CreationRecord) -> EventParts:
        """The parts of the event that began the creation."""


class RemovingRepair(Repair):
    """A repair that removes duplicates itself.

    proof: the fields besides `owner` in which a duplicate equals its original; False where both may lack the value.
    """

    proof: ClassVar[Mapping[str, bool]] = {}

    @abstractmethod
    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        """Removes a duplicate from NOMIS; `record` is the result of `read`. Raises `UpstreamError`."""

    def doubts(self, ids: MappingIds, record: Record) -> Iterator[str]:
        """Sentences that say why this record is not proved to be one of two equal ones."""
        yield from ()


class AdvisingRepair(Repair):
    """A repair of duplicates that only people can remove: it says what they can do."""

    @abstractmethod
    def advice(self, duplicate: Record | None, mapped: Record | None) -> str:
        """What to do about a duplicate."""

    def is_harmless(self, duplicate: Record | None, mapped: Record | None) -> bool:
        """Whether a duplicate may stay; the finding about any other is closed by hand."""
        return False

    def support_request(self, duplicate: MappingIds, mapped: MappingIds, offender_no: str | None) -> str | None:
        """The request to the NOMIS support team, if they alone can delete the duplicate; else None."""
        return None


@dataclass(frozen=True, slots=True)
class Advice:
    """One line of advice for the failed messages that it fits.

    fits: whether the advice applies to a failure of an event type. when: the same in words, for the runbook.
    heals: the message may succeed later, so it must not be purged.
    """

    fits: Callable[[str, Failure], bool]
    when: str
    text: str
    heals: bool = False


def refused(service: str, *statuses: int, path: str = "", words: str = "") -> Callable[[str, Failure], bool]:
    """A test for refusals by `service` with one of the statuses, whose path and reason contain the given words."""

    def fits(_: str, failure: Failure) -> bool:
        return (
            failure.service == service
            and failure.status in statuses
            and path in (failure.path or "")
            and words.lower() in failure.reason.lower()
        )

    return fits


def of_event(event_type: str, fits: Callable[[str, Failure], bool]) -> Callable[[str, Failure], bool]:
    """The test `fits`, limited to one event type."""
    return lambda event, failure: event == event_type and fits(event, failure)


def known_offender(record: CreationRecord) -> str | None:
    """The prisoner that a creation's telemetry names, or None if it names none."""
    offender_no = record.properties.get("offenderNo")
    return None if offender_no in (None, "unknown") else offender_no


def text_or_none(value: object) -> str | None:
    """A value as text; None stays None."""
    return None if value is None else str(value)


def iso_or_none(moment: date | datetime | None) -> str | None:
    """A date or time in ISO form; None stays None."""
    return None if moment is None else moment.isoformat()


Value = TypeVar("Value")


class Effect(StrEnum):
    """What a resync does in NOMIS."""

    CREATE = "create"
    UPDATE = "update"
    #: NOMIS decides which; no endpoint shows it beforehand.
    CREATE_OR_UPDATE = "create or update"
    CANCEL = "cancel"
    DELETE = "delete"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncPlan:
    """What brings NOMIS in step with a DPS record, by what both sides have now.

    effect: what happens in NOMIS. because: why, or what it means, as a sentence. events: the events that are handled,
    in this order. objection: why nothing may be written although the two differ. creation_id: the DPS id of the record
    whose mapping is needed; of an allocation, that of its schedule. ids: the mapping of that record, or None if it has
    none. mapping_is_stale: NOMIS has no such record, so that the mapping is deleted first. dps: the DPS record, or None
    if DPS does not have it. nomis: the NOMIS record, or None if there is none, or NOMIS cannot read it. expected: what
    NOMIS must show, by fields of `nomis`. unchecked: what nobody checked before a record is created, as a sentence, or
    None if nothing is left open. made_at: when DPS made the record (aware), where NOMIS can be asked for one that
    another program created. properties: the telemetry properties that name the record, for the event of the replaced
    service.
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
        """Sentences that say how the NOMIS record differs from the DPS record, or empty if NOMIS cannot read it."""
        if self.nomis is None:
            return ()
        return tuple(
            f"{name} {self.nomis.get(name) or 'none'} in NOMIS, {expected or 'none'} in DPS"
            for name, expected in self.expected.items()
            if self.nomis.get(name) != expected
        )


class Resync(ABC):
    """How a kind of DPS record is written to NOMIS again.

    kind: what an operator types, such as `visit`. creation: what makes the records that have the mapping. readable:
    whether NOMIS can read the record. agreement: what is known when NOMIS returns what was written. numeric: whether
    DPS ids are numbers. tracked: the telemetry event that the replaced service tracked for it, or None if it had none.
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
        """The mapping of a DPS record, or None if there is none."""
        mappings = self.creation.mappings
        mapping = mappings.find(services.mapping, dps_id)
        return None if mapping is None else mappings.ids(mapping)


def read_if_there(read: Callable[[], Value]) -> Value | None:
    """The result of `read`, or None if the service itself says that it does not have the record."""
    try:
        return read()
    except UpstreamError as error:
        if not error.absent:
            raise
        return None
