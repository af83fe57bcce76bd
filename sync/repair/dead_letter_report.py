"""Says why dead-letter messages failed, whether a retry may help, and what to do about them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from sync.domains.registry import duplicate_rows_of, row_kinds
from sync.errors import NON_UNIQUE_TEXT, fingerprint
from sync.repair.dead_letters import UNREADABLE, DeadLetterMessage
from sync.repair.hints import UNREADABLE as UNREADABLE_HINT
from sync.repair.hints import hint, is_awaited_elsewhere, is_missing_mapping
from sync.store.creations import CreationState, states_of
from sync.store.database import Database
from sync.store.failed_attempts import Attempts, FailedAttempt, attempts_at, redrives_of
from sync.store.findings import Finding, FindingKind, given_up_messages, list_findings

UNFINISHED_HINT = (
    "the last attempt may have created the record in NOMIS: wait, or send the message back; the next attempt will "
    "search for the record"
)
_NO_FAILURE = "no failure was recorded"
#: A message that came back once is sent back again after the first pause, which is a little less than the ten minutes
#: between two runs of housekeeping. Each pause is twice as long as the one before, up to the longest.
_FIRST_PAUSE = timedelta(minutes=9)
_LONGEST_PAUSE = timedelta(hours=6)
#: The states in which NOMIS has, or may have, the record, and the next attempt finishes the creation.
_UNFINISHED = (CreationState.INTENDED, CreationState.CREATED)


class FailureClass(StrEnum):
    """The class of a failure, which says whether a retry may help."""

    RECOVERABLE = "recoverable"
    #: NOMIS holds two rows where it should hold one. A retry helps once one of them is deleted.
    REPAIRABLE = "repairable"
    UNRECOVERABLE = "unrecoverable"
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"

    @property
    def meaning(self) -> str:
        """What the class means, for people."""
        return _TEXTS[self][0]

    @property
    def action(self) -> str:
        """What to do about messages of this class. `QUEUE` stands for the queue, and `ID` for the message."""
        return _TEXTS[self][1]


#: The meaning and the action of each class. `make docs` writes the same table to the runbook.
_TEXTS = {
    FailureClass.RECOVERABLE: (
        (
            "a service was unavailable or overloaded, or refused our credentials; or the record has not been "
            "created yet; or the outcome of the last attempt is unknown, so NOMIS may have the record"
        ),
        (
            "wait. Housekeeping sends the message back: at first within ten minutes, then after pauses of up to six "
            "hours. To send it back sooner, run `dlq retry QUEUE`. If the status is 401 or 403, or no token was "
            "issued, `check` shows the problem: correct that first"
        ),
    ),
    FailureClass.REPAIRABLE: (
        "NOMIS has two rows where it should have one",
        (
            "delete one of the two rows (see `duplicates list`), and close the finding about them if it is still open "
            "(see `duplicates show ID`). Leave the message: it is sent back once the finding is closed"
        ),
    ),
    FailureClass.UNRECOVERABLE: (
        "the request was refused, and would be refused again",
        (
            "housekeeping gives up on the message. Read the advice in `dlq show QUEUE`: correct the data and run "
            "`dlq retry QUEUE`, or run `dlq purge QUEUE --message ID`"
        ),
    ),
    FailureClass.UNREADABLE: (
        "the message is not valid",
        "housekeeping gives up on the message. Inform the publisher's team, then run `dlq purge QUEUE --message ID`",
    ),
    FailureClass.UNKNOWN: (
        f"{_NO_FAILURE}: the process died, or a person put the message on the queue",
        "wait. Housekeeping sends the message back. To send it back sooner, run `dlq retry QUEUE`",
    ),
}
#: The advice for a message without a recorded failure: its class says all that is known.
NO_FAILURE_HINT = FailureClass.UNKNOWN.action
#: Why a message stays if only other messages were to be sent back.
NOT_REQUESTED = "not requested"
#: The classes for which a retry may help without a repair.
WORTH_A_RETRY = frozenset({FailureClass.RECOVERABLE, FailureClass.UNKNOWN})


@dataclass(frozen=True, slots=True)
class DeadLetterReport:
    """A dead-letter message, with everything that the database knows about it.

    failure: its last failed attempt, or None if no failure was recorded. attempts: the number of failed attempts in all
    its deliveries. redrives, redriven_at: how many times it was sent back, and when it was last sent back. given_up:
    whether housekeeping no longer sends it back. unfinished: whether the record that the message creates is, or may be,
    in NOMIS without a mapping. finding: if the message failed because of two rows in NOMIS, the open finding about
    them; otherwise None. Housekeeping leaves the message until the finding is closed.
    """

    dead_letter: DeadLetterMessage
    failure: FailedAttempt | None
    attempts: int
    redrives: int
    redriven_at: datetime | None = None
    given_up: bool = False
    unfinished: bool = False
    finding: Finding | None = None

    @property
    def failure_class(self) -> FailureClass:
        """The class of the failure, which says whether a retry may help."""
        if self.dead_letter.type == UNREADABLE:
            return FailureClass.UNREADABLE
        if self.unfinished:
            # The last attempt ended without a record of a failure, even if earlier attempts failed.
            return FailureClass.RECOVERABLE
        if self.failure is None:
            return FailureClass.UNKNOWN
        failure = self.failure.failure
        # The creation of the record, or the allocation, may still come.
        if failure.recoverable or is_missing_mapping(failure) or is_awaited_elsewhere(failure):
            return FailureClass.RECOVERABLE
        return FailureClass.REPAIRABLE if NON_UNIQUE_TEXT in failure.reason else FailureClass.UNRECOVERABLE

    @property
    def hint(self) -> str:
        """One line that says what to do about the message."""
        if self.dead_letter.type == UNREADABLE:
            return UNREADABLE_HINT
        if self.unfinished:
            return UNFINISHED_HINT
        return NO_FAILURE_HINT if self.failure is None else hint(self.dead_letter.type, self.failure.failure)

    @property
    def reason(self) -> str:
        """The reason for the failure. `…` replaces ids, so that messages with the same cause have the same reason."""
        if self.failure is not None:
            return fingerprint(self.failure.failure)
        return self.dead_letter.problem or _NO_FAILURE

    @property
    def sql(self) -> tuple[str, ...]:
        """The SQL statements that show the two rows in NOMIS because of which the message failed.

        Empty if the message failed for another reason, or if the finding has a value that is not an id.
        """
        return () if self.finding is None else duplicate_rows_of(self.finding).sql

    @property
    def may_be_redriven(self) -> bool:
        """Whether housekeeping may send the message back. How often it has come back does not matter here."""
        worth_it = self.failure_class in (*WORTH_A_RETRY, FailureClass.REPAIRABLE)
        return worth_it or self.dead_letter.is_mapping_retry

    @property
    def next_redrive(self) -> datetime | None:
        """The earliest time at which housekeeping sends the message back again.

        None if the message has never been sent back, or is no longer sent back.
        """
        if self.redriven_at is None or self.given_up or not self.may_be_redriven:
            return None
        return self.redriven_at + pause_after(self.redrives)

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            **self.dead_letter.as_dict(),
            "class": self.failure_class,
            "attempts": self.attempts,
            "returns": self.redrives,
            "nextRedrive": None if self.next_redrive is None else self.next_redrive.isoformat(timespec="seconds"),
            "givenUp": self.given_up,
            "lastError": None if self.failure is None else _error(self.failure),
            "problem": self.dead_letter.problem,
            "finding": None if self.finding is None else self.finding.id,
            "sql": list(self.sql),
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class SameReason:
    """Messages of one event type that failed for the same reason and have the same advice, oldest first."""

    reports: tuple[DeadLetterReport, ...]

    @property
    def first(self) -> DeadLetterReport:
        """The report on the oldest message, as an example."""
        return self.reports[0]

    def as_dict(self) -> dict[str, Any]:
        """The group as a JSON object, with the ids of up to three of its messages."""
        return {
            "messages": len(self.reports),
            "type": self.first.dead_letter.type,
            "class": self.first.failure_class,
            "reason": self.first.reason,
            "hint": self.first.hint,
            "sampleIds": [each.dead_letter.message_id for each in self.reports[:3]],
        }


def group_by_reason(reports: Sequence[DeadLetterReport]) -> list[SameReason]:
    """The messages grouped by event type, class, reason and advice, largest group first."""
    groups: dict[tuple[str, ...], list[DeadLetterReport]] = {}
    for each in reports:
        key = (each.dead_letter.type, each.failure_class, each.reason, each.hint)
        groups.setdefault(key, []).append(each)
    return sorted((SameReason(tuple(group)) for group in groups.values()), key=lambda group: -len(group.reports))


def report_on(database: Database, queue: str, dead_letters: Sequence[DeadLetterMessage]) -> list[DeadLetterReport]:
    """A report on each of the `dead_letters` of `queue`, in the same order. Raises `StoreUnavailable`."""
    with database.read() as connection:
        redrives = redrives_of(connection, queue, (each.key for each in dead_letters))
        given_up = given_up_messages(connection, queue)
        unfinished = _unfinished(connection, dead_letters)
        ids = ((each.sns_message_id, each.message_id) for each in dead_letters)
        attempts = attempts_at(connection, queue, ids)
        two_rows = _two_rows(connection)
    return [
        _report(
            each,
            attempts.get(each.message_id),
            redrives=0 if each.key not in redrives else redrives[each.key].number,
            redriven_at=None if each.key not in redrives else redrives[each.key].last,
            given_up=each.key in given_up,
            unfinished=each.creates is not None and each.creates in unfinished.get(each.type.lower(), ()),
            finding=next((two_rows[str(value)] for value in each.ids.values() if str(value) in two_rows), None),
        )
        for each in dead_letters
    ]


def not_chosen(
    database: Database, queue: str, message_ids: Collection[str] | None, *, recoverable_only: bool
) -> Callable[[Sequence[DeadLetterMessage]], Mapping[str, str]]:
    """A `WhyLeft` that keeps all messages except those named in `message_ids`, or keeps none if `message_ids` is None.

    recoverable_only: whether to keep, in addition, the messages that a retry alone cannot help. The `WhyLeft` raises
    `StoreUnavailable`.
    """

    def why_left(dead_letters: Sequence[DeadLetterMessage]) -> Mapping[str, str]:
        reasons: dict[str, str] = {}
        if message_ids is not None:
            others = (each.message_id for each in dead_letters)
            reasons = {each: NOT_REQUESTED for each in others if each not in message_ids}
        if recoverable_only:
            for each in report_on(database, queue, dead_letters):
                if each.failure_class not in WORTH_A_RETRY:
                    reasons[each.dead_letter.message_id] = f"class {each.failure_class}"
        return reasons

    return why_left


def pause_after(redrives: int) -> timedelta:
    """The minimum time before the next redrive of a message that has been sent back `redrives` times."""
    doublings = min(max(redrives, 1) - 1, 10)
    return min(_FIRST_PAUSE * (1 << doublings), _LONGEST_PAUSE)


def _report(
    dead_letter: DeadLetterMessage,
    attempts: Attempts | None,
    *,
    redrives: int,
    redriven_at: datetime | None,
    given_up: bool,
    unfinished: bool,
    finding: Finding | None,
) -> DeadLetterReport:
    failure = None if attempts is None else attempts.last
    number = 0 if attempts is None else attempts.number
    report = DeadLetterReport(dead_letter, failure, number, redrives, redriven_at, given_up, unfinished, finding)
    if finding is None or report.failure_class is FailureClass.REPAIRABLE:
        return report
    # The message is about a record with two rows, but it failed for another reason.
    return replace(report, finding=None)


def _unfinished(connection: Connection, dead_letters: Sequence[DeadLetterMessage]) -> dict[str, frozenset[str]]:
    """By event type: the ids of the DPS records that the messages create in NOMIS, if the creation is unfinished.

    Messages on the wrong queue count too: they are sent to the right queue, and the creation is finished there.
    """
    wanted: dict[str, set[str]] = {}
    creations = {each.domain.creation.event_type: each.domain.creation for each in dead_letters if each.domain}
    for each in dead_letters:
        if each.creates is not None:
            wanted.setdefault(each.type.lower(), set()).add(each.creates)
    found: dict[str, frozenset[str]] = {}
    for event_type, dps_ids in wanted.items():
        states = states_of(connection, creations[event_type].name, dps_ids)
        found[event_type] = frozenset(dps_id for dps_id, state in states.items() if state in _UNFINISHED)
    return found


def _two_rows(connection: Connection) -> dict[str, Finding]:
    """The open findings about two rows in NOMIS, by the id of the DPS record."""
    found = list_findings(connection, kind=FindingKind.NON_UNIQUE)
    named = ((each.properties.get(kind.dps), each) for each in found for kind in row_kinds().values())
    return {dps_id: each for dps_id, each in named if dps_id is not None}


def _error(attempt: FailedAttempt) -> dict[str, Any]:
    return {"time": attempt.time.isoformat(timespec="seconds"), **asdict(attempt.failure)}
