"""The classes by which a domain declares how to repair NOMIS records, and how to write DPS records to NOMIS again.

A `Repair` decides which duplicates may be removed, and how a creation with an unknown outcome is resolved. An `Advice`
says what to do about a failed message. A `Resync` decides which events bring NOMIS into step with the current DPS
record, and in which order. The handlers of these events make the changes.

Only the codes, ids and times of records are shown, never comments or names.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from sync.creation.creation import Creation
from sync.errors import Failure, UpstreamError
from sync.events.envelope import DomainEvent
from sync.store.creations import CreationRecord
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services

#: The Slack channel of the NOMIS support team, for changes that no service can make.
SUPPORT_CHANNEL = "#dps-appsupport"
#: The fields of a NOMIS or DPS record that are compared and shown.
Record = Mapping[str, str | None]
#: The parts of an event: additional information, prisoner number and time.
EventParts = tuple[Mapping[str, Any], str | None, str | None]


class Repair(ABC):
    """What an operator can do about the NOMIS records of a domain; see `RemovingRepair` and `AdvisingRepair`.

    noun: the word for a NOMIS record. given: the word for the id that a person types, such as `visit id`.
    owner: the field of a record that names its prisoner or booking.
    readable: whether NOMIS has an endpoint that reads such a record.
    removal: a phrase for the removal of a duplicate, with `{record}` for the noun and the id.
    harm: the consequence of a duplicate, as a sentence.
    dps_property: the telemetry property with the id of the DPS record.
    time_of: the telemetry properties with the time of the visit, appointment or review, either as a date-time or as
        a date and a time.
    """

    noun: ClassVar[str]
    given: ClassVar[str]
    owner: ClassVar[str] = "bookingId"
    readable: ClassVar[bool] = True
    removal: ClassVar[str] = "delete {record}"
    harm: ClassVar[str] = "NOMIS has the record twice."
    dps_property: ClassVar[str] = ""
    time_of: ClassVar[tuple[str, ...]] = ()

    def removal_of(self, record: str) -> str:
        """The phrase for the removal of `record` (a noun with an id), such as `delete appointment 7`."""
        return self.removal.format(record=record)

    @abstractmethod
    def read(self, services: Services, ids: MappingIds) -> Record | None:
        """The record in NOMIS, or None if it does not exist or NOMIS cannot read such records.

        Raises `UpstreamError`.
        """

    def is_gone(self, record: Record | None) -> bool:
        """Whether a duplicate no longer does harm; `record` is the result of `read`."""
        return record is None

    def objections(self, ids: MappingIds, record: Record) -> Iterator[str]:
        """Sentences that say why `record` must never be removed."""
        yield from ()

    @abstractmethod
    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The NOMIS ids of the record that a person found, each under its name in the mapping.

        number: the id that the person typed. request: the request of the creation.
        """

    @abstractmethod
    def search_text(self, request: Mapping[str, Any]) -> str:
        """A line that says what a person should search for in NOMIS."""

    def search_sql(self, request: Mapping[str, Any]) -> str | None:
        """The SQL that finds the record in the NOMIS database, or None if it is not needed.

        Raises `ValueError` if a value in the request is not allowed in SQL.
        """
        return None

    def owner_in(self, request: Mapping[str, Any]) -> str | None:
        """The value that a record created from the request has in the field that `owner` names."""
        return None

    def expected(self, request: Mapping[str, Any]) -> Record:
        """The fields expected in a record that was created from the request, under the names that `read` uses."""
        return {}

    def differences(self, dps_id: str, request: Mapping[str, Any], record: Record) -> Iterator[str]:
        """Sentences that say how a record that a person found differs from the request."""
        for name, expected in self.expected(request).items():
            if record.get(name) != expected:
                yield f"its {name} is {record.get(name) or 'none'}, not {expected or 'none'}"

    @abstractmethod
    def event_parts(self, record: CreationRecord) -> EventParts:
        """The parts of an event that starts the creation again."""


class RemovingRepair(Repair):
    """A repair in which the program itself removes duplicates.

    proof: the fields, in addition to `owner`, in which a duplicate must equal its original. A field maps to True if
    both records must have a value in it.
    """

    proof: ClassVar[Mapping[str, bool]] = {}

    @abstractmethod
    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        """Removes a duplicate from NOMIS. `record` is the result of `read`. Raises `UpstreamError`."""

    def doubts(self, ids: MappingIds, record: Record) -> Iterator[str]:
        """Sentences that say why it is not proved that `record` is a duplicate."""
        yield from ()


class AdvisingRepair(Repair):
    """A repair for duplicates that only people can remove. It says what they can do."""

    @abstractmethod
    def advice(self, duplicate: Record | None, mapped: Record | None) -> str:
        """What to do about a duplicate."""

    def is_harmless(self, duplicate: Record | None, mapped: Record | None) -> bool:
        """Whether a duplicate may stay. If not, a person closes the finding about it by hand."""
        return False

    def support_request(self, duplicate: MappingIds, mapped: MappingIds, offender_no: str | None) -> str | None:
        """The request to the NOMIS support team if only they can delete the duplicate, otherwise None."""
        return None


@dataclass(frozen=True, slots=True)
class Advice:
    """One line of advice for a kind of failed message.

    fits: whether the advice applies to an event type and a failure. when: the same condition in words, for the runbook.
    may_succeed_later: whether the message may succeed later. If so, it must not be purged.
    """

    fits: Callable[[str, Failure], bool]
    when: str
    text: str
    may_succeed_later: bool = False


def refused(service: str, *statuses: int, path: str = "", words: str = "") -> Callable[[str, Failure], bool]:
    """A test for refusals by `service` with one of `statuses`, `path` in the path and `words` in the reason.

    The case of `words` does not matter.
    """

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
    """The prisoner number in the telemetry properties of a creation, or None if it is not known."""
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
    #: NOMIS decides whether to create or update, which no endpoint shows beforehand.
    CREATE_OR_UPDATE = "create or update"
    CANCEL = "cancel"
    DELETE = "delete"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncPlan:
    """How to bring NOMIS into step with a DPS record, according to the current records on both sides.

    effect: what the resync does in NOMIS. because: a clause that gives the reason for the effect, and may say what the
    effect means. events: the events to handle, in this order. objection: a sentence that says why nothing may be
    written, or None. creation_id: the DPS id of the record that needs a mapping; for an allocation, the id of its
    schedule. ids: the ids in the mapping of that record, or None if it is not mapped. mapping_is_stale: whether NOMIS
    lacks the mapped record. If so, the mapping must be deleted first. dps: the DPS record, or None if DPS does not have
    it. nomis: the NOMIS record, or None if it does not exist or NOMIS cannot read it. expected: the values that fields
    of `nomis` must have. unchecked: a sentence that says what the program could not check before a creation, or None.
    made_at: when DPS created the record (an aware time), or None if this is unknown or NOMIS cannot be searched for a
    record that another program created. properties: the telemetry properties that identify the record, for the
    telemetry event that the replaced service tracked.
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
        """Phrases that say how the NOMIS record differs from the DPS record; empty if `nomis` is None."""
        if self.nomis is None:
            return ()
        return tuple(
            f"{name} {self.nomis.get(name) or 'none'} in NOMIS, {expected or 'none'} in DPS"
            for name, expected in self.expected.items()
            if self.nomis.get(name) != expected
        )


class Resync(ABC):
    """Writes one kind of DPS record to NOMIS again.

    kind: the word that an operator types, such as `visit`. creation: the `Creation` of the records that have the
    mapping. readable: whether NOMIS can read a single record. agreement: a phrase for the result if NOMIS shows the
    expected values. numeric: whether DPS ids are numbers. tracked: the telemetry event that the replaced service
    tracked for a resync, or None if there was no such event.
    """

    kind: ClassVar[str]
    creation: ClassVar[Creation]
    readable: ClassVar[bool] = True
    agreement: ClassVar[str] = "NOMIS agrees with DPS"
    numeric: ClassVar[bool] = True
    tracked: ClassVar[str | None] = None

    @abstractmethod
    def plan(self, dps_id: str, services: Services) -> ResyncPlan:
        """Reads the DPS record, its mapping and the NOMIS record, and decides what to do. Raises `SyncError`."""

    def find_ids(self, dps_id: str | int, services: Services) -> MappingIds | None:
        """The ids in the mapping of a DPS record, or None if there is no mapping. Raises `UpstreamError`."""
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
