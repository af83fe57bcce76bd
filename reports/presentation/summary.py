"""What a run found, in sentences and figures that the report, the email and the Slack messages share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from reports.engine.runs import Coverage, resume_command
from reports.presentation.text import count, day, distinct_times, thousands
from reports.presentation.view import view_of
from sync.alerting import command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reports.engine.result import ReconciliationResult, Unread
    from reports.presentation.view import View

#: The most units, such as prisons, that are named if they could not be read; a larger number is only counted.
_MOST_NAMED = 3


def headline(result: ReconciliationResult) -> str:
    """What the run found, as a clause that begins with a capital letter.

    It gives the day and is in the past tense, so it stays true. The headline of an incomplete or failed run never
    sounds like a success.
    """
    on = f"n {day(result.started_at)}, "
    if result.status == "failed":
        return f"O{on}{_headline_of_failure(result)}"
    view, compared = view_of(result), result.compared
    complete = result.status == "complete"
    if not compared:
        found = f"no {view.noun} was compared"
    elif result.mismatches:
        found = f"{view.differ()}{_new(result)}"
    elif complete and (not_counted := _not_counted(result)):
        found = f"no difference was found among {view.count(compared)}, apart from {not_counted}"
    elif complete:
        found = view.agree()
    elif result.unconfirmed:
        seen = len(result.unconfirmed)
        found = f"{count(seen, 'difference')} {'was' if seen == 1 else 'were'} seen and not confirmed"
    else:
        found = f"no difference was found among {view.count(compared)}"
    return f"O{on}{found}" if complete else f"Incomplete: o{on}{found}"


def _new(result: ReconciliationResult) -> str:
    """How many differences were new, as the end of a clause; empty if there is no earlier run to compare with."""
    different, new = len(result.mismatches), result.new
    if result.compared_with is None:
        return ""
    if different == 1:
        return "; it was new" if new else "; it was known"
    if new in (0, different):
        return f"; {'all were' if new else 'none was'} new"
    return f"; {thousands(new)} {'was' if new == 1 else 'were'} new"


def _headline_of_failure(result: ReconciliationResult) -> str:
    view, different, compared = view_of(result), len(result.mismatches), result.compared
    if not compared:
        return f"the reconciliation failed before any {view.noun} was compared"
    listed = _of_listed(result)
    who = f"{thousands(compared)} {listed} {result.counted}" if listed else view.count(compared)
    if different:
        return f"the reconciliation failed; before that it found {count(different, 'difference')} among {who}"
    return f"the reconciliation failed after it had compared {who}"


def _not_counted(result: ReconciliationResult) -> str:
    """How many differences are in flight or excluded and so do not count; empty if there are none."""
    excluded = sum(each.differs for each in result.excluded)
    parts = [f"{thousands(len(result.in_flight))} in flight"] if result.in_flight else []
    if excluded:
        parts.append(f"{thousands(excluded)} excluded")
    return " and ".join(parts)


def _of_listed(result: ReconciliationResult) -> str:
    """`of 87,012`: how many records the run set out to compare; empty if that is unknown or all were compared."""
    set_out = 0 if result.parameters.get("prisons") else result.listed
    return f"of {thousands(set_out)}" if set_out > result.compared else ""


def summary(result: ReconciliationResult) -> str:
    """The figures of a run in sentences.

    They say how many differences are new, persisting, resolved and so on, how many there are of each kind, how many
    exclusions are no longer needed, and what is not known.
    """
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
    kinds = _kinds_text(result)
    if kinds:
        sentences.append(kinds)
    if result.unneeded_exclusions:
        sentences.append(_unneeded(len(result.unneeded_exclusions)))
    limits = reach(result)
    if limits:
        sentences.append(limits)
    return " ".join(sentences)


def _unneeded(number: int) -> str:
    return f"{count(number, 'exclusion')} {'is' if number == 1 else 'are'} no longer needed."


def _kinds_text(result: ReconciliationResult) -> str:
    """How many differences are of each kind; empty if there is only one kind, or if the values show the kind."""
    view = view_of(result)
    kinds = view.kinds()
    if not view.shows_kind or len(kinds) < 2:
        return ""
    counted = "; ".join(f"{thousands(each.mismatches)} {each.name}" for each in kinds)
    return f"By kind: {counted}."


def warning(result: ReconciliationResult) -> str | None:
    """What is wrong with the run itself, as sentences, or None if it is complete and plausible."""
    if result.status == "failed":
        return f"The run failed: {result.failure}."
    if result.status == "incomplete":
        return " ".join(filter(None, (f"The run is incomplete: {shortfall(result)}.", suspicion(result))))
    return suspicion(result)


def suspicion(result: ReconciliationResult) -> str | None:
    """A sentence saying why the differences are suspicious, or None if they are not."""
    return f"The differences are suspicious: {result.suspicious}." if result.suspicious else None


def reach(result: ReconciliationResult) -> str | None:
    """A sentence saying what the run leaves unknown, or None if it leaves nothing unknown."""
    if not result.compared:
        return f"No {view_of(result).noun} was compared, so nothing is known about differences."
    if result.status == "failed":
        return "The run failed, so there may be more differences."
    if result.unread or result.gaps:
        if len(result.unconfirmed) == len(result.unread) and not result.gaps:
            return "The differences that could not be read again are not confirmed."
        return "Nothing is known about records that were not read."
    if result.empty_prisons:
        return f"Nothing is known about {' and '.join(result.empty_prisons)}."
    excluded = sum(each.unread is not None for each in result.excluded)
    if excluded:
        records = count(excluded, f"excluded {view_of(result).noun}", f"excluded {result.counted}")
        return f"{records} could not be read."
    return None


def none_found(result: ReconciliationResult) -> str:
    """Sentences saying among which records no difference was found, and what is not known about the others."""
    view = view_of(result)
    limits = reach(result)
    not_counted = _not_counted(result)
    if limits is None:
        return f"Nothing differs apart from {not_counted}." if not_counted else view.everything_agrees()
    who = f"the {view.count(result.compared)} compared{f', apart from {not_counted}' if not_counted else ''}"
    if result.unconfirmed:
        seen = count(len(result.unconfirmed), "difference")
        others = f"The first reading found {seen} among the other {result.counted}, which could not be read again."
        return f"No difference was found among {who}. {others}"
    return f"No difference was found among {who}. Nothing is known about the other {result.counted}."


def since(result: ReconciliationResult) -> str:
    """A note saying since when a difference counts as new, or that there is no earlier run to compare with."""
    earlier = [point.started_at for point in result.trend if point.run_id != result.run_id]
    if not (result.compared_with and earlier):
        return "no earlier run to compare with"
    last = earlier[-1]
    time, *_ = distinct_times([last, result.started_at])
    return f"since {day(last)}{' at ' if time else ''}{time}"


@dataclass(frozen=True, slots=True)
class Step:
    """A next command for a run that is not complete. text: the words that introduce the command."""

    text: str
    command: str


def next_steps(result: ReconciliationResult) -> tuple[Step, ...]:
    """The commands that repeat or accept a failed run, or resume an incomplete one; empty if nothing is left to read.

    If there are two, the words say which one to choose.
    """
    if result.status == "failed":
        rerun = command("runs", "rerun", result.run_id)
        if not result.implausible:
            checked = "When `prisoner-to-nomis check` reports that everything is up, run the reconciliation again:"
            return (Step(checked, rerun),)
        check = "Check in NOMIS and DPS whether the data is right. If it is wrong, have it corrected, then run the "
        steps = [Step(f"{check}reconciliation again:", rerun)]
        if Coverage.of(result.parameters) is Coverage.EVERYONE:
            accept = command("reconcile", result.reconciliation, "--accept", result.run_id)
            steps.append(Step("If the data is right, accept it once:", accept))
        return tuple(steps)
    if any(each.listed for each in result.unread) or result.gaps:
        shards = result.parameters.get("shards", 1)
        resume = resume_command(result.reconciliation, result.run_id, shards if isinstance(shards, int) else 1)
        return (Step("Resume the run:", resume),)
    return ()


def shortfall(result: ReconciliationResult) -> str:
    """What an incomplete run lacks, as a clause.

    The clause says what could not be read, what was not found, and which of the requested prisons have no records.
    """
    view = view_of(result)
    listed = [each for each in result.unread if each.listed]
    unread = _unread_texts(listed, view)
    if result.gaps:
        unread.append(view.gaps(len(result.gaps)))
    parts = [f"{_listed(unread)} could not be read"] if unread else []
    unknown = len(result.unread) - len(listed)
    if unknown:
        parts.append(view.not_found(unknown))
    if result.empty_prisons:
        parts.append(view.none_at(result.empty_prisons))
    return "; ".join(parts)


def _unread_texts(unread: Sequence[Unread], view: View) -> list[str]:
    """What could not be read, as texts: how many records, and which whole units, such as prisons.

    If there are more than `_MOST_NAMED` units, they are only counted.
    """
    units = list(dict.fromkeys(each.unit for each in unread if each.unit is not None and not each.key))
    records = sum(each.unit is None or bool(each.key) for each in unread)
    texts = [view.count(records)] if records else []
    return texts + (units if len(units) <= _MOST_NAMED else [count(len(units), "part")])


def _listed(texts: Sequence[str]) -> str:
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def scope(parameters: Mapping[str, object]) -> str:
    """What a run covered, according to its parameters: `only LEI, 22 May 2023`; empty if it had no restrictions."""
    prisons, offenders = parameters.get("prisons"), parameters.get("offender_nos")
    parts = []
    if isinstance(offenders, list) and offenders:
        parts.append(count(len(offenders), "prisoner") + " only")
    elif isinstance(prisons, list) and prisons:
        parts.append(f"only {_listed([str(each) for each in prisons])}")
    return ", ".join(filter(None, (*parts, days(parameters))))


def days(parameters: Mapping[str, object]) -> str:
    """The days that a run covered, as its parameters say: `22 May 2023 to 24 May 2023`; empty if they give none."""
    first, last = (_day(parameters.get(name)) for name in ("from_date", "to_date"))
    if first is None or last is None:
        return first or last or ""
    return first if first == last else f"{first} to {last}"


def _day(value: object) -> str | None:
    try:
        return day(date.fromisoformat(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def duration(result: ReconciliationResult) -> str:
    """How long the run took, in seconds or minutes: `12 minutes`."""
    seconds = (result.finished_at - result.started_at).total_seconds()
    if seconds < 90:
        return count(round(seconds), "second")
    return count(round(seconds / 60), "minute")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure at the top of the report.

    label: what it counts. value: the number. note: words that explain the number, such as the total that it is part of,
    or the day since which differences count as new. query: the filter that shows the differences counted, empty for all
    differences, or None if the list of differences does not contain what is counted. part: if `query` is None, the id
    of the part of the page that lists what is counted, or empty if no part lists it.
    """

    label: str
    value: int
    note: str
    query: str | None = None
    part: str = ""


def figures(result: ReconciliationResult) -> list[Figure]:
    """The figures at the top of the report, without zeros for what an incomplete or failed run leaves unknown."""
    complete, different = result.status == "complete", len(result.mismatches)
    found = []
    if result.status == "failed" and result.compared:
        listed = _of_listed(result)
        found.append(Figure("Compared", result.compared, f"{listed}{' ' if listed else ''}before the run failed"))
        found.append(Figure("Different", different, f"among the {result.counted} compared", ""))
    elif result.compared:
        found.append(Figure("Different", different, f"of {thousands(result.compared)} compared", ""))
    if different or (complete and result.compared):
        found.append(Figure("New", result.new, since(result), "standing=new"))
        found.append(Figure("Persisting", result.persisting, "known from earlier runs", "standing=persisting"))
    if result.resolved or (complete and result.compared):
        found.append(Figure("Resolved", len(result.resolved), "since the last run", part="resolved"))
    if result.unconfirmed:
        found.append(Figure("Not confirmed", len(result.unconfirmed), "seen once, not read again", part="unconfirmed"))
    if complete or result.unread or result.gaps:
        found.append(_unread_figure(result))
    return found


def _unread_figure(result: ReconciliationResult) -> Figure:
    view, records, gaps = view_of(result), len(result.unread), len(result.gaps)
    of_units = all(each.unit is not None and not each.key for each in result.unread)
    one, several = ("part", "parts") if records and of_units else (view.noun, result.counted)
    noun = one if records == 1 else several
    if gaps and not records:
        number, note = gaps, view.gaps(gaps).removeprefix(f"{thousands(gaps)} ")
    else:
        number, note = records, f"{noun} and {view.gaps(gaps)}" if gaps else noun
    note = f"{note} before the run failed" if result.status == "failed" else note
    return Figure("Could not be read", number, note, part="unread")
