"""One fix for many differences of a run: each is planned, all are confirmed at once, and carried out one by one.

Every record goes through the operation of the command for one record, which plans again, writes once, and records who
did it. The first one that does not end as expected ends the work; what is done by then agrees the next time, and is
skipped.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from jobs.errors import PlanChanged, UsageError, WorkError
from reports.engine.result import Mismatch, ReconciliationResult
from sync.command_text import arguments_of
from sync.failures import SyncError, one_line


class State(StrEnum):
    """How far a record of a bulk fix has come."""

    READY = "to write"
    WRITTEN = "written"
    #: It is no longer as the run saw it.
    SKIPPED = "skipped"
    #: There is an objection, which a person has to look at.
    LEFT = "left"
    #: It did not end as expected: refused, not verified, or not known.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BulkItem:
    """One record of a bulk fix.

    row: its number in the report. what: what would be written, such as `level ENH`, the same for all of a kind.
    text: what would be done and why, why it is not, or how it ended. details: the plan as JSON shows it.
    write: carries out the plan and verifies it, and returns how it ended; None unless it is to be written.
    """

    row: int
    target: str
    state: State
    text: str
    what: str = ""
    details: Mapping[str, Any] | None = None
    write: Callable[[], str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON shows it."""
        return {
            "row": self.row,
            "target": self.target,
            "state": self.state,
            "text": self.text,
            "plan": None if self.details is None else dict(self.details),
        }


@dataclass(frozen=True, slots=True)
class ProposedFix:
    """A difference of a run for which its report proposes a command; arguments: those of that command."""

    row: int
    mismatch: Mismatch
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProposedFixes:
    """The fixes by one command that a report proposes; undecided: how many more there are if DPS were right."""

    fixes: tuple[ProposedFix, ...]
    undecided: int


def records_of_cause(result: ReconciliationResult, cause: str | None) -> tuple[tuple[int, Mismatch], ...]:
    """The differences of a run with their row numbers; those of one cause where it is given.

    cause: the text of a cause, or a part of it that no other cause of the run has. Raises `UsageError` for any other.
    """
    if cause is None:
        return result.rows
    counts = Counter(each.diagnosis.cause for each in result.mismatches if each.diagnosis is not None)
    wanted = " ".join(cause.split()).casefold()
    found = [name for name in counts if name.casefold() == wanted] or [
        name for name in counts if wanted and wanted in name.casefold()
    ]
    if len(found) != 1:
        known = "; ".join(f"{name} ({count})" for name, count in counts.most_common()) or "none"
        problem = "several causes" if found else "no cause"
        raise UsageError(f"{problem} of run {result.run_id} fit {cause!r}. Its causes are: {known}")
    return tuple((row, each) for row, each in result.rows if each.diagnosis and each.diagnosis.cause == found[0])


def proposed_fixes(result: ReconciliationResult, cause: str | None, *words: str) -> ProposedFixes:
    """The commands beginning with `words` that the report of a run proposes, each once, in the order of its rows.

    Raises `UsageError` where there is none, and for an unknown cause.
    """
    fixes: dict[tuple[str, ...], ProposedFix] = {}
    undecided = 0
    for row, mismatch in records_of_cause(result, cause):
        diagnosis = mismatch.diagnosis
        for line in () if diagnosis is None else diagnosis.commands:
            arguments = arguments_of(line)
            if arguments[: len(words)] != words:
                continue
            if diagnosis is not None and diagnosis.right_side != "DPS":
                undecided += 1
                continue
            rest = arguments[len(words) :]
            fixes.setdefault(rest, ProposedFix(row, mismatch, rest))
    if not fixes and not undecided:
        among = "" if cause is None else f" of the cause {cause!r}"
        raise UsageError(f"run {result.run_id} proposes `{' '.join(words)}` for no difference{among}")
    return ProposedFixes(tuple(fixes.values()), undecided)


def carry_out(items: Sequence[BulkItem]) -> Iterator[BulkItem]:
    """Writes the items that are ready, in their order; each as it ended. Ends with the first that failed."""
    for item in items:
        if item.write is None:
            continue
        try:
            ended = replace(item, state=State.WRITTEN, text=item.write(), write=None)
        except PlanChanged as change:
            ended = replace(item, state=State.SKIPPED, text=one_line(change), write=None)
        except (WorkError, UsageError, SyncError) as error:
            ended = replace(item, state=State.FAILED, text=one_line(error), write=None)
        yield ended
        if ended.state is State.FAILED:
            return
