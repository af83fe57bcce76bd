"""Why records differ: the differences to be explained, the declared causes, and what explains a difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from reports.engine.result import Diagnosis, EvidenceRow
from sync.alerting import command
from sync.clock import LONDON

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.engine.result import Confidence, RightSide, Who


@dataclass(frozen=True, slots=True)
class Difference:
    """A confirmed difference, to be explained.

    row: all columns of the frame, None for NA. kind: its kind. differs: the names of the fields that differ. pending:
    the queue that holds a message of its record. given_up: why nothing sends that message back from the dead letter
    queue. doubt: why a message may be pending although nothing is known of it.
    """

    row: Mapping[str, Any]
    kind: str
    differs: tuple[str, ...]
    pending: Literal["queue", "dlq"] | None = None
    given_up: str | None = None
    doubt: str | None = None

    @property
    def given_up_text(self) -> str:
        """That a message stays on the dead letter queue, and why, as a sentence; empty where that is not so."""
        return f"Its message is not sent back from the dead letter queue: {self.given_up}." if self.given_up else ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a difference is there, what fixes it, and the evidence.

    diagnosis: None where the cause is not known. evidence_missing: why the evidence could not be read. values:
    further values of the mismatch in the result, as for `Reconciliation.record_values`.
    """

    diagnosis: Diagnosis | None
    evidence: tuple[EvidenceRow, ...] = ()
    evidence_missing: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause of differences: which side is right, and what fixes it.

    name: a clause that is the same for every difference of the cause. action: what a person does about it. command:
    what to run, word by word. sentence: what shows the cause. command and sentence name columns of the row in braces,
    as `{reference}`. of_message: a message was lost, or failed: known for certain where it is given up. who: who
    puts it right; we tell those who have to know.
    """

    name: str
    right_side: RightSide
    action: str
    command: tuple[str, ...] = ()
    sentence: str = ""
    confidence: Confidence = "high"
    of_message: bool = False
    who: Who = "this team"

    def diagnosis(self, difference: Difference, **values: Any) -> Diagnosis:
        """The diagnosis of a difference that has this cause; `values`: what is special to it, by fields."""
        row = difference.row
        sentence, confidence = self.sentence.format_map(row), self.confidence
        if self.of_message and difference.given_up is not None:
            sentence, confidence = " ".join(filter(None, (sentence, difference.given_up_text))), "high"
        of_cause: dict[str, Any] = {
            "cause": self.name,
            "confidence": confidence,
            "right_side": self.right_side,
            "who": self.who,
            "explanation": sentence,
            "action": self.action,
        }
        if self.command and "commands" not in values:
            of_cause["commands"] = (self.command_for(row),)
        return Diagnosis(**of_cause | values)

    def command_for(self, row: Mapping[str, Any]) -> str:
        """The command of a cause that has one, for the record of this row."""
        return command(*(word.format_map(row) for word in self.command))


def last_changes(row: Mapping[str, Any], notes: Mapping[str, str | None] | None = None) -> Iterator[EvidenceRow]:
    """When the record of each side was last changed, where that is known; `notes`: what else is said of a side."""
    for side in ("NOMIS", "DPS"):
        moment = row[f"{side.lower()}_changed_at"]
        if moment is not None:
            at = moment.astimezone(LONDON).replace(tzinfo=None)
            yield EvidenceRow(side=side, at=at, text="last changed", note=(notes or {}).get(side) or "")
