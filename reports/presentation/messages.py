"""The Slack messages and the email of a run: a summary, and every mismatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation import summary
from reports.presentation.alerts import slack_code, slack_text
from reports.presentation.csv import render_csv
from reports.presentation.html import environment
from reports.presentation.text import Masking, capital, count, day, short_moment, thousands
from reports.presentation.view import NOT_INVESTIGATED, SIDES
from reports.presentation.what_to_do import what_to_do
from reports.reconciliations.views import view_of

if TYPE_CHECKING:
    from reports.engine.result import Mismatch, ReconciliationResult, Record
    from reports.presentation.view import View

#: Slack takes 40,000 characters in a message, and cuts off what is longer.
LONGEST_SLACK_TEXT = 39_000
MASKED = "Prisoner numbers and bookings are masked here; the report has them whole, in the row of the same number."
#: Mismatches in the body of an email; the attached CSV has them all.
MOST_IN_EMAIL = 200


@dataclass(frozen=True, slots=True)
class SlackReport:
    """The messages of a run: the summary, and the replies in its thread. `csv` is None when nothing differs."""

    summary: str
    thread: tuple[str, ...]
    csv: str | None
    csv_name: str


@dataclass(frozen=True, slots=True)
class EmailReport:
    """The email of a run. `csv` is None when nothing differs."""

    subject: str
    text: str
    html: str
    csv: str | None
    csv_name: str


@dataclass(frozen=True, slots=True)
class _Line:
    """A difference in the email; `difference` says how the sides differ where that does not fit into the cells."""

    cells: tuple[str, ...]
    difference: str | None
    cause: str
    commands: tuple[str, ...]
    request: str | None = None


def slack_report(result: ReconciliationResult, link: str | None, path: str, masking: Masking) -> SlackReport:
    """The Slack messages of a run; `path` is where its report is kept, `link` its address where people reach it."""
    view = view_of(result)
    title = view.failure_title() if result.status == "failed" else view.title()
    lines = [f"*{slack_text(title)}*", slack_text(summary.headline(result))]
    warning = summary.warning(result)
    if warning:
        lines.append(f"*{slack_text(masking.text(warning))}*")
    step = summary.next_step(result)
    if step:
        lines.append(f"{step.text} {slack_code(step.command)}")
    lines.append(slack_text(summary.summary(result)))
    known_by, *others = view.facts
    facts = [known_by, short_moment(result.finished_at), *others, f"severity {what_to_do(result).severity}"]
    lines.append(slack_text(" · ".join(facts)))
    lines.append(slack_code(f"prisoner-to-nomis runs show {result.run_id}"))
    lines.append(f"Report: {slack_text(link)}" if link else f"The report is in {slack_code(path)}")
    if masking.on and (result.mismatches or result.unconfirmed):
        lines.append(MASKED)
    seen = [f"Seen, not confirmed · {slack_text(line)}" for line in _unconfirmed_lines(result, masking)]
    thread = _packed([*(_slack_line(view, number, each, masking) for number, each in result.rows), *seen])
    return SlackReport("\n".join(lines), thread, _csv(result, masking), view.csv_name)


def email_report(result: ReconciliationResult, link: str | None, path: str, masking: Masking) -> EmailReport:
    """The email of a run, as HTML that mail clients show and as plain text; `link` and `path` as for Slack."""
    view = view_of(result)
    shown = result.rows[:MOST_IN_EMAIL]
    headline = summary.headline(result)
    warning = summary.warning(result)
    values = {
        "result": result,
        "headline": headline,
        "warning": masking.text(warning) if warning else None,
        "step": summary.next_step(result),
        "summary": summary.summary(result),
        "masked": MASKED if masking.on and shown else None,
        "link": link,
        "path": path,
        "heads": ("Row", view.heading, "Prison", *(() if view.shows_kind else ("NOMIS", "DPS")), "Since"),
        "rows": [_email_line(view, number, each, masking) for number, each in shown],
        "unconfirmed": _unconfirmed_lines(result, masking)[:MOST_IN_EMAIL],
        "left_out": len(result.mismatches) - len(shown),
    }
    templates = environment()
    return EmailReport(
        subject=f"{result.title}, {result.environment}: {_subject(result)}",
        text=templates.get_template("email.txt.j2").render(values),
        html=templates.get_template("email.html.j2").render(values),
        csv=_csv(result, masking),
        csv_name=view.csv_name,
    )


def _unconfirmed_lines(result: ReconciliationResult, masking: Masking) -> list[str]:
    """The differences that were seen and could not be read again, a line for each."""
    view = view_of(result)
    return [
        f"{' '.join(filter(None, (view.name(each, masking), view.details(each, masking))))}"
        f" · {_difference(view, each, masking)} · {masking.text(each.reason)}"
        for each in result.unconfirmed
    ]


def _difference(view: View, record: Record, masking: Masking) -> str:
    """How both sides differ, on a line."""
    kind = f"{view.kind(record)}: " if view.shows_kind else ""
    nomis, dps = (masking.text(view.side_text(record, side)) for side in SIDES)
    return f"{kind}NOMIS {nomis}, DPS {dps}"


def _csv(result: ReconciliationResult, masking: Masking) -> str | None:
    return render_csv(result, masking) if result.mismatches or result.unconfirmed else None


def _subject(result: ReconciliationResult) -> str:
    """What is new and how much there is, in the few words that a list of mails shows, and how serious it is."""
    severity = what_to_do(result).severity
    if result.status == "failed":
        return f"failed ({severity})"
    parts = ["incomplete"] if result.status == "incomplete" else []
    if result.mismatches:
        parts += [count(len(result.mismatches), "difference"), f"{thousands(result.new)} new"]
    elif not result.compared:
        parts.append("nothing was compared")
    elif result.status == "complete":
        parts.append("no difference")
    return f"{', '.join(parts)} ({severity})"


def _slack_line(view: View, number: int, mismatch: Mismatch, masking: Masking) -> str:
    found = mismatch.diagnosis
    details = view.details(mismatch, masking)
    nomis, dps = (slack_text(masking.text(view.side_text(mismatch, side))) for side in SIDES)
    kind = f"{slack_text(view.kind(mismatch))}: " if view.shows_kind else ""
    first = (
        f"{number} · *{slack_text(view.name(mismatch, masking))}*{f' {slack_text(details)}' if details else ''}"
        f" · {slack_text(mismatch.prison_id or 'prison unknown')}"
        f" · {kind}NOMIS *{nomis}*, DPS *{dps}* · {_standing(mismatch)}"
    )
    if found is None:
        return f"{first}\n      {slack_text(masking.text(mismatch.evidence_missing or NOT_INVESTIGATED))}"
    right = "" if found.right_side == "unknown" else f" ({found.right_side} is right)"
    second = f"      {slack_text(masking.text(view.cause(found)))}{right}. {slack_text(masking.text(found.action))}"
    # Only the request fixes such a difference; the command merely compares again.
    lines = [slack_code(masking.text(found.request))] if found.request else []
    if found.commands:
        lines.append(slack_code(masking.text(found.commands[0])))
    return "\n      ".join([f"{first}\n{second}", *lines])


def _standing(mismatch: Mismatch) -> str:
    return "new" if mismatch.standing == "new" else f"since {day(mismatch.since)}"


def _packed(lines: list[str]) -> tuple[str, ...]:
    """Lines in as few messages as the limit allows."""
    messages: list[str] = []
    for line in lines:
        if messages and len(messages[-1]) + 1 + len(line) <= LONGEST_SLACK_TEXT:
            messages[-1] += f"\n{line}"
        else:
            messages.append(line[:LONGEST_SLACK_TEXT])
    return tuple(messages)


def _email_line(view: View, number: int, mismatch: Mismatch, masking: Masking) -> _Line:
    found = mismatch.diagnosis
    name, details = view.name(mismatch, masking), view.details(mismatch, masking)
    sides = () if view.shows_kind else tuple(masking.text(view.side_text(mismatch, side)) for side in SIDES)
    cells = (
        str(number),
        f"{name} ({details})" if details else name,
        mismatch.prison_id or "unknown",
        *sides,
        "new" if mismatch.standing == "new" else day(mismatch.since),
    )
    difference = capital(_difference(view, mismatch, masking)) if view.shows_kind else None
    if found is None:
        return _Line(cells, difference, masking.text(mismatch.evidence_missing or NOT_INVESTIGATED), ())
    cause = masking.text(f"{capital(view.cause(found))}. {found.action}")
    request = masking.text(found.request) if found.request else None
    return _Line(cells, difference, cause, tuple(masking.text(each) for each in found.commands), request)
