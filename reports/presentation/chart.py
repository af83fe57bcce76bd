"""The trend of the differences as a chart, as block characters, and in words.

Each run has a bar: persisting differences, new differences on top of them, and resolved differences below the
baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation.text import count, day, distinct_times, local, thousands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.engine.result import TrendPoint

_HEIGHTS = "▁▂▃▄▅▆▇█"
_WIDTH = 600.0
_LEFT = 48.0
_TOP = 24.0
_DRAWN = 170.0
_LINE_HEIGHT = 23.0
_WIDEST_BAR = 44.0
#: The most bars that all have labels; the labels of more bars would overlap.
_MOST_LABELS = 6
#: The most steps of the scale, above and below the baseline together.
_MOST_TICKS = 5


@dataclass(frozen=True, slots=True)
class BarPart:
    """A part of a bar. kind: `new`, `persisting` or `resolved`, as in the style sheet. y, height: in drawing units."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of a run. x, width, top: in drawing units.

    parts: the persisting, new and resolved differences. value: the number of differences. label: the day of the run, or
    empty if the bar has no label. time: the time of the run, if the bar has a label and another run began on the same
    day; otherwise empty. minor: whether the labels are left out on narrow screens.
    """

    x: float
    width: float
    top: float
    parts: tuple[BarPart, ...]
    value: int
    label: str
    time: str
    minor: bool

    @property
    def middle(self) -> float:
        """The x coordinate of the bar's labels."""
        return round(self.x + self.width / 2, 1)


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the scale. y: in drawing units. label: the number at the line."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Trend:
    """The drawing of the trend; `text` gives the same figures in words.

    base: the y coordinate of the baseline. bottom: the y coordinate of the end of the lowest bar. left: the x
    coordinate at which the bars begin. height, width: the size of the drawing. All of these are in drawing units.
    """

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    text: str
    base: float
    bottom: float
    height: float
    left: float = _LEFT
    width: float = _WIDTH


def draw_sparkline(points: Sequence[TrendPoint]) -> Trend:
    """The trend as a small drawing: bars without a scale or labels, oldest first."""
    return _draw(points, left=0.0, top=0.0, labelled=False)


def draw_trend(points: Sequence[TrendPoint]) -> Trend:
    """The trend as a chart: bars with a scale and labels, oldest first."""
    return _draw(points, left=_LEFT, top=_TOP, labelled=True)


def sparkline(values: Sequence[int]) -> str:
    """A block for each value, for example `▁▂▅█`: its height shows the value as a share of the largest value.

    The blocks are for places that cannot show a drawing. Arial, Segoe UI and common terminal fonts have them, so
    Outlook and Gmail show them too.
    """
    highest = max(values, default=0)
    steps = len(_HEIGHTS) - 1
    return "".join(_HEIGHTS[-(-value * steps // highest) if highest else 0] for value in values)


def _draw(points: Sequence[TrendPoint], *, left: float, top: float, labelled: bool) -> Trend:
    highest = max((each.mismatches for each in points), default=0)
    deepest = max((each.resolved or 0 for each in points), default=0)
    unit = _DRAWN / max(highest + deepest, 1)
    base, bottom = round(top + highest * unit, 1), round(top + (highest + deepest) * unit, 1)
    step = (_WIDTH - left) / max(len(points), 1)
    width = round(min(_WIDEST_BAR, step * 0.7), 1)
    every = -(-len(points) // _MOST_LABELS) or 1
    times = distinct_times([each.started_at for each in points])
    bars = []
    for place, (point, time) in enumerate(zip(points, times, strict=True)):
        from_last = len(points) - 1 - place
        named = labelled and from_last % every == 0
        bars.append(
            Bar(
                x=round(left + step * place + (step - width) / 2, 1),
                width=width,
                top=round(base - point.mismatches * unit, 1),
                parts=_parts(point, base, unit),
                value=point.mismatches,
                label=f"{local(point.started_at).day} {local(point.started_at):%B}" if named else "",
                time=time if named else "",
                minor=from_last % (2 * every) != 0,
            )
        )
    lines = 2 if any(each.time for each in bars) else 1
    return Trend(
        bars=tuple(bars),
        ticks=_ticks(highest, deepest, base, unit),
        text=_text(points, times),
        base=base,
        bottom=bottom,
        height=bottom + (_LINE_HEIGHT * lines + 6 if labelled else 2),
        left=left,
    )


def _parts(point: TrendPoint, base: float, unit: float) -> tuple[BarPart, ...]:
    new = point.new or 0
    persisting = point.mismatches - new
    above = (("persisting", persisting, base - persisting * unit), ("new", new, base - point.mismatches * unit))
    parts = [BarPart(kind, round(y, 1), round(number * unit, 1)) for kind, number, y in above if number > 0]
    if point.resolved:
        parts.append(BarPart("resolved", base, round(point.resolved * unit, 1)))
    return tuple(parts)


def _ticks(highest: int, deepest: int, base: float, unit: float) -> tuple[Tick, ...]:
    """The lines of the scale: the baseline, which stands for zero, and those at round numbers above and below it."""
    step = _round_step(highest + deepest)
    values = [*range(-(deepest // step) * step, 0, step), *range(0, highest + 1, step)]
    return tuple(Tick(round(base - value * unit, 1), thousands(abs(value))) for value in values)


def _round_step(length: int) -> int:
    """The smallest of 1, 2, 5, 10, 20 and so on that divides `length` into at most `_MOST_TICKS` steps."""
    size = 1
    while True:
        for factor in (1, 2, 5):
            if length <= factor * size * _MOST_TICKS:
                return factor * size
        size *= 10


def _text(points: Sequence[TrendPoint], times: Sequence[str]) -> str:
    if not points:
        return ""
    values = "; ".join(
        f"{day(point.started_at)}{' at ' if time else ''}{time}: {_value(point)}"
        for point, time in zip(points, times, strict=True)
    )
    return f"Differences found in {count(len(points), 'run')}, oldest first: {values}."


def _value(point: TrendPoint) -> str:
    known = [f"{thousands(point.new)} new"] if point.new is not None else []
    known += [f"{thousands(point.resolved)} resolved"] if point.resolved is not None else []
    return f"{thousands(point.mismatches)} ({', '.join(known)})" if known else thousands(point.mismatches)
