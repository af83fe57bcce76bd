"""The telemetry events of a run: a reconciliation names them, the engine decides which are sent and tracks them."""

# ruff: noqa: ARG002 - what a method without effect is given is for those that override it

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

    def gap(self, gap: UnlistedPart) -> Event | None:
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


def track_event(track: Track, event: Event | None) -> None:
    """Tracks an event, if there is one."""
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
    """Tracks what a run found: gaps, unread records, excluded ones, mismatches, and the summary.

    Alerts are made of the events of mismatches, so there are `most` of them at most (None: no limit), then one that
    says how many more there are; a suspicious run has that one alone. What a resumed run alerted of with its `previous`
    result is left out.
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
    """The mismatches of a result that have a separate event."""
    if most is None:
        return result.mismatches
    return () if result.suspicious else result.mismatches[:most]
