"""The Slack messages about a run: the channel shows what to do; a thread has the newest differences and the files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation import summary
from reports.presentation.message_content import MASKED, left_out, newest_lines, report_files, unconfirmed_lines
from reports.presentation.slack_blocks import context, header, messages, section, slack_code, slack_link, slack_text
from reports.presentation.text import count, short_moment, thousands
from reports.presentation.view import view_of
from reports.presentation.what_to_do import more_groups, what_to_do

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.engine.result import ReconciliationResult
    from reports.presentation.masking import Masking
    from reports.presentation.message_content import Line, ReportFile
    from reports.presentation.slack_blocks import MessageBlock, SlackMessage
    from reports.presentation.what_to_do import Recommendation, WhatToDo

#: The most groups of actions, and the most prisons, in the channel message.
_MOST_ACTIONS = 8
_MOST_PRISONS = 10
_IN_THREAD = "The report is in the thread, as a page to open in a browser."
_TOO_LONG = "The report is too long to send."


@dataclass(frozen=True, slots=True)
class SlackReport:
    """The Slack messages about a run.

    posts: the channel message, then the messages in its thread. files: the files to upload to the thread.
    """

    posts: tuple[SlackMessage, ...]
    files: tuple[ReportFile, ...]


def slack_report(result: ReconciliationResult, link: str | None, path: str, masking: Masking) -> SlackReport:
    """The Slack messages about a run.

    link: the address of the report, or None if the page itself is uploaded. path: where the report is kept, as shown
    to people.
    """
    files = report_files(result, masking, page=link is None)
    if link:
        where = slack_link(link, "Open the report")
    else:
        brought = any(each.kind == "html" for each in files)
        where = f"{_IN_THREAD if brought else _TOO_LONG} It is kept at {slack_code(path)}."
    posts = (*messages(_summary(result, where, masking)), *messages(_differences(result, masking)))
    return SlackReport(posts, files)


def _summary(result: ReconciliationResult, where: str, masking: Masking) -> Iterator[MessageBlock]:
    view, todo = view_of(result), what_to_do(result)
    yield header(view.failure_title() if result.status == "failed" else view.title())
    severity = f"Severity *{todo.severity}*: {todo.severity.act}."
    known = " ".join(filter(None, (summary.summary(result), todo.change)))
    yield section(f"*{slack_text(todo.headline)}.*", severity, slack_text(known))
    warning, steps = summary.warning(result), summary.next_steps(result)
    if warning:
        how = [f"{each.text} {slack_code(each.command)}" for each in steps]
        yield section(f"*{slack_text(masking.text(warning))}*", *how)
    if todo.jump:
        yield section(f"*{slack_text(todo.jump)}*")
    yield from _actions(todo, masking)
    if len(result.mismatches) > 1:
        yield section(_by_prison(result))
    yield section(where)
    yield context(
        slack_text(" · ".join((*view.facts, short_moment(result.finished_at)))),
        slack_code(f"prisoner-to-nomis runs show {result.run_id}"),
        MASKED if masking.on and (result.mismatches or result.unconfirmed) else "",
    )


def _actions(todo: WhatToDo, masking: Masking) -> Iterator[MessageBlock]:
    for each in todo.actions[:_MOST_ACTIONS]:
        yield section(*_action(each, masking))
    if more := more_groups(todo, _MOST_ACTIONS):
        yield section(more)


def _action(action: Recommendation, masking: Masking) -> Iterator[str]:
    yield f"*{slack_text(action.who)}* · {slack_text(masking.text(action.what))}"
    yield slack_text(" ".join(filter(None, (action.figures, action.elsewhere))))
    yield slack_text(masking.text(action.why))
    yield from (slack_code(masking.text(each)) for each in action.commands)


def _by_prison(result: ReconciliationResult) -> str:
    affected = sorted(
        (each for each in result.prisons if each.mismatches), key=lambda each: (-each.mismatches, each.prison_id or "~")
    )
    named = [
        f"{slack_text(each.prison_id or 'unknown')} {thousands(each.mismatches)}"
        + (f" ({thousands(each.new)} new)" if each.new else "")
        for each in affected[:_MOST_PRISONS]
    ]
    more = len(affected) - len(named)
    return " · ".join(["*By prison*", *named, *([f"and {count(more, 'other prison')}"] if more > 0 else [])])


def _differences(result: ReconciliationResult, masking: Masking) -> Iterator[MessageBlock]:
    for each in newest_lines(result, masking):
        yield section(*_line(each))
    for line in unconfirmed_lines(result, masking):
        yield section(f"Seen, not confirmed · {slack_text(line)}")
    more = left_out(result)
    if more:
        yield section(
            f"{thousands(more)} more {'difference is' if more == 1 else 'differences are'} in the report "
            "and in the CSV."
        )


def _line(line: Line) -> Iterator[str]:
    name = f"*{slack_text(line.name)}*{f' {slack_text(line.details)}' if line.details else ''}"
    kind = f"{slack_text(line.kind)}: " if line.kind else ""
    sides = f"{kind}NOMIS *{slack_text(line.nomis)}*, DPS *{slack_text(line.dps)}*"
    yield f"{line.row} · {name} · {slack_text(line.prison)} · {sides} · {line.since}"
    yield slack_text(line.cause)
    # If a difference has a request, only NOMIS support can fix it; its command just compares both sides again.
    if line.request:
        yield slack_code(line.request)
    yield from map(slack_code, line.commands[:1])
