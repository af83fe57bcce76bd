"""What to do about the differences of a run; the page, the index, the email and the Slack message show this first.

The differences are grouped by who acts, and by what to do. Each group says how many differences it has, how many of
them are new, how long the oldest of them has been open, and which commands to type. The texts are plain, and prisoner
numbers and booking ids are not masked in them.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from reports.engine.result import CHECK_DATA_FIRST
from reports.engine.runs import Coverage
from reports.presentation import summary
from reports.presentation.text import capital, count, day, thousands
from reports.presentation.view import NOT_INVESTIGATED, view_of
from sync.alerting import Severity, command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import TypeAlias

    from reports.engine.result import Diagnosis, Mismatch, ReconciliationResult, TrendPoint

    #: The number of a row of the report, and its difference.
    _Row: TypeAlias = tuple[int, Mismatch]

#: Who acts, in the order of the groups; the last one means that no action is needed.
THIS_TEAM, NOMIS_SUPPORT, PRISON, DPS_TEAM, NOBODY = WHO = (
    "This team",
    "NOMIS support",
    "The prison",
    "The DPS team",
    "Nobody",
)
#: A run counts as last week's if it began at least this long before this run; schedules may vary by some hours.
_WEEK: Final = timedelta(days=6)
#: A jump means at least _JUMP_TIMES times as many differences as last week, and at least _JUMP_MORE more.
_JUMP_TIMES: Final = 2
_JUMP_MORE: Final = 10
#: Commands that can fix all differences with one cause, with `--from RUN`.
_IN_BULK: Final = re.compile(r"prisoner-to-nomis (resync|incentives repair|reconcile fix received) ")
#: The most rows that the text about a group names.
_MOST_ROWS: Final = 10
_BY_HAND: Final = "Check both sides by hand."


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do about a group of differences that are fixed in the same way, and who does it.

    who: one of `WHO`. what: a sentence. causes: why the records differ, the most frequent cause first. count: the
    number of differences. new: how many of them are new. oldest: when the oldest one was first seen, aware. days: the
    number of whole days from `oldest` to the end of the run. commands: the commands to run, in order. row: the number
    of the row that the commands are for, or None if they are for the whole group or there are none. more: how many
    other rows have their own commands. request: the text for NOMIS support if there is only one difference and it has
    such a text, otherwise None. rows: the numbers of the rows.
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
        """A sentence with the number of differences and, unless all are new, how long the oldest has been open."""
        if self.new == self.count:
            return f"{self.number}."
        which = "it has" if self.count == 1 else "the oldest has"
        how_long = f"for {count(self.days, 'day')}, " if self.days else ""
        open_for = f"been open {how_long}since {day(self.oldest)}"
        return f"{self.number}; {which} {open_for}."

    @property
    def why(self) -> str:
        """A sentence with the causes, the most frequent first."""
        return f"Why: {'; '.join(self.causes)}."

    @property
    def elsewhere(self) -> str:
        """A sentence saying which row the commands are for, and how many other rows have their own commands.

        If there are no commands, it names the rows instead. Empty if the commands are for the whole group.
        """
        if not self.commands:
            return _named_rows(self.rows)
        if self.row is None:
            return ""
        shown = f"The command{' is' if len(self.commands) == 1 else 's are'} for row {self.row}"
        have = "has its" if self.more == 1 else "have their"
        own = f"; {count(self.more, 'more row')} {have} own" if self.more else ""
        return f"{shown}{own}."


def _named_rows(rows: Sequence[int]) -> str:
    """A sentence that names rows: `See row 5.`, or `See rows 5, 7 and 9.`; of many rows, only the first are named."""
    named, more = [str(each) for each in rows[:_MOST_ROWS]], len(rows) - _MOST_ROWS
    *others, last = [*named, f"{thousands(more)} more"] if more > 0 else named
    return f"See rows {', '.join(others)} and {last}." if others else f"See row {last}."


@dataclass(frozen=True, slots=True)
class WhatToDo:
    """What a reader sees first about a run.

    headline: a clause that stays true when it is read later. change: a sentence that compares the number of differences
    with that of the last complete run; empty if there is no such run, or if this run is not complete, compared nothing
    or does not cover everyone. jump: a sentence saying that there are many more differences than a week earlier; empty
    if there are not. severity: how serious the run is. actions: what to do, grouped by who acts.
    """

    headline: str
    change: str
    jump: str
    severity: Severity
    actions: tuple[Recommendation, ...]


def what_to_do(result: ReconciliationResult) -> WhatToDo:
    """What to do about the differences of a run, and how serious it is."""
    actions = _actions(result)
    jump = _jump(result)
    return WhatToDo(summary.headline(result), _change(result), jump, _severity(result, actions, jump), actions)


def more_groups(todo: WhatToDo, shown: int) -> str:
    """A sentence saying how many groups the report has in addition to the first `shown`; empty if it has no more."""
    more = len(todo.actions) - shown
    return f"The report has {count(more, 'more group')} of differences, with what to do about each." if more > 0 else ""


def _actions(result: ReconciliationResult) -> tuple[Recommendation, ...]:
    """What to do about each group of differences.

    The groups are sorted by who acts (in the order of `WHO`), severity and number of new differences. If the data of
    the run is implausible, there is only one group, without a fix.
    """
    if result.implausible and result.mismatches:
        return (_action(result, result.rows, THIS_TEAM, CHECK_DATA_FIRST),)
    view, levels = view_of(result), list(Severity)
    groups: dict[tuple[str, str], list[_Row]] = {}
    for number, each in result.rows:
        what = _BY_HAND if each.diagnosis is None else view.advice(each.diagnosis)
        groups.setdefault((_who(each.diagnosis), what), []).append((number, each))

    def place(group: tuple[tuple[str, str], list[_Row]]) -> tuple[int, ...]:
        (who, _), rows = group
        seriousness = min(levels.index(view.severity(each)) for _, each in rows)
        new = sum(each.standing == "new" for _, each in rows)
        return (WHO.index(who) if who in WHO else len(WHO), seriousness, -new, -len(rows), rows[0][0])

    return tuple(_action(result, rows, who, what) for (who, what), rows in sorted(groups.items(), key=place))


def _action(result: ReconciliationResult, rows: Sequence[_Row], who: str, what: str) -> Recommendation:
    oldest = min(each.since for _, each in rows)
    causes = Counter(NOT_INVESTIGATED if each.diagnosis is None else each.diagnosis.cause for _, each in rows)
    by_frequency = tuple(cause for cause, _ in causes.most_common())
    commands, row, more = _commands(result, who, rows, by_frequency)
    single = rows[0][1].diagnosis if len(rows) == 1 and not result.implausible else None
    return Recommendation(
        who=who,
        what=what,
        causes=by_frequency,
        count=len(rows),
        new=sum(each.standing == "new" for _, each in rows),
        oldest=oldest,
        days=max((result.finished_at - oldest).days, 0),
        commands=commands,
        row=row,
        more=more,
        request=(single.request or None) if single is not None else None,
        rows=tuple(number for number, _ in rows),
    )


def _commands(
    result: ReconciliationResult, who: str, rows: Sequence[_Row], causes: tuple[str, ...]
) -> tuple[tuple[str, ...], int | None, int]:
    """The commands for a group, the row they are for (None for the whole group), and how many other rows have commands.

    A command that fixes all differences with one cause is used only if DPS is right in every row and the run is not
    suspicious.
    """
    run_id = result.run_id
    if result.implausible:
        return (), None, 0
    if who == NOMIS_SUPPORT:
        return tuple(command("report", "request", run_id, "--cause", cause) for cause in causes), None, 0
    by_row = {number: () if each.diagnosis is None else each.diagnosis.commands for number, each in rows}
    found = {row: commands for row, commands in by_row.items() if commands}
    if not found:
        return (), None, 0
    row, first = next(iter(found.items()))
    if all(commands == first for commands in by_row.values()):
        return first, None, 0
    bulk = next((match[1] for commands in found.values() for one in commands if (match := _IN_BULK.match(one))), None)
    certain = not result.suspicious and all(
        each.diagnosis is not None and each.diagnosis.right_side == "DPS" for _, each in rows
    )
    if bulk is None or not certain:
        return first, row, len(found) - 1
    # What precedes the fix in a row, such as a look-up, precedes it here too; a comparison follows it.
    at = next((place for place, one in enumerate(first) if _IN_BULK.match(one)), len(first))
    before, after = (
        [one for one in part if all(one in each for each in found.values())] for part in (first[:at], first[at:])
    )
    fixes = [command(*bulk.split(), "--from", run_id, "--cause", cause) for cause in causes]
    return (*before, *fixes, *after), None, 0


def _who(diagnosis: Diagnosis | None) -> str:
    """Who acts on a difference; this team if the difference has no diagnosis.

    Results of earlier versions do not say who acts: in these, a difference with a request is for NOMIS support, and any
    other is for this team.
    """
    if diagnosis is not None and diagnosis.who is not None:
        return capital(diagnosis.who)
    return THIS_TEAM if diagnosis is None or diagnosis.request is None else NOMIS_SUPPORT


def _change(result: ReconciliationResult) -> str:
    """A sentence that compares the number of differences with that of the last complete run.

    Empty if there is no such run, or if this run is not complete, compared nothing or does not cover everyone.
    """
    if Coverage.of(result.parameters) is not Coverage.EVERYONE:
        return ""
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
    """A sentence saying that there are many more differences than a week earlier; empty if there are not."""
    until = result.started_at - _WEEK
    last = next((each for each in reversed(_earlier(result)) if each.started_at <= until), None)
    found = len(result.mismatches)
    if last is None or found < max(_JUMP_TIMES * last.mismatches, last.mismatches + _JUMP_MORE):
        return ""
    return (
        f"There are far more differences ({thousands(found)}) than on {day(last.started_at)} "
        f"({thousands(last.mismatches)}): look for one common cause first, such as a deployment or a data refresh."
    )


def _earlier(result: ReconciliationResult) -> tuple[TrendPoint, ...]:
    """The earlier runs in the trend, oldest first."""
    return tuple(each for each in result.trend if each.run_id != result.run_id)


def _severity(result: ReconciliationResult, actions: tuple[Recommendation, ...], jump: str) -> Severity:
    """How serious the run is.

    A failed or suspicious run is `SERIOUS`. An incomplete run, or one with a difference that somebody has to act on, is
    at least `MEDIUM`; if such a difference is new and serious, the run is `SERIOUS`. Any other run is `INFO`. A jump in
    the number of differences makes an `INFO` run `MEDIUM`, because somebody has to look for the cause, and makes a
    `MEDIUM` run `SERIOUS`.
    """
    if result.status == "failed" or result.suspicious:
        return Severity.SERIOUS
    view = view_of(result)
    found = Severity.INFO
    if result.status == "incomplete" or any(each.who != NOBODY for each in actions):
        found = Severity.MEDIUM
    acted_on = {row for each in actions if each.who != NOBODY for row in each.rows}
    new = [each for row, each in result.rows if each.standing == "new" and row in acted_on]
    if any(view.severity(each) is Severity.SERIOUS for each in new):
        found = Severity.SERIOUS
    if jump:
        return Severity.MEDIUM if found is Severity.INFO else Severity.SERIOUS
    return found
