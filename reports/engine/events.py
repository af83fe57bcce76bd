"""The telemetry events of a run, which a reconciliation names and the engine sends."""

# ruff: noqa: ARG002 - what a method without effect is given is for those that override it

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.engine.result import Excluded, Mismatch, ReconciliationResult, Unread
    from reports.engine.units import Gap, Population, Unit


class Event(NamedTuple):
    """A telemetry event: its name and its properties, which are written as text."""

    name: str
    properties: Mapping[str, object]


class Events(ABC):
    """The telemetry events of a run, with the names and properties of the replaced service where it has them.

    The engine decides how many events of mismatches are sent. None stands for no event.
    """

    #: The event of the summary, by which the report is known in alerts.
    report: ClassVar[str]
    #: Says how many more mismatches there are than have an event each (`mismatch-count`, `not-listed`), or instead of
    #: them why there are more than is plausible (`reason`).
    more: ClassVar[str]
    #: Whether the engine limits the events of mismatches; false: each has one, however many there are.
    limited: ClassVar[bool] = True

    def requested(self, population: Population) -> Event | None:
        """A run over everyone has listed what it will read."""
        return None

    @abstractmethod
    def mismatch(self, mismatch: Mismatch) -> Event | None:
        """A confirmed difference."""

    def unread(self, unread: Unread) -> Event | None:
        """A record or a unit could not be read."""
        return None

    def gap(self, gap: Gap) -> Event | None:
        """A part of the population could not be listed."""
        return None

    def excluded(self, excluded: Excluded) -> Event | None:
        """A record on the list of exclusions was read, or not."""
        return None

    @abstractmethod
    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """The run has ended, also if it failed; `units` are all units of its population."""

    def crashed(self) -> Event | None:
        """The run broke off without a result."""
        return None
