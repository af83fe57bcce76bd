"""Why records differ: the differences to explain, the declared causes, and the diagnosis that a cause gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from reports.engine.result import Diagnosis, EvidenceRow
from sync.alerting import command
from sync.clock import LONDON

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.engine.result import Confidence, RightSide, Who

#: The most mismatches that are explained; if there are more, one common cause is likely.
MOST_EXPLAINED = 2_000
#: The `evidence_missing` of the mismatches beyond `MOST_EXPLAINED`.
TOO_MANY = f"more than {MOST_EXPLAINED} mismatches: look for one common cause first"


@dataclass(frozen=True, slots=True)
class Difference:
    """A confirmed difference, which the reconciliation explains.

    row: the values of all columns of the frame by name, with None for NA. kind: a code of `Reconciliation.kinds`.
    differs: the names of the fields that differ. pending: the queue that holds a message about the record, or None if
    no message is known. given_up: why that message is no longer sent back from the dead letter queue, as a clause, or
    None if it is still sent back. doubt: why a message may be pending although none is known, as a clause, or None if
    none can be pending.
    """

    row: Mapping[str, Any]
    kind: str
    differs: tuple[str, ...]
    pending: Literal["queue", "dlq"] | None = None
    given_up: str | None = None
    doubt: str | None = None

    @property
    def given_up_text(self) -> str:
        """A sentence saying why the message stays on the dead letter queue; empty if it does not stay there."""
        return f"Its message is not sent back from the dead letter queue: {self.given_up}." if self.given_up else ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a difference exists, what fixes it, and the evidence.

    diagnosis: None if the cause is not known. evidence: what was read about it, in the order of the report.
    evidence_missing: why the evidence could not be read, or None if it could. values: further values of the mismatch in
    the result, as for `Reconciliation.record_values`.
    """

    diagnosis: Diagnosis | None
    evidence: tuple[EvidenceRow, ...] = ()
    evidence_missing: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause of differences: which side is right, and what fixes it.

    name: a clause, the same for every difference with this cause. right_side: the side that has the correct values.
    action: what a person should do about it, as a sentence. command: the words of the command that fixes it, or empty
    if there is none. sentence: the evidence for the cause. `command` and `sentence` name columns of the row in braces,
    such as `{reference}`. confidence: how certain the cause is. of_message: whether the cause is a message that was
    lost or failed; the cause is certain if such a message is given up on. who: who fixes the difference.
    """

    name: str
    right_side: RightSide
    action: str
    command: tuple[str, ...] = ()
    sentence: str = ""
    confidence: Confidence = "high"
    of_message: bool = False
    who: Who = "this team"

    @classmethod
    def of_lost_message(
        cls, name: str, action: str, command: tuple[str, ...], sentence: str = "", **values: Any
    ) -> Self:
        """A cause in which a message was lost or failed, so that NOMIS does not have the current state of DPS."""
        return cls(name, "DPS", action, command, sentence, **{"confidence": "medium", **values}, of_message=True)

    def diagnosis(self, difference: Difference, **values: Any) -> Diagnosis:
        """The diagnosis of a difference that has this cause.

        values: fields of the diagnosis that are specific to this difference and replace the fields of the cause.
        """
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
        """The command that fixes the record of this row; only for a cause with a command."""
        return command(*(word.format_map(row) for word in self.command))


def explained(
    difference: Difference,
    cause: Cause,
    *,
    mapping: str | None = None,
    notes: Mapping[str, str | None] | None = None,
    values: Mapping[str, Any] | None = None,
    **special: Any,
) -> Explanation:
    """The explanation of a difference by its cause. The evidence says when the record of each side was last changed.

    mapping: what the mapping service links, as further evidence. notes: a remark on the last change of each side.
    values: further values of the mismatch in the result. special: fields of the diagnosis that are specific to this
    difference (see `Cause.diagnosis`).
    """
    evidence = [*_last_changes(difference.row, notes)]
    if mapping is not None:
        evidence.append(EvidenceRow(side="mapping", text=mapping))
    return Explanation(cause.diagnosis(difference, **special), tuple(evidence), values=values or {})


def _last_changes(row: Mapping[str, Any], notes: Mapping[str, str | None] | None = None) -> Iterator[EvidenceRow]:
    """Yields when the record of each side was last changed, if that is known.

    notes: a remark on each change, by side (`NOMIS` or `DPS`).
    """
    for side in ("NOMIS", "DPS"):
        moment = row[f"{side.lower()}_changed_at"]
        if moment is not None:
            at = moment.astimezone(LONDON).replace(tzinfo=None)
            yield EvidenceRow(side=side, at=at, text="last changed", note=(notes or {}).get(side) or "")
