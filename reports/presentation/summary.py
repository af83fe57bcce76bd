"""The sentences that sum up a run, the same in the report, in the email and in Slack."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from reports.reconciliations.incentives.causes import CAUSES
from sync.clock import LONDON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.engine.result import ReconciliationResult


@dataclass(frozen=True, slots=True)
class CauseCount:
    """One probable cause, how many prisoners it explains, and what is to be done."""

    title: str
    count: int
    right_side: str
    action: str


def headline(result: ReconciliationResult) -> str:
    """What the run found, in one line. Of a run that is not complete it sounds like no success."""
    if result.status == "failed":
        return _headline_of_failure(result)
    different, compared = len(result.mismatches), result.compared
    complete = result.status == "complete"
    if not compared:
        found = "no prisoner was compared"
    elif different:
        found = _have_different_levels(different, compared)
    elif complete:
        found = _have_the_same_level(result)
    elif result.unconfirmed:
        found = f"{count(len(result.unconfirmed), 'difference')} seen and not confirmed"
    else:
        found = f"no difference found among {count(compared, 'prisoner')}"
    return found[0].upper() + found[1:] if complete else f"Incomplete: {found}"


def _headline_of_failure(result: ReconciliationResult) -> str:
    different, compared = len(result.mismatches), result.compared
    if not compared:
        return "The reconciliation failed before any prisoner was compared"
    listed = of_listed(result)
    who = f"{thousands(compared)} {listed} prisoners" if listed else count(compared, "prisoner")
    if different:
        return f"The reconciliation failed; before that it found {count(different, 'difference')} among {who}"
    return f"The reconciliation failed after it had compared {who}"


def _have_different_levels(different: int, compared: int) -> str:
    if compared == 1:
        return "the prisoner has different levels"
    who = f"{thousands(different)} of {thousands(compared)} prisoners"
    return f"{who} {'has' if different == 1 else 'have'} different incentive levels in NOMIS and in DPS"


def _have_the_same_level(result: ReconciliationResult) -> str:
    compared, besides = result.compared, _besides(result)
    if besides:
        return f"no difference among {count(compared, 'prisoner')}, besides {besides}"
    if compared == 1:
        return "the prisoner has the same level in NOMIS and in DPS"
    return f"all {thousands(compared)} prisoners have the same incentive level in NOMIS and in DPS"


def _besides(result: ReconciliationResult) -> str:
    """The differences that do not count, empty where there are none."""
    excluded = sum(each.differs for each in result.excluded)
    parts = [f"{thousands(len(result.in_flight))} on their way"] if result.in_flight else []
    if excluded:
        parts.append(f"{thousands(excluded)} excluded")
    return " and ".join(parts)


def of_listed(result: ReconciliationResult) -> str:
    """`of 87,012`, those whom the run set out to compare; empty where that is not known, or no more than it did."""
    set_out = 0 if result.parameters.get("prisons") else result.listed
    return f"of {thousands(set_out)}" if set_out > result.compared else ""


def summary(result: ReconciliationResult) -> str:
    """New, still there, resolved, and what was left out of the count; what is not known where a run is not complete."""
    finished = result.status == "complete" and result.compared > 0
    different = bool(result.mismatches)
    parts = [
        (result.new, "new", finished or different),
        (result.persisting, "still there", finished or different),
        (len(result.resolved), "resolved", finished),
        (len(result.in_flight), "on their way", False),
        (sum(each.still_differs for each in result.excluded), "excluded", False),
        (len(result.unconfirmed), "seen, not confirmed", False),
        (len(result.unread) if result.status == "failed" else 0, "could not be read", False),
    ]
    told = ", ".join(f"{thousands(number)} {what}" for number, what, always in parts if number or always)
    sentences = [f"{told}."] if told else []
    if result.unneeded_exclusions:
        sentences.append(f"{count(len(result.unneeded_exclusions), 'exclusion')} no longer needed.")
    limits = reach(result)
    if limits:
        sentences.append(limits)
    return " ".join(sentences)


def warning(result: ReconciliationResult) -> str | None:
    """What is wrong with the run itself, None when it is complete."""
    if result.status == "failed":
        return f"The run failed: {result.failure}."
    if result.status == "incomplete":
        return f"The run is incomplete: {shortfall(result)}."
    return None


def reach(result: ReconciliationResult) -> str | None:
    """How far what was found goes, None where it goes for everyone."""
    if not result.compared:
        return "No prisoner was compared, so nothing is known about differences."
    if result.status == "failed":
        return "What was found before the run failed is not the whole picture."
    if result.unread or result.unread_pages:
        if len(result.unconfirmed) == len(result.unread) and not result.unread_pages:
            return "The differences of those who were not read again are not confirmed."
        return "Nothing is known about those who were not read."
    if result.empty_prisons:
        return f"Nothing is known about {' and '.join(result.empty_prisons)}."
    return None


def none_found(result: ReconciliationResult) -> str:
    """That no difference was found, and among whom."""
    limits = reach(result)
    if limits is None:
        besides = _besides(result)
        return (
            f"Nobody differs besides {besides}."
            if besides
            else "Every prisoner has the same level in NOMIS and in DPS."
        )
    who = f"the {count(result.compared, 'prisoner')} compared"
    if result.unconfirmed:
        seen = count(len(result.unconfirmed), "difference")
        others = f"Among the others the first look saw {seen}, which could not be read again."
        return f"No difference was found among {who}. {others}"
    return f"No difference was found among {who}. About the others nothing is known."


def since(result: ReconciliationResult) -> str:
    """Since when a difference counts as new."""
    earlier = [point.started_at for point in result.trend if point.run_id != result.run_id]
    if not (result.compared_with and earlier):
        return "no earlier run to compare with"
    last = earlier[-1]
    time, *_ = times_apart([last, result.started_at])
    return f"since {day(last)}{', ' if time else ''}{time}"


def times_apart(moments: Sequence[datetime]) -> list[str]:
    """The time of each moment, as exact as it must be to tell it from the others; empty where the day alone does."""
    days = Counter(day(each) for each in moments)
    minutes = Counter(short_moment(each) for each in moments)

    def time(moment: datetime) -> str:
        if minutes[short_moment(moment)] > 1:
            return f"{local(moment):%H:%M:%S}"
        return f"{local(moment):%H:%M}" if days[day(moment)] > 1 else ""

    return [time(each) for each in moments]


def moments_apart(moments: Sequence[datetime]) -> list[str]:
    """Each moment to the minute, or to the second where two share the minute."""
    minutes = Counter(short_moment(each) for each in moments)
    return [exact_moment(each) if minutes[short_moment(each)] > 1 else short_moment(each) for each in moments]


@dataclass(frozen=True, slots=True)
class Step:
    """What comes next: when, and the command."""

    text: str
    command: str


def next_step(result: ReconciliationResult) -> Step | None:
    """How a run that read not everybody is mended; None where no command reads more."""
    if result.status == "failed":
        command = f"prisoner-to-nomis runs rerun {result.run_id}"
        return Step("When `prisoner-to-nomis check` finds nothing down, run it again:", command)
    if any(each.listed for each in result.unread) or result.unread_pages:
        shards = result.parameters.get("shards", 1)
        of_shards = f" --shards {shards}" if isinstance(shards, int) and shards > 1 else ""
        return Step("Resume it:", f"prisoner-to-nomis reconcile incentives --resume {result.run_id}{of_shards}")
    return None


def shortfall(result: ReconciliationResult) -> str:
    """What an incomplete run lacks: who could not be read or found, and prisons where nobody was."""
    unread = []
    listed = sum(each.listed for each in result.unread)
    if listed:
        unread.append(count(listed, "prisoner"))
    if result.unread_pages:
        unread.append(f"{count(len(result.unread_pages), 'page')} of prisoners")
    parts = [f"{' and '.join(unread)} could not be read"] if unread else []
    unknown = len(result.unread) - listed
    if unknown:
        parts.append(
            f"{count(unknown, 'prisoner')} asked for {'is' if unknown == 1 else 'are'} not among the active ones"
        )
    if result.empty_prisons:
        chosen = result.parameters.get("offender_nos")
        nobody = "none of the prisoners asked for" if chosen else "no active prisoner"
        parts.append(f"{nobody} was found at {', '.join(result.empty_prisons)}")
    return "; ".join(parts)


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


def day(moment: datetime | date) -> str:
    """`22 May 2023`."""
    here = local(moment) if isinstance(moment, datetime) else moment
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
        return count(round(seconds), "second")
    return count(round(seconds / 60), "minute")
