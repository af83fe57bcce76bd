"""Works out what a message on a dead letter queue is about."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from sync.domains.declaration import Domain
from sync.domains.registry import domain_of_queue, queue_of
from sync.errors import MalformedMessage
from sync.events.envelope import MAPPING_RETRY, DomainEvent, MappingRetry, is_mapping_retry, message_key, read_envelope
from sync.queues.queue import Message

UNREADABLE = "unreadable"
_OFFENDER_NO = re.compile(r"[A-Z]\d{4}[A-Z]{2}", re.ASCII)
#: The fields that SNS adds to each message to prove its origin.
_SIGNATURE = frozenset({"Signature", "SignatureVersion", "SigningCertURL", "UnsubscribeURL"})


@dataclass(frozen=True, slots=True)
class DeadLetterMessage:
    """One dead-letter message, and what it is about.

    type: the event type, `RETRY_CREATE_MAPPING`, the type of an unknown message, or `unreadable`. ids: the event's
    `additionalInformation` and `prisonerId`, or the mapping to save. problem: why the message is malformed, or None if
    it is not.
    """

    message: Message
    type: str
    ids: Mapping[str, Any]
    sns_message_id: str | None
    problem: str | None = None

    @property
    def message_id(self) -> str:
        """The SQS message id, which changes with each redrive."""
        return self.message.message_id

    @property
    def sent_at(self) -> datetime | None:
        """When the message was last sent to its main queue (an aware time), or None if SQS does not say."""
        return self.message.sent_at

    @property
    def key(self) -> str:
        """An id that stays the same after a redrive: the SNS message id, or else a hash of the body."""
        return message_key(self.sns_message_id, self.message.body)

    @property
    def is_mapping_retry(self) -> bool:
        """Whether the message is a mapping retry. Purging one leaves the NOMIS record without a mapping."""
        return self.type == MAPPING_RETRY

    @property
    def offender_no(self) -> str | None:
        """The prisoner number in the message, or None if there is none."""
        named = (self.ids.get(name) for name in ("prisonerId", "offenderNo", "nomsNumber"))
        return next((each for each in named if isinstance(each, str) and _OFFENDER_NO.fullmatch(each)), None)

    @property
    def domain(self) -> Domain | None:
        """The domain that handles the event type, even if the message is on the wrong queue; None if there is none."""
        queue = queue_of(self.type)
        return None if queue is None else domain_of_queue(queue)

    @property
    def creates(self) -> str | None:
        """The id of the DPS record that the event creates in NOMIS, in the form that stored creations use.

        None if the event does not create a record, or if the id cannot be read.
        """
        domain = self.domain
        if domain is None or self.type.lower() != domain.creation.event_type:
            return None
        try:
            return domain.creation.dps_id(DomainEvent(self.type, additional_information=self.ids))
        except MalformedMessage:
            return None

    def as_dict(self) -> dict[str, Any]:
        """The message for JSON output, without the SNS signature, which says nothing about the event."""
        shown = self.as_export()
        if isinstance(shown["body"], dict):
            shown["body"] = {name: value for name, value in shown["body"].items() if name not in _SIGNATURE}
        return shown

    def as_export(self) -> dict[str, Any]:
        """The message for an export, with everything that is needed to send it again by hand."""
        sent = self.sent_at
        return {
            "messageId": self.message_id,
            "type": self.type,
            "ids": dict(self.ids),
            "sentAt": None if sent is None else sent.isoformat(),
            "body": _parsed(self.message.body),
            "attributes": {name: dict(value) for name, value in self.message.attributes.items()},
        }


def read_dead_letter(message: Message) -> DeadLetterMessage:
    """Works out what a message is about. Never raises: a malformed message has a `problem`."""
    try:
        envelope = read_envelope(message.body)
    except MalformedMessage as error:
        kind = MAPPING_RETRY if is_mapping_retry(message.body) else UNREADABLE
        return DeadLetterMessage(message, kind, {}, None, str(error))
    content, sns_message_id = envelope.content, envelope.sns_message_id
    if isinstance(content, DomainEvent):
        prisoner = {} if content.prisoner_id is None else {"prisonerId": content.prisoner_id}
        return DeadLetterMessage(
            message, content.event_type, {**prisoner, **content.additional_information}, sns_message_id
        )
    if isinstance(content, MappingRetry):
        ids = {name: value for name, value in content.mapping.items() if value is not None}
        return DeadLetterMessage(message, MAPPING_RETRY, ids, sns_message_id)
    return DeadLetterMessage(message, content.message_type, {}, sns_message_id)


def _parsed(body: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
