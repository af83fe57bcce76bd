"""What a domain declares for operators: which duplicate may go, how to resolve a creation, what a failure needs.

Of a NOMIS record only codes, ids and times are shown, never comments or names.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar

from sync.failures import Failure
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

    noun: what a person calls a NOMIS record. given: what a person types for one, such as `visit id`.
    owner: the field of a record that says whose it is.
    readable: whether NOMIS has a read of the record.
    removal: what is done about a duplicate, to be put before noun and id.
    harm: what a duplicate costs, as a sentence. dps_property: the telemetry property with the id of the DPS record.
    time_of: the telemetry properties that say when the record takes place: a date-time, or a date and a time.
    """

    noun: ClassVar[str]
    given: ClassVar[str]
    owner: ClassVar[str] = "bookingId"
    readable: ClassVar[bool] = True
    removal: ClassVar[str] = "delete"
    harm: ClassVar[str] = "It is there twice in NOMIS."
    dps_property: ClassVar[str] = ""
    time_of: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def read(self, services: Services, ids: MappingIds) -> Record | None:
        """The record as NOMIS has it; None if there is no such record, or no read of it."""

    def is_gone(self, record: Record | None) -> bool:
        """Whether a record that was read does no harm any more."""
        return record is None

    def objections(self, ids: MappingIds, record: Record) -> Iterator[str]:
        """Why this record must never be removed, as sentences."""
        yield from ()

    @abstractmethod
    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The NOMIS ids, named as in the mapping, of the record that a person found. Raises `ValueError`."""

    @abstractmethod
    def search_text(self, request: Mapping[str, Any]) -> str:
        """What to look for in NOMIS, in one line."""

    def search_sql(self, request: Mapping[str, Any]) -> str | None:
        """The SQL that shows the record in the NOMIS database, where no service does. Raises `ValueError`."""
        return None

    def owner_in(self, request: Mapping[str, Any]) -> str | None:
        """Whose the record must be, by the request: the value of `owner`."""
        return None

    def expected(self, request: Mapping[str, Any]) -> Record:
        """What a record made from the request says, by the fields that `read` returns."""
        return {}

    def differences(self, dps_id: str, request: Mapping[str, Any], record: Record) -> Iterator[str]:
        """In what a record that a person found differs from the request, as sentences."""
        for name, expected in self.expected(request).items():
            if record.get(name) != expected:
                yield f"its {name} is {record.get(name) or 'none'}, not {expected or 'none'}"

    @abstractmethod
    def event_parts(self, record: CreationRecord) -> EventParts:
        """The parts of the event that made the creation."""


class RemovingRepair(Repair):
    """This program can remove a duplicate.

    proof: the fields besides `owner` in which the double of a record equals it; False if one may be missing in both.
    """

    proof: ClassVar[Mapping[str, bool]] = {}

    @abstractmethod
    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        """Removes a duplicate from NOMIS; `record` is what `read` returned."""

    def doubts(self, ids: MappingIds, record: Record) -> Iterator[str]:
        """What about this record keeps it from being proved one of two doubles, as sentences."""
        yield from ()


class AdvisingRepair(Repair):
    """Nothing here can remove a duplicate: a person learns what to do about it."""

    @abstractmethod
    def advice(self, duplicate: Record | None, mapped: Record | None) -> str:
        """What to do about a duplicate."""

    def is_harmless(self, duplicate: Record | None, mapped: Record | None) -> bool:
        """Whether a duplicate may stay; a finding about any other is closed by hand."""
        return False

    def support_request(self, duplicate: MappingIds, mapped: MappingIds, offender_no: str | None) -> str | None:
        """What to write to the support team of NOMIS, if they alone can delete the duplicate."""
        return None


@dataclass(frozen=True, slots=True)
class Advice:
    """One line of advice for the failed messages that it fits.

    fits: whether a failure of an event type is such a one. when: the same in words, for the runbook.
    heals: the message may succeed later, so it must not be purged.
    """

    fits: Callable[[str, Failure], bool]
    when: str
    text: str
    heals: bool = False


def refused(service: str, *statuses: int, path: str = "", words: str = "") -> Callable[[str, Failure], bool]:
    """Fits a refusal by `service` with one of the statuses, whose path and reason contain the words."""

    def fits(_: str, failure: Failure) -> bool:
        return (
            failure.service == service
            and failure.status in statuses
            and path in (failure.path or "")
            and words.lower() in failure.reason.lower()
        )

    return fits


def of_event(event_type: str, fits: Callable[[str, Failure], bool]) -> Callable[[str, Failure], bool]:
    """Fits what `fits` does, for one event type."""
    return lambda event, failure: event == event_type and fits(event, failure)


def known_offender(record: CreationRecord) -> str | None:
    """The prisoner that a creation's telemetry names, None if it names none."""
    offender_no = record.properties.get("offenderNo")
    return None if offender_no in (None, "unknown") else offender_no


def as_text(value: object) -> str | None:
    """A value as text, None stays None."""
    return None if value is None else str(value)


def as_iso(moment: date | datetime | None) -> str | None:
    """A date or time in ISO form, None stays None."""
    return None if moment is None else moment.isoformat()
