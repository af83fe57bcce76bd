"""The trend of the differences as a bar chart, and the same in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reports.presentation.text import count, day, distinct_times, local

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.engine.result import TrendPoint

_WIDTH = 720
_BASE = 170
_HEIGHT = 196
_TOP = 24
_LINE_HEIGHT = 20
#: Bars with a label of their own; further apart than this labels would run into each other.
_MOST_LABELS = 9


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, in the units of the drawing."""

    x: float
    y: float
    width: float
    height: float
    value: int
    label: str
    #: The time of day, where another run is of the same day.
    time: str
    labelled: bool

    @property
    def middle(self) -> float:
        """The x of its texts."""
        return round(self.x + self.width / 2, 1)


@dataclass(frozen=True, slots=True)
class Trend:
    """The drawing of the trend, and the same in words."""

    bars: tuple[Bar, ...]
    text: str
    width: int = _WIDTH
    height: int = _HEIGHT
    base: int = _BASE


def draw_sparkline(points: Sequence[TrendPoint]) -> Trend:
    """The trend as bars without labels, for a small drawing."""
    drawn = draw_trend(points)
    return replace(drawn, height=_BASE + 2)


def draw_trend(points: Sequence[TrendPoint]) -> Trend:
    """The trend as bars, oldest first, with a text that says the same."""
    if not points:
        return Trend((), "")
    highest = max(1, *(point.mismatches for point in points))
    step = _WIDTH / len(points)
    width = min(48.0, step * 0.7)
    every = -(-len(points) // _MOST_LABELS)
    bars = []
    times = distinct_times([point.started_at for point in points])
    for place, (point, time) in enumerate(zip(points, times, strict=True)):
        height = round((_BASE - _TOP) * point.mismatches / highest, 1)
        bars.append(
            Bar(
                x=round(step * place + (step - width) / 2, 1),
                y=round(_BASE - height, 1),
                width=round(width, 1),
                height=height,
                value=point.mismatches,
                label=f"{local(point.started_at).day} {local(point.started_at):%b}",
                time=time,
                labelled=(len(points) - 1 - place) % every == 0,
            )
        )
    values = "; ".join(
        f"{day(point.started_at)}{' at ' if time else ''}{time}: {point.mismatches}"
        for point, time in zip(points, times, strict=True)
    )
    return Trend(
        tuple(bars),
        f"Differences found in {count(len(points), 'run')}, oldest first: {values}.",
        height=_HEIGHT + (_LINE_HEIGHT if any(times) else 0),
    )
