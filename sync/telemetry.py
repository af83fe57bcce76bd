"""Custom events: tracked by name with text properties, kept in the database, written to the log."""

from collections.abc import Mapping
from typing import Protocol


class Telemetry(Protocol):
    """Where events are tracked. Events may be gathered; `flush` returns when all tracked so far are in the database."""

    def track(self, name: str, properties: Mapping[str, object]) -> None:
        """Tracks one event at the present moment."""
        ...

    def flush(self) -> None:
        """Writes what was gathered. Raises `StoreUnavailable` when the database is away; nothing is lost then."""
        ...


def as_text(value: object) -> str:
    """A property value as the replaced service wrote it: `true` and `false`, everything else as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def text_properties(properties: Mapping[str, object]) -> dict[str, str]:
    """The properties as text; one whose value is unknown (None) is left out."""
    return {name: as_text(value) for name, value in properties.items() if value is not None}
