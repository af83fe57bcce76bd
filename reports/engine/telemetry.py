"""The telemetry events of a run. The reconciliation defines them, and the engine decides which are sent."""

# ruff: noqa: ARG002 - default methods ignore arguments that the overriding methods use

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from reports.engine.result import Excluded, Mismatch, ReconciliationResult, Unread
    from reports.engine.units import Population, Unit, UnlistedPart

    #: Tracks one event by its name and properties.
    Track = Callable[[str, Mapping[str, object]], None]


class Event(NamedTuple):
    """A telemetry event: its name, and the values of its properties by name. Values are stored as text."""

    name: str
    properties: Mapping[str, object]


class Events(ABC):
    """The telemetry events of a run.

    Events that the replaced service also sent keep the names and properties that they had there. If a method returns
    None, no event is sent. The engine decides how many mismatch events are sent.
    """

    #: The prefix of the names of the events.
    prefix: str
    #: The name of the event with the summary, on which alerts are based.
    report: str
    #: The name of the event for the mismatches without a separate event. It says how many mismatches there are
    #: (`mismatch-count`), how many of them have no event (`not-listed`), and why the number of mismatches is
    #: implausible (`reason`).
    more: str
    #: Whether the number of mismatch events is limited; if not, each mismatch has an event.
    limited: ClassVar[bool] = True

    def event(self, what: str, properties: Mapping[str, object] | None = None) -> Event:
        """The event `<prefix>-<what>`."""
        return Event(f"{self.prefix}-{what}", properties or {})

    def requested(self, population: Population) -> Event | None:
        """The event for a run for everyone that has listed its population."""
        return None

    @abstractmethod
    def mismatch(self, mismatch: Mismatch) -> Event | None:
        """The event for a confirmed difference."""

    def unread(self, unread: Unread) -> Event | None:
        """The event for a record, or a whole unit, that could not be read."""
        return None

    def gap(self, gap: UnlistedPart) -> Event | None:
        """The event for a part of the population that could not be listed."""
        return None

    def excluded(self, excluded: Excluded) -> Event | None:
        """The event for a record on the list of exclusions, whether or not it could be read."""
        return None

    @abstractmethod
    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """The events for a run that has ended, complete or not; `units` are all the units of its population."""

    def crashed(self) -> Event | None:
        """The event for a run that ended without a result because of an unexpected error.

        By default, this is the event `report`, with `success` false.
        """
        return Event(self.report, {"success": False})


def track_event(track: Track, event: Event | None) -> None:
    """Tracks `event`, unless it is None."""
    if event is not None:
        track(event.name, event.properties)


def track_result(
    track: Track,
    events: Events,
    result: ReconciliationResult,
    gaps: Sequence[UnlistedPart],
    units: Sequence[Unit],
    most: int | None,
    previous: ReconciliationResult | None = None,
) -> None:
    """Tracks what a run found: gaps, unread records, excluded records, mismatches, and the summary.

    Each mismatch event causes an alert, so at most `most` of them are tracked (None: no limit). If there are more
    mismatches, one further event says how many there are. If the run is suspicious and there is a limit, that event
    replaces all mismatch events. previous: the earlier result of a resumed run; mismatches that had an event then and
    have not changed are not tracked again.
    """
    for gap in gaps:
        track_event(track, events.gap(gap))
    for unread in result.unread:
        track_event(track, events.unread(unread))
    for excluded in result.excluded:
        track_event(track, events.excluded(excluded))
    alerted = set() if previous is None else {each.finding for each in _listed(previous, most)}
    listed, found = _listed(result, most), len(result.mismatches)
    for mismatch in listed:
        if mismatch.finding not in alerted:
            track_event(track, events.mismatch(mismatch))
    if len(listed) < found:
        more = {"mismatch-count": found, "not-listed": found - len(listed), "reason": result.suspicious or ""}
        track(events.more, more)
    for event in events.summary(result, units):
        track_event(track, event)


def _listed(result: ReconciliationResult, most: int | None) -> Sequence[Mismatch]:
    """Those mismatches of a result for which separate events are tracked."""
    if most is None:
        return result.mismatches
    return () if result.suspicious else result.mismatches[:most]
