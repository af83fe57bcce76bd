"""Why records differ: the differences to explain, the causes that a reconciliation declares, and the diagnoses."""

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

#: At most this many mismatches are explained; if there are more, one common cause is likely.
MOST_EXPLAINED = 2_000
#: The `evidence_missing` of the mismatches after the first `MOST_EXPLAINED`.
TOO_MANY = f"more than {MOST_EXPLAINED} mismatches: look for one common cause first"


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference that the recheck found again. If it is confirmed, the reconciliation explains it.

    row: the values of the record's row in the frame, by column name, with None for NA. kind: one of the codes in
    `Reconciliation.kinds`. differs: the names of the fields that differ. pending: the queue that holds a message about
    the record (`queue` is the main queue), or None if no such message is known. given_up: why a message about the
    record stays on the dead letter queue, as a clause, or None if there is no such message. doubt: why a message may be
    pending although none is known, as a clause, or None if there can be no unknown message.
    """

    row: Mapping[str, Any]
    kind: str
    differs: tuple[str, ...]
    pending: Literal["queue", "dlq"] | None = None
    given_up: str | None = None
    doubt: str | None = None

    @property
    def given_up_text(self) -> str:
        """A sentence that says why a message about the record stays on the dead letter queue, or an empty text."""
        return f"A message about the record stays on the dead letter queue: {self.given_up}." if self.given_up else ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a difference exists, what fixes it, and the evidence.

    diagnosis: None if the cause is not known. evidence: what was read about the difference, in the order of the report.
    evidence_missing: why the evidence could not be read, or None if it could. values: further values of the mismatch in
    the result, by field name, in addition to those of `Reconciliation.record_values`.
    """

    diagnosis: Diagnosis | None
    evidence: tuple[EvidenceRow, ...] = ()
    evidence_missing: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause of differences, the side that is right if the cause applies, and what fixes such a difference.

    name: a clause, the same for every difference with this cause. right_side: the side that has the correct values.
    action: what a person should do about the difference, as a sentence. command: the words of the command that fixes
    the difference, or empty if there is none. sentence: the evidence for the cause. In `command` and `sentence`, a
    column name in braces, such as `{reference}`, stands for the value of that column in the row. confidence: how
    certain the cause is. of_message: whether the cause is a message that was lost or failed; if the message is known to
    stay on the dead letter queue, the confidence is high. who: who fixes the difference.
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
        """A cause: NOMIS does not have the current DPS values of a record, because a message was lost or failed.

        values: further fields of the cause; `confidence` is medium by default.
        """
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
        """The command that fixes the record in `row`. The cause must have a command."""
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
    """The explanation of `difference` by `cause`; the evidence says when each side's record was last changed, if known.

    mapping: a clause on what the mapping service links, as further evidence, or None. notes: remarks on the last change
    to each side's record, by side (`NOMIS` or `DPS`). values: further values of the mismatch in the result.
    special: fields of the diagnosis that are specific to this difference (see `Cause.diagnosis`).
    """
    evidence = [*_last_changes(difference.row, notes)]
    if mapping is not None:
        evidence.append(EvidenceRow(side="mapping", text=mapping))
    return Explanation(cause.diagnosis(difference, **special), tuple(evidence), values=values or {})


def _last_changes(row: Mapping[str, Any], notes: Mapping[str, str | None] | None = None) -> Iterator[EvidenceRow]:
    """For each side, yields an evidence row that says when its record was last changed, if that is known.

    notes: remarks on these changes, by side (`NOMIS` or `DPS`).
    """
    for side in ("NOMIS", "DPS"):
        moment = row[f"{side.lower()}_changed_at"]
        if moment is not None:
            at = moment.astimezone(LONDON).replace(tzinfo=None)
            yield EvidenceRow(side=side, at=at, text="last changed", note=(notes or {}).get(side) or "")
