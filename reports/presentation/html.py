"""The report of a run and the index of all runs as HTML. Everything from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from reports.presentation import summary, text
from reports.presentation.chart import draw_trend
from reports.presentation.text import without_control_characters

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jinja2

    from reports.engine.runs import EndedRun
    from reports.reconciliations.incentives.result import IncentiveResult


def render_report(result: IncentiveResult) -> str:
    """The report of a run: one self-contained page that works without its script."""
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
            headline=summary.headline(result),
            scope=summary.scope(result.parameters),
            duration=summary.duration(result),
            shortfall=summary.shortfall(result),
            reach=summary.reach(result),
            none_found=summary.none_found(result),
            figures=summary.figures(result),
            levels=levels,
            matrix=matrix,
            prisons=result.prisons,
            affected=affected,
            # Prisoners without a record in NOMIS belong to no prison.
            places=sum(each.prison_id is not None for each in result.prisons),
            aside=len(result.in_flight) + sum(each.differs for each in result.excluded),
            rows=result.rows,
            step=summary.next_step(result),
            causes=summary.causes(result),
            trend=draw_trend(result.trend),
            points=list(
                zip(text.distinct_moments([each.started_at for each in result.trend]), result.trend, strict=True)
            ),
            in_trend=any(point.run_id == result.run_id for point in result.trend),
            policy=_policy(style, script),
            style=_trusted(style),
            script=_trusted(script),
        )
    )


def render_index(runs: Sequence[EndedRun], environment_name: str) -> str:
    """The list of all runs, newest first, each with its files."""
    style = _asset("report.css")
    names = text.distinct_moments([run.started_at for run in runs])
    rows = [(name, run, summary.scope(run.parameters), _unread(run)) for name, run in zip(names, runs, strict=True)]
    return (
        environment()
        .get_template("index.html.j2")
        .render(runs=rows, environment=environment_name, policy=_policy(style), style=_trusted(style))
    )


def _unread(run: EndedRun) -> str:
    """Prisoners and pages that could not be read; empty if unknown."""
    parts = []
    if run.unread or (run.status == "complete" and not run.unread_pages):
        parts.append(text.thousands(run.unread))
    if run.unread_pages:
        parts.append(text.count(run.unread_pages, "page"))
    return " and ".join(parts)


@cache
def environment() -> jinja2.Environment:
    """The templates; every value is escaped, and an undefined name is an error."""
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
        "day": text.day,
        "exact": text.exact_moment,
        "long_moment": text.long_moment,
        "thousands": text.thousands,
    }
    return made


def _printable(value: object) -> object:
    """A value as it is written: texts without control characters, our own markup unchanged."""
    return without_control_characters(value) if type(value) is str else value


def _levels(result: IncentiveResult) -> list[str | None]:
    """The levels that occur: the usual ones first and in their order, "none" last."""
    found = {code for cell in result.matrix for code in (cell.nomis_level, cell.dps_level)}
    usual = [code for code in ("BAS", "ENT", "STD", "ENH", "EN2", "EN3") if code in found]
    others = sorted(code for code in found if code is not None and code not in usual)
    return [*usual, *others, *([None] if None in found else [])]


def _policy(*inline: str) -> str:
    """A content security policy that loads nothing and runs only the script of the page itself."""
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in inline]
    style, script = f"'sha256-{hashes[0]}'", f"'sha256-{hashes[1]}'" if len(hashes) > 1 else "'none'"
    return f"default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"


@cache
def _asset(name: str) -> str:
    return (files("templates") / name).read_text(encoding="utf-8")


def _trusted(own: str) -> Any:
    """Our own style and script, which must not be escaped."""
    from markupsafe import Markup

    return Markup(own)  # noqa: S704 - a file of this package
