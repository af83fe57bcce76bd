"""The Slack messages and the email of a run: a summary, and every mismatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation import summary
from reports.presentation.alerts import alert_title, slack_code, slack_text
from reports.presentation.csv import render_csv
from reports.presentation.html import environment
from reports.presentation.text import Masking, day, short_moment
from reports.reconciliations.incentives.events import REPORT

if TYPE_CHECKING:
    from reports.reconciliations.incentives.result import IncentiveMismatch, IncentiveResult

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
    cells: tuple[str, ...]
    cause: str
    commands: tuple[str, ...]
    request: str | None = None


def slack_report(result: IncentiveResult, link: str | None, path: str, masking: Masking) -> SlackReport:
    """The Slack messages of a run; `path` is where its report is kept, `link` its address where people reach it."""
    lines = [f"*{slack_text(_title(result))}*", slack_text(summary.headline(result))]
    warning = summary.warning(result)
    if warning:
        lines.append(f"*{slack_text(masking.text(warning))}*")
    step = summary.next_step(result)
    if step:
        lines.append(f"{step.text} {slack_code(step.command)}")
    lines.append(slack_text(summary.summary(result)))
    facts = [REPORT, short_moment(result.finished_at), "domain incentives", f"severity {_severity(result)}"]
    lines.append(slack_text(" · ".join(facts)))
    lines.append(slack_code(f"prisoner-to-nomis runs show {result.run_id}"))
    lines.append(f"Report: {slack_text(link)}" if link else f"The report is in {slack_code(path)}")
    if masking.on and (result.mismatches or result.unconfirmed):
        lines.append(MASKED)
    seen = [f"Seen, not confirmed · {slack_text(line)}" for line in _unconfirmed_lines(result, masking)]
    thread = _packed([*(_slack_line(number, each, masking) for number, each in result.rows), *seen])
    return SlackReport("\n".join(lines), thread, _csv(result, masking), csv_name(result))


def email_report(result: IncentiveResult, link: str | None, path: str, masking: Masking) -> EmailReport:
    """The email of a run, as HTML that mail clients show and as plain text; `link` and `path` as for Slack."""
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
        "rows": [_email_line(number, each, masking) for number, each in shown],
        "unconfirmed": _unconfirmed_lines(result, masking)[:MOST_IN_EMAIL],
        "left_out": len(result.mismatches) - len(shown),
    }
    templates = environment()
    return EmailReport(
        subject=f"Incentive levels, {result.environment}: {headline}",
        text=templates.get_template("email.txt.j2").render(values),
        html=templates.get_template("email.html.j2").render(values),
        csv=_csv(result, masking),
        csv_name=csv_name(result),
    )


def _unconfirmed_lines(result: IncentiveResult, masking: Masking) -> list[str]:
    """The differences that were seen and could not be read again, a line for each."""
    return [
        f"{masking.offender(each.offender_no)} booking {masking.booking(each.booking_id)}"
        f" · NOMIS {each.nomis_level or 'none'}, DPS {each.dps_level or 'none'} · {masking.text(each.reason)}"
        for each in result.unconfirmed
    ]


def csv_name(result: IncentiveResult) -> str:
    """The name of the CSV where it stands alone."""
    return f"incentive-mismatches-{result.run_id}.csv"


def _csv(result: IncentiveResult, masking: Masking) -> str | None:
    return render_csv(result, masking) if result.mismatches or result.unconfirmed else None


def _title(result: IncentiveResult) -> str:
    if result.status == "failed":
        return f"The incentive reconciliation failed in {result.environment}"
    if result.mismatches:
        return alert_title(REPORT, result.environment)
    return f"Incentive reconciliation in {result.environment}"


def _severity(result: IncentiveResult) -> str:
    if result.status == "failed":
        return "high"
    return "medium" if result.mismatches or result.status == "incomplete" else "info"


def _slack_line(number: int, mismatch: IncentiveMismatch, masking: Masking) -> str:
    found = mismatch.diagnosis
    state = "new" if mismatch.standing == "new" else f"since {day(mismatch.since)}"
    first = (
        f"{number} · *{slack_text(masking.offender(mismatch.offender_no))}*"
        f" booking {masking.booking(mismatch.booking_id)}"
        f" · {slack_text(mismatch.prison_id or 'prison unknown')}"
        f" · NOMIS *{slack_text(mismatch.nomis_level or 'none')}*"
        f", DPS *{slack_text(mismatch.dps_level or 'none')}* · {state}"
    )
    if found is None:
        return f"{first}\n      {slack_text(masking.text(mismatch.evidence_missing or 'not investigated'))}"
    right = "" if found.right_side == "unknown" else f" ({found.right_side} is right)"
    second = f"      {found.number}. {slack_text(found.cause)}{right}. {slack_text(masking.text(found.action))}"
    # Only the request fixes such a difference; the command merely compares again.
    lines = [slack_code(masking.text(found.request))] if found.request else []
    if found.commands:
        lines.append(slack_code(masking.text(found.commands[0])))
    return "\n      ".join([f"{first}\n{second}", *lines])


def _packed(lines: list[str]) -> tuple[str, ...]:
    """Lines in as few messages as the limit allows."""
    messages: list[str] = []
    for line in lines:
        if messages and len(messages[-1]) + 1 + len(line) <= LONGEST_SLACK_TEXT:
            messages[-1] += f"\n{line}"
        else:
            messages.append(line[:LONGEST_SLACK_TEXT])
    return tuple(messages)


def _email_line(number: int, mismatch: IncentiveMismatch, masking: Masking) -> _Line:
    found = mismatch.diagnosis
    cells = (
        str(number),
        f"{masking.offender(mismatch.offender_no)} (booking {masking.booking(mismatch.booking_id)})",
        mismatch.prison_id or "unknown",
        mismatch.nomis_level or "none",
        mismatch.dps_level or "none",
        "new" if mismatch.standing == "new" else day(mismatch.since),
    )
    if found is None:
        return _Line(cells, masking.text(mismatch.evidence_missing or "not investigated"), ())
    cause = f"{found.number}. {found.cause}. {masking.text(found.action)}"
    request = masking.text(found.request) if found.request else None
    return _Line(cells, cause, tuple(masking.text(command) for command in found.commands), request)
