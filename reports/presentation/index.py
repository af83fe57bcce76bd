"""The index of the runs as HTML: a card with the state of each reconciliation, then the list of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.engine.history import TREND_RUNS
from reports.engine.result import TrendPoint
from reports.presentation import summary, text
from reports.presentation.chart import Trend, draw_sparkline
from reports.presentation.templates import render_page
from reports.presentation.what_to_do import NOBODY, what_to_do
from reports.reconciliations.registry import RECONCILIATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from reports.engine.result import ReconciliationResult
    from reports.engine.runs import EndedRun


def run_folder(reconciliation: str, run_id: str) -> str:
    """The folder of a run, relative to the root of the archive."""
    entry = RECONCILIATIONS.get(reconciliation)
    return f"{reconciliation}/{run_id}" if entry is None or entry.own_folder else run_id


def path_to_index(reconciliation: str, run_id: str) -> str:
    """The relative path from the report of a run to the index."""
    return "../" * (run_folder(reconciliation, run_id).count("/") + 1) + "index.html"


def render_index(
    titles: Mapping[str, str],
    runs: Sequence[EndedRun],
    newest: Mapping[str, ReconciliationResult],
    environment_name: str,
    made_at: datetime,
) -> str:
    """The index as HTML: a card for each reconciliation, and a list of `runs` with links to their files.

    titles: the titles of the reconciliations by name. runs: newest first. newest: the result of each reconciliation's
    newest run for everyone, by run id. made_at: the current time, aware.
    """
    values = {
        "cards": cards(titles, runs, newest, made_at),
        "runs": _listed_runs(runs),
        "environment": environment_name,
        "made_at": made_at,
    }
    return render_page("index.html.j2", ["index.js"], values)


@dataclass(frozen=True, slots=True)
class Card:
    """The card of a reconciliation, made from its runs for everyone.

    folder: the folder of the last of these runs, or None if there is none. state: the state of the reconciliation in a
    few words. tone: the style of the state: `good`, `plain` or `new`. figure: how many records differ in the last run,
    or None if that run has no meaningful figures. note: what the figure counts, and how much could not be read.
    complete_at: the end of the last complete run, aware, or None if there is none. age: the time from `complete_at`
    until the page was made, in words. to_do: what to do first, on one line; empty if there is nothing to do.
    """

    title: str
    folder: str | None
    state: str
    tone: str
    figure: int | None
    note: str
    trend: Trend
    complete_at: datetime | None
    age: str
    to_do: str


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run in the list.

    name: the time at which the run began, unique in the list. scope: what the run covered, in words. unread: how much
    could not be read, in words; empty if that is unknown.
    """

    name: str
    run: EndedRun
    folder: str
    scope: str
    unread: str


def cards(
    titles: Mapping[str, str],
    runs: Sequence[EndedRun],
    newest: Mapping[str, ReconciliationResult],
    made_at: datetime,
) -> list[Card]:
    """A card for each reconciliation that is in `titles` or has runs; `runs` are newest first."""
    known = dict(titles)
    for run in runs:
        known.setdefault(run.reconciliation, run.title)
    return [
        _card(title, [run for run in runs if run.reconciliation == name and run.covers_everyone], newest, made_at)
        for name, title in known.items()
    ]


def _listed_runs(runs: Sequence[EndedRun]) -> list[ListedRun]:
    """The runs as the index lists them, in the same order."""
    names = text.distinct_moments([run.started_at for run in runs])
    return [
        ListedRun(name, run, run_folder(run.reconciliation, run.run_id), summary.scope(run.parameters), _unread(run))
        for name, run in zip(names, runs, strict=True)
    ]


def _card(title: str, runs: Sequence[EndedRun], results: Mapping[str, ReconciliationResult], made_at: datetime) -> Card:
    newest = runs[0] if runs else None
    complete_at = next((run.finished_at for run in runs if run.status == "complete"), None)
    in_trend = [run for run in runs if run.status != "failed" and not run.gaps][:TREND_RUNS]
    points = [
        TrendPoint(
            run_id=run.run_id,
            started_at=run.started_at,
            compared=run.compared,
            mismatches=run.mismatches,
            new=run.new,
            resolved=run.resolved,
        )
        for run in reversed(in_trend)
    ]
    state, tone = _state(newest)
    return Card(
        title=title,
        folder=None if newest is None else run_folder(newest.reconciliation, newest.run_id),
        state=state,
        tone=tone,
        figure=newest.mismatches if newest is not None and newest.has_figures else None,
        note="" if newest is None else _note(newest),
        trend=draw_sparkline(points),
        complete_at=complete_at,
        age="" if complete_at is None else _age(made_at - complete_at),
        to_do=_to_do(None if newest is None else results.get(newest.run_id)),
    )


def _to_do(result: ReconciliationResult | None) -> str:
    """What to do first, on one line; empty if there is nothing to do.

    For example: `This team: Retry the dead letter queue. 4 differences, 2 new; 2 more things to do.`
    """
    if result is None:
        return ""
    actions = what_to_do(result).actions
    if not actions:
        return ""
    first, *others = actions
    more = sum(each.who != NOBODY for each in others)
    also = f"; {text.count(more, 'more thing')} to do" if more else ""
    return f"{first.who}: {first.what} {first.number}{also}."


def _state(run: EndedRun | None) -> tuple[str, str]:
    """The state of a reconciliation according to its last run for everyone, and the tone of that state."""
    if run is None:
        return "Not run yet", "plain"
    if run.status != "complete":
        return run.status.capitalize(), "new"
    if run.suspicious:
        return "Suspicious", "new"
    if run.new:
        return f"{text.thousands(run.new)} new", "new"
    return ("No new differences", "plain") if run.mismatches else ("Agrees", "good")


def _note(run: EndedRun) -> str:
    if not run.has_figures:
        return f"No {run.counted} were compared"
    verb = "differs" if run.mismatches == 1 else "differ"
    unread = _unread(run)
    lacking = f", {unread} could not be read" if run.unread or run.gaps else ""
    return f"of {text.thousands(run.compared)} {run.counted} {verb}{lacking}"


def _unread(run: EndedRun) -> str:
    """How many records and parts of the list could not be read; empty if that is unknown."""
    parts = []
    if run.unread or (run.status == "complete" and not run.gaps):
        parts.append(text.thousands(run.unread))
    if run.gaps:
        parts.append(f"{text.count(run.gaps, 'part')} of the list")
    return " and ".join(parts)


def _age(passed: timedelta) -> str:
    minutes = max(int(passed.total_seconds() // 60), 0)
    for unit, length in (("day", 1_440), ("hour", 60)):
        if minutes >= length:
            return text.count(minutes // length, unit)
    return text.count(minutes, "minute") if minutes else "less than a minute"
