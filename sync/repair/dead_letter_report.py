"""What is known of a dead-letter message: its last failure, attempts and redrives, and what to do about it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from sync.creation.records import CreationState, find
from sync.domains.registry import domain_of_queue
from sync.failures import NON_UNIQUE_TEXT
from sync.repair.dead_letters import UNREADABLE, DeadLetter
from sync.repair.hints import UNREADABLE as UNREADABLE_HINT
from sync.repair.hints import hint, is_awaited_elsewhere, is_missing_mapping
from sync.store.database import Database
from sync.store.failures import FailedAttempt, count_attempts, last_failure, redrive_counts
from sync.store.findings import given_up_messages

UNFINISHED_HINT = "its last attempt may have created the record in NOMIS: send it back, and it looks for it there"
NO_FAILURE_HINT = "no failure was recorded (its process died, or the message was sent here by hand): send it back"


class FailureClass(StrEnum):
    """Whether trying again may help."""

    RECOVERABLE = "recoverable"
    #: NOMIS holds two rows where there may be one: trying again helps once one of them is deleted.
    REPAIRABLE = "repairable"
    UNRECOVERABLE = "unrecoverable"
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"


#: The classes in which trying again without any repair may help.
WORTH_A_RETRY = frozenset({FailureClass.RECOVERABLE, FailureClass.UNKNOWN})


@dataclass(frozen=True, slots=True)
class DeadLetterReport:
    """A dead-letter message with what the database knows of it.

    attempts: the failed ones of all its deliveries. redrives: how often it was sent back. given_up: the housekeeping no
        longer sends it back. unfinished: NOMIS has, or may have, the record that it creates, and no mapping of it.
    """

    dead_letter: DeadLetter
    failure: FailedAttempt | None
    attempts: int
    redrives: int
    given_up: bool = False
    unfinished: bool = False

    @property
    def failure_class(self) -> FailureClass:
        """Whether trying again may help."""
        if self.dead_letter.type == UNREADABLE:
            return FailureClass.UNREADABLE
        if self.unfinished:
            # Its last attempt ended without a word, after whatever had failed before.
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
        """What to do about it, in one line."""
        if self.dead_letter.type == UNREADABLE:
            return UNREADABLE_HINT
        if self.unfinished:
            return UNFINISHED_HINT
        return NO_FAILURE_HINT if self.failure is None else hint(self.dead_letter.type, self.failure.failure)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON shows it."""
        return {
            **self.dead_letter.as_dict(),
            "class": self.failure_class,
            "attempts": self.attempts,
            "returns": self.redrives,
            "givenUp": self.given_up,
            "lastError": None if self.failure is None else _error(self.failure),
            "problem": self.dead_letter.problem,
            "hint": self.hint,
        }


def report_on(database: Database, queue: str, dead_letters: Sequence[DeadLetter]) -> list[DeadLetterReport]:
    """What is known of each message of `queue`, in the same order. Raises `StoreUnavailable`."""
    with database.read() as connection:
        redrives = redrive_counts(connection, queue, (each.key for each in dead_letters))
        given_up = given_up_messages(connection, queue)
        unfinished = [_is_unfinished(connection, queue, each) for each in dead_letters]
    return [
        _report(database, queue, each, redrives.get(each.key, 0), given_up=each.key in given_up, unfinished=begun)
        for each, begun in zip(dead_letters, unfinished, strict=True)
    ]


def not_chosen(
    database: Database, queue: str, message_ids: Collection[str], *, recoverable_only: bool
) -> Callable[[Sequence[DeadLetter]], Mapping[str, str]]:
    """Leaves messages other than `message_ids` (if any are given), and if asked those that no retry can help."""

    def why_left(dead_letters: Sequence[DeadLetter]) -> Mapping[str, str]:
        reasons: dict[str, str] = {}
        if message_ids:
            others = (each.message.message_id for each in dead_letters)
            reasons = {each: "it was not asked for" for each in others if each not in message_ids}
        if recoverable_only:
            for each in report_on(database, queue, dead_letters):
                if each.failure_class not in WORTH_A_RETRY:
                    reasons[each.dead_letter.message.message_id] = f"it is {each.failure_class}"
        return reasons

    return why_left


def _report(
    database: Database, queue: str, dead_letter: DeadLetter, redrives: int, *, given_up: bool, unfinished: bool
) -> DeadLetterReport:
    sns_message_id, message_id = dead_letter.sns_message_id, dead_letter.message.message_id
    failure = last_failure(database, queue=queue, sns_message_id=sns_message_id, message_id=message_id)
    attempts = 0
    if failure is not None:
        with database.read() as connection:
            attempts = count_attempts(connection, queue, sns_message_id, message_id)
    return DeadLetterReport(dead_letter, failure, attempts, redrives, given_up, unfinished)


def _is_unfinished(connection: Connection, queue: str, dead_letter: DeadLetter) -> bool:
    creation = domain_of_queue(queue).creation
    if dead_letter.type != creation.event_type:
        return False
    record = find(connection, creation.name, str(dead_letter.ids.get(creation.event_id)))
    return record is not None and record.state in (CreationState.INTENDED, CreationState.CREATED)


def _error(attempt: FailedAttempt) -> dict[str, Any]:
    return {"time": attempt.time.isoformat(timespec="seconds"), **asdict(attempt.failure)}
