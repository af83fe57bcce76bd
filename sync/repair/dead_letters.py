"""What a message on a dead letter queue is about, why it failed, and what to do about it."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Connection

from sync.domains.registry import domain_of_queue
from sync.events.envelope import MAPPING_RETRY, DomainEvent, MappingRetry, is_mapping_retry, read_envelope
from sync.failures import NON_UNIQUE_TEXT, MalformedMessage
from sync.queues.queue import Message
from sync.repair.hints import UNREADABLE as UNREADABLE_HINT
from sync.repair.hints import hint, is_awaited_elsewhere, is_missing_mapping
from sync.store.creations import CreationState, find
from sync.store.database import Database
from sync.store.failures import FailedAttempt, count_attempts, last_failure, redrive_counts
from sync.store.findings import given_up_messages

UNREADABLE = "unreadable"
_PLAIN_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead-letter message.

    type: the event type, `RETRY_CREATE_MAPPING`, the type of an unknown message, or `unreadable`.
    ids: what the event is about: its `additionalInformation` and `prisonerId`, or the mapping to be saved.
    problem: why it is malformed, None if it is not.
    """

    message: Message
    type: str
    ids: Mapping[str, Any]
    sns_message_id: str | None
    problem: str | None = None

    @property
    def key(self) -> str:
        """What stays the same when the message is sent back: its SNS message id, or else a hash of its body."""
        if self.sns_message_id is not None and _PLAIN_ID.fullmatch(self.sns_message_id):
            return self.sns_message_id
        text = self.sns_message_id or self.message.body
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

    @property
    def is_mapping_retry(self) -> bool:
        """Whether purging it would leave a NOMIS record without its mapping."""
        return self.type == MAPPING_RETRY

    def as_dict(self) -> dict[str, Any]:
        """The message as an export holds it: enough to send it again by hand."""
        sent = self.message.sent_at
        return {
            "messageId": self.message.message_id,
            "type": self.type,
            "ids": dict(self.ids),
            "sentAt": None if sent is None else sent.isoformat(),
            "body": _parsed(self.message.body),
            "attributes": {name: dict(value) for name, value in self.message.attributes.items()},
        }


def read_dead_letter(message: Message) -> DeadLetter:
    """What a message is about. Never raises: a malformed message says what its problem is."""
    try:
        envelope = read_envelope(message.body)
    except MalformedMessage as error:
        kind = MAPPING_RETRY if is_mapping_retry(message.body) else UNREADABLE
        return DeadLetter(message, kind, {}, None, str(error))
    content, sns_message_id = envelope.content, envelope.sns_message_id
    if isinstance(content, DomainEvent):
        prisoner = {} if content.prisoner_id is None else {"prisonerId": content.prisoner_id}
        return DeadLetter(message, content.event_type, {**prisoner, **content.additional_information}, sns_message_id)
    if isinstance(content, MappingRetry):
        ids = {name: value for name, value in content.mapping.items() if value is not None}
        return DeadLetter(message, MAPPING_RETRY, ids, sns_message_id)
    return DeadLetter(message, content.message_type, {}, sns_message_id)


def _parsed(body: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body


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
