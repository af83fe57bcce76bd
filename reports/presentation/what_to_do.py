"""What to do about the differences of a run: the page, the index, the email and the Slack message begin with this.

The differences are grouped by who acts and what they do. Each group says how many differences it has, how many of them
are new, how long the oldest one has been open, and which commands to type. Texts are plain and not masked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from reports.presentation import summary
from reports.presentation.text import capital, count, day, thousands
from reports.presentation.view import NOT_INVESTIGATED, view_of
from sync.alerting import Severity, command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import pandas as pd

    from reports.engine.result import Diagnosis, ReconciliationResult, TrendPoint

#: Who acts, in the order of the groups; the last one means that no action is needed.
THIS_TEAM, NOMIS_SUPPORT, PRISON, DPS_TEAM, NOBODY = WHO = (
    "This team",
    "NOMIS support",
    "The prison",
    "The DPS team",
    "Nobody",
)
#: A run counts as last week's if it began at least this long ago; schedules may vary by some hours.
_WEEK: Final = timedelta(days=6)
#: A jump means at least _JUMP_TIMES as many differences as last week, and at least _JUMP_MORE more.
_JUMP_TIMES: Final = 2
_JUMP_MORE: Final = 10
#: Commands that can fix all differences of a cause, with `--from RUN`.
_IN_BULK: Final = re.compile(r"prisoner-to-nomis (resync|incentives repair|reconcile fix received) ")
_BY_HAND: Final = "Check both sides by hand."


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do about a group of differences that are fixed in the same way, and who does it.

    who: one of `WHO`. what: a sentence. causes: why the records differ, the most frequent first. count: the number of
    differences. new: how many of them are new. oldest: when the oldest one was first seen, aware. days: the number of
    whole days from `oldest` to the end of the run. commands: the commands to run, in order. row: the row that the
    commands are for, or None if they fix the whole group. more: how many other rows have commands. request: the text
    for NOMIS support, if there is only one difference. rows: the numbers of the rows.
    """

    who: str
    what: str
    causes: tuple[str, ...]
    count: int
    new: int
    oldest: datetime
    days: int
    commands: tuple[str, ...]
    row: int | None
    more: int
    request: str | None
    rows: tuple[int, ...]

    @property
    def number(self) -> str:
        """The number of differences and how many are new: `12 differences, 3 new`, or `4 new differences`."""
        if self.new == self.count:
            return count(self.count, "new difference")
        new = f", {thousands(self.new)} new" if self.new else ""
        return f"{count(self.count, 'difference')}{new}"

    @property
    def figures(self) -> str:
        """A sentence with the number and how long the oldest has been open: `12 differences, 3 new; the oldest …`."""
        if self.new == self.count:
            return f"{self.number}."
        which = "it has" if self.count == 1 else "the oldest has"
        open_for = f"been open for {count(self.days, 'day')}, since {day(self.oldest)}"
        return f"{self.number}; {which} {open_for}."

    @property
    def why(self) -> str:
        """A sentence with the causes, the most frequent first."""
        return f"Why: {'; '.join(self.causes)}."

    @property
    def elsewhere(self) -> str:
        """A sentence saying which row the commands are for, and how many other rows have commands of their kind.

        Empty if the commands fix the whole group.
        """
        if self.row is None:
            return ""
        shown = f"The command{' is' if len(self.commands) == 1 else 's are'} for row {self.row}"
        have = "has its" if self.more == 1 else "have their"
        own = f"; {count(self.more, 'more row')} {have} own" if self.more else ""
        return f"{shown}{own}."


@dataclass(frozen=True, slots=True)
class WhatToDo:
    """What a reader sees first about a run.

    headline: a clause that stays true when it is read later. change: a sentence that compares the number of differences
    with the last complete run; empty if there is no such run, or if this run is not complete. jump: a sentence saying
    that there are many more differences than last week; empty if there are not. severity: how serious the run is.
    actions: what to do, grouped by who acts.
    """

    headline: str
    change: str
    jump: str
    severity: Severity
    actions: tuple[Recommendation, ...]

    @property
    def act(self) -> str:
        """When somebody has to act, according to the severity; a run of low severity needs no action."""
        return (Severity.INFO if self.severity is Severity.LOW else self.severity).act


def what_to_do(result: ReconciliationResult) -> WhatToDo:
    """What to do about the differences of a run, and how serious it is."""
    actions = _actions(result)
    jump = _jump(result)
    return WhatToDo(summary.headline(result), _change(result), jump, _severity(result, actions, jump), actions)


def _actions(result: ReconciliationResult) -> tuple[Recommendation, ...]:
    """The differences in groups: those for this team first; within each party by severity, then by new differences."""
    if not result.mismatches:
        return ()
    frame = _frame(result)
    grouped = frame.groupby(["who", "what"], sort=False, observed=True)
    totals = grouped.agg(
        count=("row", "size"), new=("new", "sum"), seriousness=("seriousness", "min"), first=("row", "min")
    ).reset_index()
    totals["rank"] = totals["who"].map({who: rank for rank, who in enumerate(WHO)})
    order = {"rank": True, "seriousness": True, "new": False, "count": False, "first": True}
    totals = totals.sort_values(list(order), ascending=list(order.values()))
    return tuple(
        _action(result, frame[(frame["who"] == who) & (frame["what"] == what)], who, what)
        for who, what in zip(totals["who"], totals["what"], strict=True)
    )


def _frame(result: ReconciliationResult) -> pd.DataFrame:
    """The differences as a frame, a row for each.

    Columns: `row` (int64), `who`, `what`, `cause` (string), `new` (bool), `since` (datetime64[us, UTC]), `seriousness`
    (int64, 0 for the most serious), `dps_is_right` (bool), `commands` (a tuple of strings) and `request` (string, or
    empty for none).
    """
    import pandas as pd

    view, levels = view_of(result), list(Severity)
    lines = [
        {
            "row": number,
            "who": _who(each.diagnosis),
            "what": _BY_HAND if each.diagnosis is None else view.advice(each.diagnosis),
            "cause": NOT_INVESTIGATED if each.diagnosis is None else each.diagnosis.cause,
            "new": each.standing == "new",
            "since": each.since,
            "seriousness": levels.index(view.severity(each)),
            "dps_is_right": each.diagnosis is not None and each.diagnosis.right_side == "DPS",
            "commands": () if each.diagnosis is None else each.diagnosis.commands,
            "request": (None if each.diagnosis is None else each.diagnosis.request) or "",
        }
        for number, each in result.rows
    ]
    frame = pd.DataFrame(lines)
    frame["since"] = pd.to_datetime(frame["since"], utc=True)
    return frame.astype({"who": "string", "what": "string", "cause": "string", "request": "string"})


def _action(result: ReconciliationResult, group: pd.DataFrame, who: str, what: str) -> Recommendation:
    oldest = group["since"].min().to_pydatetime()
    causes = tuple(map(str, group["cause"].value_counts().index))
    commands, row, more = _commands(result, who, group, causes)
    return Recommendation(
        who=who,
        what=what,
        causes=causes,
        count=len(group),
        new=int(group["new"].sum()),
        oldest=oldest,
        days=max((result.finished_at - oldest).days, 0),
        commands=commands,
        row=row,
        more=more,
        request=str(group["request"].iloc[0]) or None if len(group) == 1 else None,
        rows=tuple(map(int, group["row"])),
    )


def _commands(
    result: ReconciliationResult, who: str, group: pd.DataFrame, causes: tuple[str, ...]
) -> tuple[tuple[str, ...], int | None, int]:
    """The commands for a group, the row they are for (None for the whole group), and how many other rows have commands.

    No command fixes the whole group if DPS may be wrong, or if the run is suspicious.
    """
    run_id, certain = result.run_id, not result.suspicious and bool(group["dps_is_right"].all())
    if who == NOMIS_SUPPORT:
        return tuple(command("report", "request", run_id, "--cause", cause) for cause in causes), None, 0
    by_row: Mapping[int, tuple[str, ...]] = dict(zip(group["row"], group["commands"], strict=True))
    found = {row: commands for row, commands in by_row.items() if commands}
    if not found:
        return (), None, 0
    row, first = next(iter(found.items()))
    if all(commands == first for commands in by_row.values()):
        return first, None, 0
    bulk = next((match[1] for commands in found.values() for one in commands if (match := _IN_BULK.match(one))), None)
    if bulk is None or not certain:
        return first, int(row), len(found) - 1
    shared = tuple(one for one in first if all(one in commands for commands in found.values()))
    return (*shared, *(command(*bulk.split(), "--from", run_id, "--cause", cause) for cause in causes)), None, 0


def _who(diagnosis: Diagnosis | None) -> str:
    """Who acts on a difference; this team if the cause is unknown. Results of earlier versions do not say who acts."""
    if diagnosis is not None and diagnosis.who is not None:
        return capital(diagnosis.who)
    return THIS_TEAM if diagnosis is None or diagnosis.request is None else NOMIS_SUPPORT


def _change(result: ReconciliationResult) -> str:
    """A sentence that compares the number of differences with the last complete run, or empty if that is impossible."""
    last = next((each for each in reversed(_earlier(result)) if not each.unread), None)
    if last is None or not result.compared or result.status != "complete":
        return ""
    more = len(result.mismatches) - last.mismatches
    than = f"the last complete run, of {day(last.started_at)}, which found {thousands(last.mismatches)}"
    if not more:
        compared = f"As many as in {than}"
    else:
        compared = f"{thousands(abs(more))} {'more' if more > 0 else 'fewer'} than in {than}"
    return f"{compared}."


def _jump(result: ReconciliationResult) -> str:
    """A sentence saying that there are many more differences than a week ago; empty if there are not."""
    until = result.started_at - _WEEK
    last = next((each for each in reversed(_earlier(result)) if each.started_at <= until), None)
    found = len(result.mismatches)
    if last is None or found < max(_JUMP_TIMES * last.mismatches, last.mismatches + _JUMP_MORE):
        return ""
    return (
        f"{thousands(found)} differences are many more than the {thousands(last.mismatches)} of "
        f"{day(last.started_at)}: look for one common cause first, such as a deployment or a data refresh."
    )


def _earlier(result: ReconciliationResult) -> tuple[TrendPoint, ...]:
    """The earlier runs of the trend, oldest first."""
    return tuple(each for each in result.trend if each.run_id != result.run_id)


def _severity(result: ReconciliationResult, actions: tuple[Recommendation, ...], jump: str) -> Severity:
    """How serious the run is, by its status and its new differences; a jump raises it by one level."""
    if result.status == "failed" or result.suspicious:
        return Severity.SERIOUS
    view = view_of(result)
    found = Severity.INFO
    if any(each.who == NOBODY for each in actions):
        found = Severity.LOW
    if result.status == "incomplete" or any(each.who != NOBODY for each in actions):
        found = Severity.MEDIUM
    acted_on = {row for each in actions if each.who != NOBODY for row in each.rows}
    new = [each for row, each in result.rows if each.standing == "new" and row in acted_on]
    if any(view.severity(each) is Severity.SERIOUS for each in new):
        found = Severity.SERIOUS
    return found.raised if jump else found
