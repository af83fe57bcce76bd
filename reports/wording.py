"""The sentences that sum up a run, the same in the report, in the email and in Slack."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from reports.causes import CAUSES
from sync.clock import LONDON

if TYPE_CHECKING:
    from reports.result import ReconciliationResult


@dataclass(frozen=True, slots=True)
class CauseCount:
    """One probable cause, how many prisoners it explains, and what is to be done."""

    title: str
    count: int
    right_side: str
    action: str


def headline(result: ReconciliationResult) -> str:
    """What the run found, in one line."""
    different, compared = len(result.mismatches), result.compared
    if result.status == "failed":
        return f"The reconciliation failed; {count(different, 'difference')} found before it did"
    if compared == 1:
        return (
            "The prisoner has different levels" if different else "The prisoner has the same level in NOMIS and in DPS"
        )
    if not different:
        what = (
            f"All {thousands(compared)} prisoners"
            if result.status == "complete"
            else f"{thousands(compared)} prisoners"
        )
        return f"{what} have the same incentive level in NOMIS and in DPS"
    verb = "has" if different == 1 else "have"
    who = f"{thousands(different)} of {thousands(compared)} prisoners"
    return f"{who} {verb} different incentive levels in NOMIS and in DPS"


def summary(result: ReconciliationResult) -> str:
    """New, still there, resolved, and what was left out of the count."""
    parts = [f"{thousands(result.new)} new", f"{thousands(result.persisting)} still there"]
    parts.append(f"{thousands(len(result.resolved))} resolved")
    if result.in_flight:
        parts.append(f"{thousands(len(result.in_flight))} on their way")
    excluded = sum(each.still_differs for each in result.excluded)
    if excluded:
        parts.append(f"{thousands(excluded)} excluded")
    text = ", ".join(parts) + "."
    if result.unneeded_exclusions:
        text += f" {count(len(result.unneeded_exclusions), 'exclusion')} no longer needed."
    return text


def warning(result: ReconciliationResult) -> str | None:
    """What is wrong with the run itself, None when it is complete."""
    if result.status == "failed":
        return f"The run failed: {result.failure}."
    if result.status == "incomplete":
        return f"The run is incomplete: {not_read(result)} could not be read."
    return None


def resume_command(result: ReconciliationResult) -> str | None:
    """The command that reads what an incomplete run could not; None for other runs."""
    if result.status != "incomplete":
        return None
    shards = result.parameters.get("shards", 1)
    of_shards = f" --shards {shards}" if isinstance(shards, int) and shards > 1 else ""
    return f"prisoner-to-nomis reconcile incentives --resume {result.run_id}{of_shards}"


def not_read(result: ReconciliationResult) -> str:
    """How many prisoners and pages could not be read."""
    parts = []
    if result.unread:
        parts.append(count(len(result.unread), "prisoner"))
    if result.unread_pages:
        parts.append(f"{count(len(result.unread_pages), 'page')} of prisoners")
    return " and ".join(parts) or "nobody"


def scope(parameters: dict[str, object]) -> str:
    """Whom the run looked at, empty for everyone."""
    prisons, offenders = parameters.get("prisons"), parameters.get("offender_nos")
    if isinstance(offenders, list) and offenders:
        return count(len(offenders), "prisoner") + " only"
    if isinstance(prisons, list) and prisons:
        return "only " + ", ".join(str(each) for each in prisons)
    return ""


def causes(result: ReconciliationResult) -> list[CauseCount]:
    """The causes of the differences, the most frequent first."""
    counts = Counter(each.diagnosis.number for each in result.mismatches if each.diagnosis)
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        CauseCount(f"{number}. {cause.text}", found, cause.right_side, cause.action)
        for number, found in most_first
        for cause in (CAUSES[number],)
    ]


def thousands(number: int) -> str:
    """A number with commas between the thousands."""
    return f"{number:,}"


def count(number: int, noun: str) -> str:
    """A number and its noun, `1 page`, `2 pages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def local(moment: datetime) -> datetime:
    """A moment as the clocks of London show it; local times stay as they are."""
    return moment if moment.tzinfo is None else moment.astimezone(LONDON)


def day(moment: datetime) -> str:
    """`22 May 2023`."""
    here = local(moment)
    return f"{here.day} {here:%b %Y}"


def short_moment(moment: datetime) -> str:
    """`22 May 2023, 04:00`."""
    return f"{day(moment)}, {local(moment):%H:%M}"


def exact_moment(moment: datetime) -> str:
    """`22 May 2023, 04:00:07`: some records lie seconds apart."""
    return f"{day(moment)}, {local(moment):%H:%M:%S}"


def long_moment(moment: datetime) -> str:
    """`Monday 22 May 2023 at 04:00`."""
    here = local(moment)
    return f"{here:%A} {here.day} {here:%B %Y} at {here:%H:%M}"


def duration(result: ReconciliationResult) -> str:
    """How long the run took."""
    seconds = (result.finished_at - result.started_at).total_seconds()
    if seconds < 90:
        return f"in {seconds:.0f} seconds"
    return f"in {seconds / 60:.0f} minutes"
