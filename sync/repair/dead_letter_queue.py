"""Peeks at the messages of a dead letter queue, sends them back to the main queue, or removes them.

A message is sent to the main queue before it is deleted from the dead letter queue. If the process dies in between, the
message is delivered twice, which does no harm.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import structlog

from sync.clock import now
from sync.domains.registry import queue_of
from sync.queues.heartbeat import Browse, browsing
from sync.queues.queue import BATCH, Queue, QueueUnavailable
from sync.queues.requeue import WaitsFor, attributes_anew, attributes_of_followed
from sync.queues.setup import QueuePair
from sync.repair.dead_letters import DeadLetterMessage, read_dead_letter
from sync.store.database import Database, StoreUnavailable
from sync.store.failed_attempts import count_redrives
from sync.store.findings import resolve_given_up
from sync.store.telemetry import Telemetry
from sync.store.waiting_messages import WaitingMessage, end_waits, record_waits

#: A function that returns the reasons why messages stay on the dead letter queue, by message id.
WhyLeft = Callable[[Sequence[DeadLetterMessage]], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message that stays on the dead letter queue, and why. `failed`: whether the reason is an error.

    reason: a phrase that fits one message and several, since messages with the same reason are shown together.
    """

    dead_letter: DeadLetterMessage
    reason: str
    failed: bool = False


@dataclass(slots=True)
class RetriedBatch:
    """One batch of a redrive: the messages that were sent back, by their new SQS ids, and the messages that stay."""

    sent: dict[str, DeadLetterMessage] = field(default_factory=dict)
    left: list[KeptMessage] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RetryResult:
    """The result of a redrive: the messages that were sent back, and those that stay, with the reasons.

    `found` is the number of messages in both groups. A message that had not been sent yet when the redrive was
    stopped is in neither group.
    """

    queue: str
    dlq_name: str
    found: int = 0
    retried: tuple[DeadLetterMessage, ...] = ()
    left: tuple[KeptMessage, ...] = ()

    def with_batch(self, batch: RetriedBatch) -> "RetryResult":
        """A new result that also includes `batch`."""
        retried, left = (*self.retried, *batch.sent.values()), (*self.left, *batch.left)
        return RetryResult(self.queue, self.dlq_name, len(retried) + len(left), retried, left)

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            "queue": self.queue,
            "dlqName": self.dlq_name,
            "messagesFoundCount": self.found,
            "messagesRetriedCount": len(self.retried),
            "messages": [each.as_dict() for each in self.retried],
            "left": [
                {"messageId": each.dead_letter.message_id, "type": each.dead_letter.type, "reason": each.reason}
                for each in self.left
            ],
        }


@dataclass(frozen=True, slots=True)
class Listing:
    """The messages that were read from a dead letter queue, oldest first. They are hidden while the listing is open."""

    dead_letters: Sequence[DeadLetterMessage]
    browse: Browse


class DeadLetterQueue:
    """The dead letter queue of one main queue.

    `main_queue` opens the main queue for a queue id, so that an event on the wrong queue is sent to the right one. If
    `main_queue` is None, all messages are sent back to the main queue of `pair`.
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
        self._log = structlog.get_logger("sync.repair.dead_letter_queue")

    @property
    def name(self) -> str:
        """The name of the dead letter queue in SQS."""
        return self._dlq.name

    def target_of(self, dead_letter: DeadLetterMessage) -> str:
        """The id of the queue to which a message is sent back."""
        owner = queue_of(dead_letter.type)
        return self.queue if owner is None or self._main_queue is None else owner

    @contextmanager
    def listing(self, most: int | None = None, seconds: float | None = None) -> Iterator[Listing]:
        """Reads messages, at most `most`, for at most `seconds`, and hides them while the `with` block runs.

        None means no limit. Afterwards, the messages that were not deleted are visible again. Raises
        `QueueUnavailable`.
        """
        with browsing(self._dlq) as browse:
            for _ in browse.receive(most, seconds):
                pass
            yield Listing(sorted(map(read_dead_letter, browse.messages.values()), key=_age), browse)

    def peek(self, most: int | None = None, seconds: float | None = None) -> list[DeadLetterMessage]:
        """Reads messages and returns them, oldest first. All of them are visible again afterwards.

        Reads at most `most` messages, for at most `seconds`; None means no limit. Raises `QueueUnavailable`.
        """
        with self.listing(most, seconds) as listing:
            return list(listing.dead_letters)

    def retry(self, why_left: WhyLeft, who: str = "housekeeping", most: int | None = None) -> RetryResult:
        """Sends messages back to the main queue, except those for which `why_left` returns a reason to keep them.

        `why_left` is called with a few messages at a time. At most `most` messages are read; None means no limit.
        Findings about the messages are closed under the name `who`. A message keeps its body and its attributes, except
        for those about its waits. If a message cannot be sent, it stays, and the result says why. Raises
        `QueueUnavailable` or `StoreUnavailable`; some messages may have been sent by then.
        """
        result = RetryResult(self.queue, self.name)
        with closing(self.retry_in_batches(why_left, who, BATCH, most)) as batches:
            for batch in batches:
                result = result.with_batch(batch)
        if result.found:
            self.track_retry(result)
        return result

    def retry_in_batches(
        self,
        why_left: WhyLeft,
        who: str,
        size: int,
        most: int | None = None,
        *,
        is_followed: bool = False,
        listing: Listing | None = None,
    ) -> Generator[RetriedBatch, None, None]:
        """Sends messages back as `retry` does, `size` at a time, and yields each batch once it has been sent.

        Messages that have been read but not sent stay hidden until the generator ends or is closed. The caller tracks
        the whole redrive with `track_retry`. If `is_followed` is true, an attribute marks the messages, and each is
        recorded as waiting for its turn until it is handled or fails. With `listing`, which must be open, nothing more
        is read: `why_left` is called once for all its messages, and those that stay are visible again at once.
        """
        sent_ids: set[str] = set()
        batch = RetriedBatch()
        with browsing(self._dlq) if listing is None else nullcontext(listing.browse) as browse:
            received = (
                (list(map(read_dead_letter, messages)) for messages in browse.receive(most))
                if listing is None
                else [listing.dead_letters]
            )
            for dead_letters in received:
                stay = self._kept_messages(dead_letters, why_left, sent_ids)
                if listing is not None:
                    browse.release([each.dead_letter.message for each in stay])
                batch.left += stay
                back = _without(dead_letters, stay)
                while back:
                    room = size - len(batch.sent)
                    self._send_back(browse, back[:room], who, batch, is_followed=is_followed)
                    sent_ids.update(batch.sent)
                    back = back[room:]
                    if len(batch.sent) == size:
                        yield batch
                        batch = RetriedBatch()
            if batch.sent or batch.left:
                yield batch

    def track_retry(self, result: RetryResult) -> None:
        """Tracks a whole redrive in telemetry."""
        properties = {
            "dlq-name": self.name,
            "messages-found": result.found,
            "messages-retried": len(result.retried),
        }
        self._telemetry.track("RetryDLQ", properties)
        self._telemetry.flush()

    def purge(
        self, only: Collection[str], export: Callable[[Sequence[DeadLetterMessage]], None], who: str
    ) -> tuple[int, list[KeptMessage]]:
        """Removes the messages whose ids are in `only`. Returns how many were removed, and the messages that stay.

        `export` is called with the messages before they are removed, and must store them safely. Raises
        `QueueUnavailable`, or any error that `export` raises; in both cases, nothing is removed. Raises
        `StoreUnavailable` if the findings about the messages cannot be closed; the messages have been removed by then.
        `who`: the name under which the findings are closed.
        """
        left: list[KeptMessage] = []
        with self.listing() as listing:
            dead_letters = listing.dead_letters
            removed = [each for each in dead_letters if each.message_id in only]
            if removed:
                export(removed)
                undeleted = self._delete(listing.browse, removed)
                left = [KeptMessage(each, "not deleted by SQS", failed=True) for each in undeleted]
                removed = _without(removed, left)
                keys = [each.key for each in removed]
                with self._database.begin() as connection:
                    resolve_given_up(connection, self.queue, keys, who, "removed by dlq purge")
        left += [
            KeptMessage(each, "not among the messages to remove")
            for each in dead_letters
            if each.message_id not in only
        ]
        if removed:
            self._telemetry.track("PurgeQueue", {"queue-name": self.name, "messages-found": len(removed)})
            self._telemetry.flush()
        return len(removed), left

    def _kept_messages(
        self, dead_letters: Sequence[DeadLetterMessage], why_left: WhyLeft, sent_ids: set[str]
    ) -> list[KeptMessage]:
        """The messages that stay: those for which `why_left` gives a reason or fails, and those that have failed again.

        `sent_ids`: the ids of the messages that were sent back earlier in the same redrive.
        """
        # A message that fails again at once may come back while the queue is still being read.
        again = [KeptMessage(each, "failed again just now") for each in dead_letters if each.message_id in sent_ids]
        dead_letters = _without(dead_letters, again)
        reasons, failed = self._reasons_to_keep(why_left, dead_letters)
        return [
            *again,
            *(KeptMessage(each, reasons[each.message_id]) for each in dead_letters if each.message_id in reasons),
            *failed,
        ]

    def _reasons_to_keep(
        self, why_left: WhyLeft, dead_letters: Sequence[DeadLetterMessage]
    ) -> tuple[Mapping[str, str], list[KeptMessage]]:
        """The reasons from `why_left`, and the messages for which it fails.

        `why_left` is called for all messages together and, if that fails, for each message separately.
        """
        try:
            return why_left(dead_letters), []
        except StoreUnavailable:
            raise
        except Exception as error:  # one of the messages, or all of them, may be the cause
            if len(dead_letters) == 1:
                self._log.exception("dead-letter-failed", queue=self.queue)
                reason = f"could not be checked: {type(error).__name__}"
                return {}, [KeptMessage(dead_letters[0], reason, failed=True)]
        reasons: dict[str, str] = {}
        failed: list[KeptMessage] = []
        for dead_letter in dead_letters:
            more_reasons, more_failed = self._reasons_to_keep(why_left, [dead_letter])
            reasons |= more_reasons
            failed += more_failed
        return reasons, failed

    def _send_back(
        self,
        browse: Browse,
        dead_letters: Sequence[DeadLetterMessage],
        who: str,
        batch: RetriedBatch,
        *,
        is_followed: bool,
    ) -> None:
        """Sends messages back and deletes them from the dead letter queue. Adds each to `batch`, as sent or as left.

        Raises `QueueUnavailable` if two messages in a row cannot be sent: the cause is then probably the queue rather
        than the messages.
        """
        unrecorded = self._record(dead_letters, who, is_followed=is_followed)
        attributes = attributes_of_followed if is_followed else attributes_anew
        batch.left += unrecorded
        sent: list[DeadLetterMessage] = []
        failed_before = False
        try:
            for dead_letter in _without(dead_letters, unrecorded):
                try:
                    message_id = self._main_queue_of(dead_letter).send(
                        dead_letter.message.body, attributes(dead_letter.message)
                    )
                except QueueUnavailable as error:
                    if failed_before:
                        raise
                    failed_before = True
                    batch.left.append(KeptMessage(dead_letter, str(error), failed=True))
                else:
                    failed_before = False
                    batch.sent[message_id] = dead_letter
                    sent.append(dead_letter)
        finally:
            self._delete(browse, sent)
            if is_followed and (unsent := [each for each in dead_letters if each not in sent]):
                with self._database.begin() as connection:
                    for each in unsent:
                        end_waits(connection, self.target_of(each), [each.key])

    def _record(self, dead_letters: Sequence[DeadLetterMessage], who: str, *, is_followed: bool) -> list[KeptMessage]:
        """Records that messages are about to be sent back. Returns those for which this fails."""
        if not dead_letters:
            return []
        keys = [each.key for each in dead_letters]
        try:
            with self._database.begin() as connection:
                count_redrives(connection, self.queue, keys)
                resolve_given_up(connection, self.queue, keys, who, "sent back from the dead letter queue")
                if is_followed:
                    # They are recorded before they are sent, since the drain may handle a message at once.
                    record_waits(connection, map(self._waiting_message, dead_letters))
        except StoreUnavailable:
            raise
        except Exception as error:  # one of the messages, or all of them, may be the cause
            if len(dead_letters) == 1:
                self._log.exception("dead-letter-failed", queue=self.queue)
                reason = f"the redrive could not be recorded: {type(error).__name__}"
                return [KeptMessage(dead_letters[0], reason, failed=True)]
            return [
                each
                for dead_letter in dead_letters
                for each in self._record([dead_letter], who, is_followed=is_followed)
            ]
        return []

    def _waiting_message(self, dead_letter: DeadLetterMessage) -> WaitingMessage:
        moment, waits_for = now(), WaitsFor.TURN.stored
        return WaitingMessage(self.target_of(dead_letter), dead_letter.key, waits_for, None, None, moment, moment)

    def _main_queue_of(self, dead_letter: DeadLetterMessage) -> Queue:
        """The main queue to which a message is sent back."""
        owner = self.target_of(dead_letter)
        return self._main if owner == self.queue or self._main_queue is None else self._main_queue(owner)

    def _delete(self, browse: Browse, dead_letters: Sequence[DeadLetterMessage]) -> list[DeadLetterMessage]:
        """Deletes messages. Returns the messages that SQS did not delete."""
        undeleted = {
            message.message_id for message in browse.delete([dead_letter.message for dead_letter in dead_letters])
        }
        if undeleted:
            self._log.warning("dead-letters-not-deleted", queue=self.queue, messages=len(undeleted))
        return [dead_letter for dead_letter in dead_letters if dead_letter.message_id in undeleted]


def _without(dead_letters: Sequence[DeadLetterMessage], left: Sequence[KeptMessage]) -> list[DeadLetterMessage]:
    ids = {each.dead_letter.message_id for each in left}
    return [each for each in dead_letters if each.message_id not in ids]


def _age(dead_letter: DeadLetterMessage) -> tuple[bool, float, str]:
    sent = dead_letter.sent_at
    return sent is None, 0.0 if sent is None else sent.timestamp(), dead_letter.message_id
