"""A dead letter queue: looked at, sent back to its main queue, or emptied.

A message is sent to the main queue before it is deleted here: a death in between makes a second delivery, which does no
harm. Whatever is only looked at is visible to others again at once.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from sync.domains.registry import queue_of
from sync.failures import MalformedMessage
from sync.pipeline.envelope import MAPPING_RETRY, DomainEvent, MappingRetry, is_mapping_retry, read_envelope
from sync.queues.heartbeat import Heartbeat
from sync.queues.queue import BATCH, Message, Queue, QueueUnavailable
from sync.queues.requeue import attributes_anew
from sync.queues.setup import QueuePair
from sync.store.database import Database, StoreUnavailable
from sync.store.failures import count_redrives
from sync.store.findings import resolve_given_up
from sync.store.telemetry import Telemetry

UNREADABLE = "unreadable"
#: How long messages are hidden before the heartbeat renews that, and the long poll for stragglers, in seconds.
_HIDDEN_SECONDS = 60
_WAIT_SECONDS = 1
_PLAIN_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message on a dead letter queue.

    type: the event type, `RETRY_CREATE_MAPPING`, the type of a message that is none of ours, or `unreadable`.
    ids: what the event is about: its `additionalInformation` and `prisonerId`, or the mapping to be saved.
    problem: why it cannot be understood, None when it can.
    """

    message: Message
    type: str
    ids: Mapping[str, Any]
    sns_message_id: str | None
    problem: str | None = None

    @property
    def key(self) -> str:
        """What stays the same when the message is sent back: its id at SNS, or else a hash of its body."""
        if self.sns_message_id is not None and _PLAIN_ID.fullmatch(self.sns_message_id):
            return self.sns_message_id
        text = self.sns_message_id or self.message.body
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

    @property
    def is_mapping_retry(self) -> bool:
        """Whether purging it would leave a NOMIS record without its mapping."""
        return self.type == MAPPING_RETRY

    def as_dict(self) -> dict[str, Any]:
        """The letter as an export holds it: enough to send it again by hand."""
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
    """What a message is about. Never raises: one that cannot be understood says so."""
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


@dataclass(frozen=True, slots=True)
class LetterLeft:
    """A letter that stays on the dead letter queue, and why. `failed`: something went wrong with this one."""

    letter: DeadLetter
    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class RetryResult:
    """What a re-drive did. `found` counts every message that was seen."""

    queue: str
    dlq_name: str
    found: int = 0
    retried: tuple[DeadLetter, ...] = ()
    left: tuple[LetterLeft, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON shows it."""
        return {
            "queue": self.queue,
            "dlqName": self.dlq_name,
            "messagesFoundCount": self.found,
            "messagesRetriedCount": len(self.retried),
            "messages": [letter.as_dict() for letter in self.retried],
            "left": [
                {"messageId": each.letter.message.message_id, "type": each.letter.type, "reason": each.reason}
                for each in self.left
            ],
        }


@dataclass(slots=True)
class _InHand:
    """Letters that are hidden from others for the time being; what is not `taken` becomes visible again."""

    heartbeat: Heartbeat
    letters: dict[str, DeadLetter] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)


class DeadLetterQueue:
    """The dead letter queue of one queue.

    `main_queue` opens the main queue of a queue id: an event that came on the wrong queue is sent back to its own.
    """

    def __init__(
        self,
        queue: str,
        pair: QueuePair,
        database: Database,
        telemetry: Telemetry,
        main_queue: Callable[[str], Queue] | None = None,
    ) -> None:
        self.queue = queue
        self._main_queue = main_queue
        self._main = pair.main
        self._dlq = pair.dlq
        self._database = database
        self._telemetry = telemetry
        self._log = structlog.get_logger("sync.queues.dead_letters")

    @property
    def name(self) -> str:
        """The name of the dead letter queue in SQS."""
        return self._dlq.name

    def look(self, most: int | None = None) -> list[DeadLetter]:
        """The messages (`most` of them at most), oldest first; all are visible again on return.

        Raises `QueueUnavailable`.
        """
        with self._hand() as hand:
            for _ in self._receive(hand, most):
                pass
            return sorted(hand.letters.values(), key=_age)

    def retry(
        self,
        why_left: Callable[[Sequence[DeadLetter]], Mapping[str, str]],
        who: str = "housekeeping",
        most: int | None = None,
    ) -> RetryResult:
        """Sends messages back to the main queue, with body and attributes, save those that are to be left.

        `why_left` is asked for some letters at a time and names, by message id, those that stay and why. `most` letters
        are looked at, all where None. One that cannot be sent stays, and says so. Raises `QueueUnavailable` and
        `StoreUnavailable`; whatever was in hand is visible again then.
        """
        retried: list[DeadLetter] = []
        left: list[LetterLeft] = []
        sent: set[str] = set()
        with self._hand() as hand:
            for letters in self._receive(hand, most):
                # One that fails at once comes here again while the queue is still being read.
                again = {each.message.message_id for each in letters} & sent
                stays, failed = _each_alone(
                    why_left, [each for each in letters if each.message.message_id not in again]
                )
                reasons = {**dict.fromkeys(again, "it failed again just now"), **stays}
                left += [LetterLeft(each, reasons[_id(each)]) for each in letters if _id(each) in reasons]
                left += failed
                lost = {_id(each.letter) for each in failed}
                back = [letter for letter in letters if _id(letter) not in reasons and _id(letter) not in lost]
                numbers, unsent = self._send_back(hand, back, who)
                left += unsent
                lost = {_id(each.letter) for each in unsent}
                retried += [letter for letter in back if _id(letter) not in lost]
                sent |= numbers
        result = RetryResult(self.queue, self.name, len(retried) + len(left), tuple(retried), tuple(left))
        if result.found:
            told = {"dlq-name": self.name, "messages-found": result.found, "messages-retried": len(retried)}
            self._telemetry.track("RetryDLQ", told)
            self._telemetry.flush()
        return result

    def purge(
        self, only: Collection[str], export: Callable[[Sequence[DeadLetter]], None], who: str
    ) -> tuple[int, list[LetterLeft]]:
        """Removes the messages whose ids are in `only`; how many, and what was seen besides and stays.

        One that SQS does not delete stays, and says so.

        `export` is given what is about to be removed and must have it safely stored when it returns. Raises
        `QueueUnavailable`, and whatever `export` raises: nothing is removed then.
        """
        left: list[LetterLeft] = []
        with self._hand() as hand:
            for _ in self._receive(hand, None):
                pass
            removed = [letter for message_id, letter in hand.letters.items() if message_id in only]
            others = [letter for message_id, letter in hand.letters.items() if message_id not in only]
            if removed:
                export(removed)
                undeleted = self._remove(hand, removed)
                left = [LetterLeft(each, "SQS did not delete it", failed=True) for each in removed if each in undeleted]
                removed = [letter for letter in removed if letter not in undeleted]
                with self._database.begin() as connection:
                    resolve_given_up(
                        connection, self.queue, [letter.key for letter in removed], who, "removed by dlq purge"
                    )
        left += [LetterLeft(letter, "it came after you looked") for letter in others]
        if removed:
            self._telemetry.track("PurgeQueue", {"queue-name": self.name, "messages-found": len(removed)})
            self._telemetry.flush()
        return len(removed), left

    def _send_back(self, hand: _InHand, letters: Sequence[DeadLetter], who: str) -> tuple[set[str], list[LetterLeft]]:
        """Sends and deletes; the ids that the messages have on the main queue, and what could not be sent.

        Raises `QueueUnavailable` when one after the other cannot be sent: then it is not the messages' fault.
        """
        unsent = self._note(letters, who)
        lost = {_id(each.letter) for each in unsent}
        sent: dict[str, DeadLetter] = {}
        refused: list[DeadLetter] = []
        try:
            for letter in letters:
                if _id(letter) in lost:
                    continue
                try:
                    number = self._home(letter).send(letter.message.body, attributes_anew(letter.message))
                except QueueUnavailable as error:
                    if refused:
                        raise
                    refused.append(letter)
                    unsent.append(LetterLeft(letter, str(error), failed=True))
                else:
                    sent[number] = letter
                    refused.clear()
        finally:
            self._remove(hand, list(sent.values()))
        return set(sent), unsent

    def _note(self, letters: Sequence[DeadLetter], who: str) -> list[LetterLeft]:
        """Notes that messages are about to be sent back; those of which that fails, each alone."""
        if not letters:
            return []
        keys = [letter.key for letter in letters]
        try:
            with self._database.begin() as connection:
                count_redrives(connection, self.queue, keys)
                resolve_given_up(connection, self.queue, keys, who, "sent back by dlq retry")
        except StoreUnavailable:
            raise
        except Exception as error:  # of one of them, and perhaps of all
            if len(letters) == 1:
                self._log.exception("dead-letter-failed", queue=self.queue)
                return [LetterLeft(letters[0], f"it could not be noted: {type(error).__name__}", failed=True)]
            return [each for letter in letters for each in self._note([letter], who)]
        return []

    def _home(self, letter: DeadLetter) -> Queue:
        """The main queue on which the message of a letter belongs."""
        owner = queue_of(letter.type)
        if owner is None or owner == self.queue or self._main_queue is None:
            return self._main
        return self._main_queue(owner)

    def _remove(self, hand: _InHand, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Deletes letters; those that SQS did not delete, which are visible again afterwards."""
        hand.taken.update(letter.message.message_id for letter in letters)
        hand.heartbeat.release([letter.message for letter in letters])
        undeleted = self._dlq.delete([letter.message for letter in letters])
        if undeleted:
            self._log.warning("dead-letters-not-deleted", queue=self.queue, messages=len(undeleted))
        handles = {message.receipt_handle for message in undeleted}
        return [letter for letter in letters if letter.message.receipt_handle in handles]

    @contextmanager
    def _hand(self) -> Iterator[_InHand]:
        hand = None
        try:
            with Heartbeat(self._dlq, _HIDDEN_SECONDS) as heartbeat:
                hand = _InHand(heartbeat)
                yield hand
        finally:
            rest = [] if hand is None else [hand.letters[key].message for key in hand.letters.keys() - hand.taken]
            if self._dlq.change_visibility(rest, 0):
                self._log.warning("dead-letters-still-hidden", queue=self.queue, seconds=_HIDDEN_SECONDS)

    def _receive(self, hand: _InHand, most: int | None) -> Iterator[list[DeadLetter]]:
        """Receives until nothing new comes, some messages at a time; all stay hidden while they are in hand."""
        expected = self._dlq.counts().visible
        while most is None or len(hand.letters) < most:
            size = BATCH if most is None else min(BATCH, most - len(hand.letters))
            wait = _WAIT_SECONDS if len(hand.letters) < expected else 0
            messages = self._dlq.receive(size, wait, _HIDDEN_SECONDS)
            hand.heartbeat.track(messages)
            letters = [read_dead_letter(message) for message in messages]
            fresh = [letter for letter in letters if letter.message.message_id not in hand.letters]
            # Of one that is given out twice, the later handle is the good one.
            hand.letters.update((letter.message.message_id, letter) for letter in letters)
            if not fresh:
                return
            yield fresh


def _each_alone(
    why_left: Callable[[Sequence[DeadLetter]], Mapping[str, str]], letters: Sequence[DeadLetter]
) -> tuple[Mapping[str, str], list[LetterLeft]]:
    """Why letters stay, and those of which that cannot be said: asked together, and one by one where that fails."""
    try:
        return why_left(letters), []
    except StoreUnavailable:
        raise
    except Exception as error:  # of one of them, and perhaps of all
        if len(letters) == 1:
            structlog.get_logger("sync.queues.dead_letters").exception("dead-letter-failed")
            return {}, [LetterLeft(letters[0], f"it could not be looked up: {type(error).__name__}", failed=True)]
    reasons: dict[str, str] = {}
    failed: list[LetterLeft] = []
    for letter in letters:
        its_reason, its_failure = _each_alone(why_left, [letter])
        reasons |= its_reason
        failed += its_failure
    return reasons, failed


def _id(letter: DeadLetter) -> str:
    return letter.message.message_id


def _age(letter: DeadLetter) -> tuple[bool, float, str]:
    sent = letter.message.sent_at
    return sent is None, 0.0 if sent is None else sent.timestamp(), letter.message.message_id


def _parsed(body: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
