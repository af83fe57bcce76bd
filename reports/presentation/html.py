"""The pages that people open: the report of a run, and the index of all runs. Everything from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from reports.presentation import summary as wording
from reports.presentation.figures import figures
from reports.presentation.steering import without_steering

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jinja2

    from reports.engine.result import ReconciliationResult, TrendPoint

_CHART_WIDTH = 720
_CHART_BASE = 170
_CHART_HEIGHT = 196
_CHART_TOP = 24
_LINE_HEIGHT = 20
#: Bars with a label of their own; further apart than this labels would run into each other.
_MOST_LABELS = 9


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run as it stands in the index."""

    run_id: str
    status: str
    started_at: datetime
    compared: int
    mismatches: int
    new: int
    unread: int
    scope: str
    unread_pages: int = 0

    @property
    def counted(self) -> bool:
        """Whether the figures were counted at all: zeros of a run that compared nobody say nothing."""
        return self.compared > 0 or self.status == "complete"

    @property
    def not_read(self) -> str:
        """Prisoners and pages that were not read, empty where nobody knows."""
        told = []
        if self.unread or (self.status == "complete" and not self.unread_pages):
            told.append(wording.thousands(self.unread))
        if self.unread_pages:
            told.append(wording.count(self.unread_pages, "page"))
        return " and ".join(told)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the trend, in the units of the drawing."""

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
        """The middle of the bar, where its texts stand."""
        return round(self.x + self.width / 2, 1)


@dataclass(frozen=True, slots=True)
class Trend:
    """The drawing of the trend, and the same in words."""

    bars: tuple[Bar, ...]
    text: str
    width: int = _CHART_WIDTH
    height: int = _CHART_HEIGHT
    base: int = _CHART_BASE


def render_report(result: ReconciliationResult) -> str:
    """The report of a run: one page that needs nothing from outside, and works without its script."""
    levels = _levels(result)
    matrix = {(row, column): 0 for row in levels for column in levels}
    for cell in result.matrix:
        matrix[(cell.nomis_level, cell.dps_level)] = cell.count
    affected = sorted(
        (each for each in result.prisons if each.mismatches), key=lambda each: (-each.mismatches, each.prison_id or "~")
    )
    style, script = _asset("report.css"), _asset("report.js")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            headline=wording.headline(result),
            scope=wording.scope(result.parameters),
            duration=wording.duration(result),
            shortfall=wording.shortfall(result),
            reach=wording.reach(result),
            none_found=wording.none_found(result),
            figures=figures(result),
            levels=levels,
            matrix=matrix,
            prisons=result.prisons,
            affected=affected,
            # Prisoners without a record in NOMIS are no prison's.
            places=sum(each.prison_id is not None for each in result.prisons),
            aside=len(result.in_flight) + sum(each.differs for each in result.excluded),
            rows=result.rows,
            step=wording.next_step(result),
            causes=wording.causes(result),
            trend=draw_trend(result.trend),
            points=list(
                zip(wording.moments_apart([each.started_at for each in result.trend]), result.trend, strict=True)
            ),
            in_trend=any(point.run_id == result.run_id for point in result.trend),
            policy=_policy(style, script),
            style=_trusted(style),
            script=_trusted(script),
        )
    )


def render_index(runs: Sequence[RunLine], environment_name: str) -> str:
    """The list of all runs, newest first, each with its files."""
    style = _asset("report.css")
    named = list(zip(wording.moments_apart([run.started_at for run in runs]), runs, strict=True))
    return (
        environment()
        .get_template("index.html.j2")
        .render(runs=named, environment=environment_name, policy=_policy(style), style=_trusted(style))
    )


def draw_trend(points: Sequence[TrendPoint]) -> Trend:
    """The trend as bars, oldest first, with a text that says the same."""
    if not points:
        return Trend((), "")
    highest = max(1, *(point.mismatches for point in points))
    step = _CHART_WIDTH / len(points)
    width = min(48.0, step * 0.7)
    every = -(-len(points) // _MOST_LABELS)
    bars = []
    times = wording.times_apart([point.started_at for point in points])
    for place, (point, time) in enumerate(zip(points, times, strict=True)):
        height = round((_CHART_BASE - _CHART_TOP) * point.mismatches / highest, 1)
        bars.append(
            Bar(
                x=round(step * place + (step - width) / 2, 1),
                y=round(_CHART_BASE - height, 1),
                width=round(width, 1),
                height=height,
                value=point.mismatches,
                label=f"{wording.local(point.started_at).day} {wording.local(point.started_at):%b}",
                time=time,
                labelled=(len(points) - 1 - place) % every == 0,
            )
        )
    told = "; ".join(
        f"{wording.day(point.started_at)}{', ' if time else ''}{time}: {point.mismatches}"
        for point, time in zip(points, times, strict=True)
    )
    return Trend(
        tuple(bars),
        f"Differences found in {wording.count(len(points), 'run')}, oldest first: {told}.",
        height=_CHART_HEIGHT + (_LINE_HEIGHT if any(times) else 0),
    )


@cache
def environment() -> jinja2.Environment:
    """The templates; every value is escaped, and a name that is missing is an error."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("templates", ""),
        autoescape=jinja2.select_autoescape(("html.j2",), ("txt.j2",), default=True, default_for_string=True),
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "day": wording.day,
        "exact": wording.exact_moment,
        "long_moment": wording.long_moment,
        "thousands": wording.thousands,
    }
    return made


def _printable(value: object) -> object:
    """What is written of a value: a text of others without what steers; our own markup as it is."""
    return without_steering(value) if type(value) is str else value


def _levels(result: ReconciliationResult) -> list[str | None]:
    """The levels that come at all, those of every prison first and in their order, "none" last."""
    found = {code for cell in result.matrix for code in (cell.nomis_level, cell.dps_level)}
    usual = [code for code in ("BAS", "ENT", "STD", "ENH", "EN2", "EN3") if code in found]
    others = sorted(code for code in found if code is not None and code not in usual)
    return [*usual, *others, *([None] if None in found else [])]


def _policy(*inline: str) -> str:
    """A policy under which nothing is loaded from anywhere, and nothing runs but what the page came with."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline]
    style, script = f"'sha256-{hashes[0]}'", f"'sha256-{hashes[1]}'" if len(hashes) > 1 else "'none'"
    return f"default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"


@cache
def _asset(name: str) -> str:
    return (files("templates") / name).read_text(encoding="utf-8")


def _trusted(text: str) -> Any:
    """Our own style and script, which must not be escaped."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - a file of this package
