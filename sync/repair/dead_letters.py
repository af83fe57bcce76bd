"""What a message on a dead letter queue is about."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sync.domains.declaration import Domain
from sync.domains.registry import domain_of_queue, queue_of
from sync.events.envelope import MAPPING_RETRY, DomainEvent, MappingRetry, is_mapping_retry, read_envelope
from sync.failures import MalformedMessage
from sync.queues.queue import Message

UNREADABLE = "unreadable"
_OFFENDER_NO = re.compile(r"[A-Z]\d{4}[A-Z]{2}", re.ASCII)
#: What SNS adds to each message so that its origin can be proved.
_SIGNATURE = frozenset({"Signature", "SignatureVersion", "SigningCertURL", "UnsubscribeURL"})
_PLAIN_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead-letter message, and what it is about.

    type: the event type, `RETRY_CREATE_MAPPING`, the type of an unknown message, or `unreadable`. ids: what the event
    is about: its `additionalInformation` and `prisonerId`, or the mapping to be saved. problem: why it is malformed, or
    None if it is not.
    """

    message: Message
    type: str
    ids: Mapping[str, Any]
    sns_message_id: str | None
    problem: str | None = None

    @property
    def key(self) -> str:
        """The id that survives a redrive: the SNS message id, or else a hash of the body."""
        if self.sns_message_id is not None and _PLAIN_ID.fullmatch(self.sns_message_id):
            return self.sns_message_id
        text = self.sns_message_id or self.message.body
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

    @property
    def is_mapping_retry(self) -> bool:
        """Whether purging it would leave a NOMIS record without its mapping."""
        return self.type == MAPPING_RETRY

    @property
    def offender_no(self) -> str | None:
        """The number of the prisoner whom its event names, or None if it names none."""
        named = (self.ids.get(name) for name in ("prisonerId", "offenderNo", "nomsNumber"))
        return next((each for each in named if isinstance(each, str) and _OFFENDER_NO.fullmatch(each)), None)

    @property
    def domain(self) -> Domain | None:
        """The domain of its event, whichever queue it is on; None if it is not an event of any domain."""
        queue = queue_of(self.type)
        return None if queue is None else domain_of_queue(queue)

    @property
    def creates(self) -> str | None:
        """The id of the DPS record that its event creates in NOMIS, as creations store it; None if it creates none."""
        domain = self.domain
        if domain is None or self.type.lower() != domain.creation.event_type:
            return None
        try:
            return domain.creation.dps_id(DomainEvent(self.type, additional_information=self.ids))
        except MalformedMessage:
            return None

    def as_dict(self) -> dict[str, Any]:
        """The message as JSON shows it: without the signature of SNS, which says nothing about the event."""
        shown = self.as_export()
        if isinstance(shown["body"], dict):
            shown["body"] = {name: value for name, value in shown["body"].items() if name not in _SIGNATURE}
        return shown

    def as_export(self) -> dict[str, Any]:
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
