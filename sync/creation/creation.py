"""The class by which a domain declares how its records are created in NOMIS.

The protocol (`sync/creation/protocol.py`) decides when each method is called. A subclass defines what is special about
its domain. Requests, NOMIS ids and mappings are plain JSON objects, since they are kept in the database and another
process may continue with them. NOMIS ids have the same names as in the mapping.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from sync.alerting import Severity
from sync.clock import LONDON
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent, MappingRetry
from sync.store.telemetry import Properties, text_properties
from sync.upstream.mappings import Mappings
from sync.upstream.services import Services

Json = Mapping[str, Any]
#: How much earlier than the intent the creation time in NOMIS may be. The clock of NOMIS may be a few minutes slow, and
#: on the night when the clocks go back, its local time is an hour behind.
_CLOCK_MARGIN = timedelta(minutes=65)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A create request that is ready to be sent.

    request: the body for NOMIS and other values, such as ids. Another process needs nothing else to call `create` and
    `locate`. leases: the keys of further leases to hold during the create, such as the lease of the booking.
    """

    request: Json
    leases: tuple[str, ...] = ()


class Creation(ABC):
    """Declares how the events of one type create records in NOMIS.

    name: the noun in telemetry names and in the database, such as `visit`. queue: the queue id.
    event_id: the field of the event's additional information that has the DPS id.
    mappings: how the mapping service maps these records. numeric_ids: whether DPS ids are numbers.
    retry_success: the telemetry event for a successful mapping retry. severity: how serious a mapping conflict is.
    may_be_ignored: whether some events are ignored, and tracked as `<name>-create-ignored`.

    Methods that read a message raise `MalformedMessage`; those that call services raise `UpstreamError`.
    """

    event_type: ClassVar[str]
    name: ClassVar[str]
    queue: ClassVar[str]
    event_id: ClassVar[str]
    mappings: ClassVar[Mappings]
    retry_success: ClassVar[str]
    numeric_ids: ClassVar[bool] = False
    severity: ClassVar[Severity] = Severity.MEDIUM
    may_be_ignored: ClassVar[bool] = False

    def dps_id(self, event: DomainEvent) -> str:
        """The id of the DPS record."""
        return str(event.number(self.event_id)) if self.numeric_ids else event.text(self.event_id)

    def entity(self, event: DomainEvent) -> str:
        """The entity of the event. The messages of one entity are handled one at a time, in order."""
        return f"{self.name}:{self.dps_id(event)}"

    @abstractmethod
    def start(self, event: DomainEvent) -> Properties:
        """The telemetry properties that come from the event itself."""

    def is_ignored(self, event: DomainEvent) -> bool:  # noqa: ARG002 - for subclasses
        """Whether the event does not require a record in NOMIS. Decides this without calling a service."""
        return False

    @abstractmethod
    def prepare(self, event: DomainEvent, context: HandlerContext) -> Prepared:
        """Reads the DPS record and makes the request from it. Raises `RuleError` if the record breaks a rule."""

    @abstractmethod
    def create(self, request: Json, services: Services) -> Json:
        """Sends the request to NOMIS and returns the NOMIS ids."""

    @abstractmethod
    def locate(self, request: Json, since: datetime, services: Services) -> Sequence[Json] | None:
        """The NOMIS ids of each record that the request may have created, for use after an unknown outcome.

        `since` is the time when the intent was recorded. Returns None if no endpoint can show such records. The result
        may include the ids of records that belong to a different DPS record, since the protocol ignores those.
        """

    def subject(self, request: Json) -> str | None:  # noqa: ARG002 - for subclasses
        """The prisoner or booking whose records may look alike to `locate`; None if no records can look alike."""
        return None

    @abstractmethod
    def mapping(self, dps_id: str, nomis_ids: Json) -> Json:
        """The mapping of a DPS record, in the form that a mapping has in a retry message, including null fields."""

    def is_mapped_to_another(self, nomis_ids: Json, dps_id: str, services: Services) -> bool:
        """Whether the NOMIS record is mapped to a DPS record other than `dps_id`."""
        ids = [nomis_ids[name] for name in self.mappings.nomis]
        mapping = self.mappings.find_by_nomis_ids(services.mapping, *ids)
        return mapping is not None and self.mappings.ids(mapping).dps_id != dps_id

    def ids_in(self, mapping: Json) -> dict[str, str]:
        """The ids of both records in a mapping, as text. An id that is missing or null is left out."""
        return text_properties({name: mapping.get(name) for name in (self.mappings.dps, *self.mappings.nomis)})

    def same_records(self, one: Json, other: Json) -> bool:
        """Whether two mappings have the same ids, even if other fields differ."""
        return self.ids_in(one) == self.ids_in(other)

    def find_conflicting(self, mapping: Json, services: Services) -> Json | None:  # noqa: ARG002 - for subclasses
        """The existing mapping that conflicts with `mapping`, or None.

        Called only if the mapping service refuses `mapping` with 400.
        """
        return None

    def retry_dps_id(self, retry: MappingRetry) -> str:
        """The id of the DPS record in a mapping retry."""
        return str(retry.number(self.mappings.dps)) if self.numeric_ids else retry.text(self.mappings.dps)

    def retry_nomis_ids(self, retry: MappingRetry) -> Json:
        """The NOMIS ids in a mapping retry."""
        return {name: retry.number(name) for name in self.mappings.nomis}

    def retry_mapping(self, retry: MappingRetry) -> Json:
        """The mapping in a mapping retry."""
        return self.mapping(self.retry_dps_id(retry), self.retry_nomis_ids(retry))

    def retry_properties(self, retry: MappingRetry) -> Properties:
        """The telemetry properties of a mapping retry."""
        return {self.mappings.dps: self.retry_dps_id(retry)}


def creation_lease(name: str, dps_id: str) -> str:
    """The key of the lease for creating a DPS record in NOMIS; `name` is the name of the `Creation`.

    The same lease is held while the record is deleted, so that creation and deletion never overlap.
    """
    return f"create:{name}:{dps_id}"


def earliest_creation(since: datetime) -> datetime:
    """The earliest creation time that NOMIS can show for a record whose intent was recorded at `since`.

    It is in London time, without a zone.
    """
    return (since - _CLOCK_MARGIN).astimezone(LONDON).replace(tzinfo=None)
