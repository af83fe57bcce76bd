"""The records of the new services that the published events were about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class EventType:
    """A type of event: the kind of record, and what happened to it (`created`, `changed`, `cancelled`, `deleted`).

    `key` names the fields of the event's additional information that identify the record. If `key` is empty, there is a
    single record of the kind, with the id `all`. An id from a single field is a number unless `is_text` is set.
    """

    name: str
    kind: str
    key: tuple[str, ...]
    what: str
    is_text: bool = False

    def dps_id(self, information: Mapping[str, Any]) -> int | str | None:
        """The id of the record, or None if a field of the key is missing."""
        values = [information.get(name) for name in self.key]
        if None in values:
            return None
        text = ":".join(map(str, values)) or "all"
        return text if self.is_text or len(self.key) != 1 else int(text)


@dataclass(slots=True)
class Entity:
    """One record of a new service, and what events said about it (`created`, `changed`, `cancelled`, `deleted`).

    `refused` marks a record that NOMIS refuses, and so must not hold. `first_date` is the date of the first event
    about the record's creation, as the event gives it.
    """

    domain: str
    dps_id: int | str
    events: set[str] = field(default_factory=set)
    refused: bool = False
    first_date: str | None = None

    @property
    def exists(self) -> bool:
        """Whether NOMIS must hold the record.

        This is so if the record's creation was published, but not its deletion, and the record is not `refused`.
        """
        return "created" in self.events and "deleted" not in self.events and not self.refused


class Published:
    """The entities of all domains by domain and id."""

    def __init__(self, event_types: Mapping[str, EventType]) -> None:
        """Starts with nothing published; `event_types` has the types by name."""
        self._event_types = event_types
        self._entities: dict[tuple[str, int | str], Entity] = {}

    def __len__(self) -> int:
        """The number of entities that events were about."""
        return len(self._entities)

    def of(self, domain: str) -> Iterator[Entity]:
        """The entities of one domain, in the order of their first events."""
        return iter([each for (name, _), each in self._entities.items() if name == domain])

    def record(self, domain: str, dps_id: int | str, what: str) -> Entity:
        """Records that an event said `what` about an entity."""
        entity = self._entities.setdefault((domain, dps_id), Entity(domain, dps_id))
        entity.events.add(what)
        return entity

    def note(self, event: dict[str, Any]) -> Entity | None:
        """Records a decoded event and returns the entity that it is about; returns None for an event to be ignored."""
        information = event.get("additionalInformation") or {}
        if information.get("source") == "NOMIS" or information.get("reason") == "USER_CREATED_NOMIS":
            return None
        event_type = self._event_types.get(str(event.get("eventType")))
        dps_id = None if event_type is None else event_type.dps_id(information)
        if event_type is None or dps_id is None:
            return None
        entity = self.record(event_type.kind, dps_id, event_type.what)
        if event_type.what == "created" and entity.first_date is None:
            entity.first_date = str(event.get("occurredAt"))[:10]
        return entity
