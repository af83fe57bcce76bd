"""What a run found, in sentences and figures: the same in the report, in the email and in Slack."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.presentation.text import count, day, distinct_times, thousands
from reports.reconciliations.incentives.causes import CAUSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.reconciliations.incentives.result import IncentiveResult


@dataclass(frozen=True, slots=True)
class CauseCount:
    """One probable cause, how many prisoners it explains, and what to do about it."""

    title: str
    count: int
    right_side: str
    action: str


def headline(result: IncentiveResult) -> str:
    """What the run found, in one line. An incomplete or failed run never sounds like a success."""
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


def _headline_of_failure(result: IncentiveResult) -> str:
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


def _have_the_same_level(result: IncentiveResult) -> str:
    compared, besides = result.compared, _besides(result)
    if besides:
        return f"no difference among {count(compared, 'prisoner')}, besides {besides}"
    if compared == 1:
        return "the prisoner has the same level in NOMIS and in DPS"
    return f"all {thousands(compared)} prisoners have the same incentive level in NOMIS and in DPS"


def _besides(result: IncentiveResult) -> str:
    """The differences that do not count; empty without any."""
    excluded = sum(each.differs for each in result.excluded)
    parts = [f"{thousands(len(result.in_flight))} in flight"] if result.in_flight else []
    if excluded:
        parts.append(f"{thousands(excluded)} excluded")
    return " and ".join(parts)


def of_listed(result: IncentiveResult) -> str:
    """`of 87,012`, the prisoners the run set out to compare; empty if unknown, or if it compared all of them."""
    set_out = 0 if result.parameters.get("prisons") else result.listed
    return f"of {thousands(set_out)}" if set_out > result.compared else ""


def summary(result: IncentiveResult) -> str:
    """New, persisting, resolved, what was left out of the count, and what is not known."""
    finished = result.status == "complete" and result.compared > 0
    different = bool(result.mismatches)
    parts = [
        (result.new, "new", finished or different),
        (result.persisting, "persisting", finished or different),
        (len(result.resolved), "resolved", finished),
        (len(result.in_flight), "in flight", False),
        (sum(each.still_differs for each in result.excluded), "excluded", False),
        (len(result.unconfirmed), "seen, not confirmed", False),
        (len(result.unread) if result.status == "failed" else 0, "could not be read", False),
    ]
    counted = ", ".join(f"{thousands(number)} {what}" for number, what, always in parts if number or always)
    sentences = [f"{counted}."] if counted else []
    if result.unneeded_exclusions:
        sentences.append(f"{count(len(result.unneeded_exclusions), 'exclusion')} no longer needed.")
    limits = reach(result)
    if limits:
        sentences.append(limits)
    return " ".join(sentences)


def warning(result: IncentiveResult) -> str | None:
    """What is wrong with the run itself, None when it is complete."""
    if result.status == "failed":
        return f"The run failed: {result.failure}."
    if result.status == "incomplete":
        return f"The run is incomplete: {shortfall(result)}."
    return None


def reach(result: IncentiveResult) -> str | None:
    """About whom the run says nothing; None if it covers everyone."""
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


def none_found(result: IncentiveResult) -> str:
    """The sentence that no difference was found, and among whom."""
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
        others = f"The first reading saw {seen} among the others, which could not be read again."
        return f"No difference was found among {who}. {others}"
    return f"No difference was found among {who}. About the others nothing is known."


def since(result: IncentiveResult) -> str:
    """The note on since when a difference counts as new."""
    earlier = [point.started_at for point in result.trend if point.run_id != result.run_id]
    if not (result.compared_with and earlier):
        return "no earlier run to compare with"
    last = earlier[-1]
    time, *_ = distinct_times([last, result.started_at])
    return f"since {day(last)}{', ' if time else ''}{time}"


@dataclass(frozen=True, slots=True)
class Step:
    """The next command for a run that is not complete, and when to give it."""

    text: str
    command: str


def next_step(result: IncentiveResult) -> Step | None:
    """The command that reads what this run could not read; None where no command would."""
    if result.status == "failed":
        command = f"prisoner-to-nomis runs rerun {result.run_id}"
        return Step("When `prisoner-to-nomis check` finds nothing down, run it again:", command)
    if any(each.listed for each in result.unread) or result.unread_pages:
        shards = result.parameters.get("shards", 1)
        of_shards = f" --shards {shards}" if isinstance(shards, int) and shards > 1 else ""
        return Step("Resume it:", f"prisoner-to-nomis reconcile incentives --resume {result.run_id}{of_shards}")
    return None


def shortfall(result: IncentiveResult) -> str:
    """What an incomplete run lacks: who could not be read or found, and prisons without anybody."""
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


def scope(parameters: Mapping[str, object]) -> str:
    """Whom the run covers; empty for everyone."""
    prisons, offenders = parameters.get("prisons"), parameters.get("offender_nos")
    if isinstance(offenders, list) and offenders:
        return count(len(offenders), "prisoner") + " only"
    if isinstance(prisons, list) and prisons:
        return "only " + ", ".join(str(each) for each in prisons)
    return ""


def causes(result: IncentiveResult) -> list[CauseCount]:
    """The causes of the differences, the most frequent first."""
    counts = Counter(each.diagnosis.number for each in result.mismatches if each.diagnosis)
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        CauseCount(f"{number}. {cause.text}", found, cause.right_side, cause.action)
        for number, found in most_first
        for cause in (CAUSES[number],)
    ]


def duration(result: IncentiveResult) -> str:
    """How long the run took."""
    seconds = (result.finished_at - result.started_at).total_seconds()
    if seconds < 90:
        return count(round(seconds), "second")
    return count(round(seconds / 60), "minute")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: what it counts, how many, and of what or since when."""

    label: str
    value: int
    note: str


def figures(result: IncentiveResult) -> list[Figure]:
    """The figures at the top of the report; a run that is not complete has no zeros for what it cannot know."""
    complete, different = result.status == "complete", len(result.mismatches)
    found = []
    if result.status == "failed" and result.compared:
        listed = of_listed(result)
        found.append(Figure("Compared", result.compared, f"{listed}{' ' if listed else ''}before the run failed"))
        found.append(Figure("Different", different, "among them"))
    elif result.compared:
        found.append(Figure("Different", different, f"of {thousands(result.compared)} compared"))
    if different or (complete and result.compared):
        found.append(Figure("New", result.new, since(result)))
        found.append(Figure("Persisting", result.persisting, "known from earlier runs"))
    if result.resolved or (complete and result.compared):
        found.append(Figure("Resolved", len(result.resolved), "since the last run"))
    if result.unconfirmed:
        found.append(Figure("Not confirmed", len(result.unconfirmed), "seen once, not read again"))
    if complete or result.unread or result.unread_pages:
        found.append(_unread_figure(result))
    return found


def _unread_figure(result: IncentiveResult) -> Figure:
    prisoners, pages = len(result.unread), len(result.unread_pages)
    noun = "prisoner" if prisoners == 1 else "prisoners"
    of_prisoners = f"page{'' if pages == 1 else 's'} of prisoners"
    if pages and not prisoners:
        number, note = pages, of_prisoners
    else:
        number, note = prisoners, f"{noun} and {count(pages, 'page')}" if pages else noun
    return Figure("Could not be read", number, f"{note} before the run failed" if result.status == "failed" else note)
