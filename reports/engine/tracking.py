"""The telemetry events of a run: one for each finding, within limits, and a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.engine.units import Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reports.engine.events import Event, Events
    from reports.engine.result import Mismatch, ReconciliationResult
    from reports.engine.units import Unit

    #: Tracks one event by its name and properties.
    Track = Callable[[str, Mapping[str, object]], None]


def track_event(track: Track, event: Event | None) -> None:
    """Tracks an event, if there is one."""
    if event is not None:
        track(event.name, event.properties)


def track_result(
    track: Track,
    events: Events,
    result: ReconciliationResult,
    gaps: Sequence[Gap],
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
