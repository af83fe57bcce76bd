"""The report of a run and the index of all runs as HTML. Everything from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from reports.presentation import summary, text
from reports.presentation.ages import ages
from reports.presentation.causes import causes_by_who_acts
from reports.presentation.chart import draw_trend
from reports.presentation.csv import packed_csv
from reports.presentation.masked_page import masked_page
from reports.presentation.overview import cards, listed_runs, path_to_index
from reports.presentation.page_rows import page_rows
from reports.presentation.prisons import most_affected, prison_rows
from reports.presentation.text import UNMASKED, without_control_characters
from reports.presentation.what_to_do import what_to_do
from reports.reconciliations.views import view_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import jinja2

    from reports.engine.result import ReconciliationResult
    from reports.engine.runs import EndedRun
    from reports.presentation.text import Masking


#: The scripts of the report, each of which does one thing.
_SCRIPTS = ("report/filter.js", "report/sort.js", "report/paper.js", "report/csv.js")


def render_report(result: ReconciliationResult, masking: Masking = UNMASKED, *, attached: bool = False) -> str:
    """The report of a run: one self-contained page that works without its script.

    attached: it leaves the archive, so it has no links to what is kept there with it.
    """
    style, script = _asset("report.css"), "".join(map(_asset, _SCRIPTS))
    view, todo, prisons = view_of(result), what_to_do(result), prison_rows(result)
    rows = page_rows(result, view, todo.actions, masking)
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            view=view,
            index=None if attached else path_to_index(result.reconciliation, result.run_id),
            todo=todo,
            headline=todo.headline,
            scope=summary.scope(result.parameters),
            duration=summary.duration(result),
            shortfall=summary.shortfall(result),
            reach=summary.reach(result),
            none_found=summary.none_found(result),
            figures=summary.figures(result),
            prisons=prisons,
            affected=most_affected(prisons),
            highest_rate=max((each.rate or 0 for each in prisons), default=0),
            # Records without a prison, such as those that only DPS has, belong to none.
            places=sum(each.prison_id is not None for each in result.prisons),
            aside=len(result.in_flight) + sum(each.differs for each in result.excluded),
            rows=rows,
            packed_csv=packed_csv(result, masking) if rows else "",
            step=summary.next_step(result),
            causes=causes_by_who_acts(rows, todo.actions),
            ages=ages(result),
            codes=view.codes(),
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
    return masked_page(page, result, masking)


def render_index(
    titles: Mapping[str, str],
    runs: Sequence[EndedRun],
    newest: Mapping[str, ReconciliationResult],
    environment_name: str,
    made_at: datetime,
) -> str:
    """A card for each reconciliation, and the list of all runs with their files.

    titles: the reconciliations there are, by name. runs: newest first. newest: the results of the newest runs over
    everyone, by the id of the run. made_at: the present moment.
    """
    style, script = _asset("report.css"), _asset("index.js")
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            cards=cards(titles, runs, newest, made_at),
            runs=listed_runs(runs),
            environment=environment_name,
            made_at=made_at,
            policy=_policy(style, script),
            style=_trusted(style),
            script=_trusted(script),
        )
    )


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
        "short_moment": text.short_moment,
        "capital": text.capital,
        "thousands": text.thousands,
    }
    return made


def _printable(value: object) -> object:
    """A value as it is written: texts without control characters, our own markup unchanged."""
    return without_control_characters(value) if type(value) is str else value


def _policy(style: str, script: str) -> str:
    """A content security policy that loads nothing and runs only the script of the page itself."""
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    allowed = f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


@cache
def _asset(name: str) -> str:
    return (files("templates") / name).read_text(encoding="utf-8")


def _trusted(own: str) -> Any:
    """Our own style and script, which must not be escaped."""
    from markupsafe import Markup

    return Markup(own)  # noqa: S704 - a file of this package
