"""Parses the body of an SQS message into a domain event, a mapping retry, or a message of an unknown type.

The body is normally an SNS envelope. Its `Message` is text that contains JSON, which is parsed as well. With raw
message delivery, the body is the event itself. The event type is not read from the message attributes, since mapping
retries do not have any.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from unicodedata import category

import orjson

from sync.clock import parse_event_time
from sync.errors import MalformedMessage
from sync.tracing import ATTRIBUTE

#: The Unicode categories of invisible characters: control characters and format marks, such as joiners.
_INVISIBLE = frozenset({"Cc", "Cf"})
_LONGEST_QUOTE = 60
#: The type of a message that only saves a mapping.
MAPPING_RETRY = "RETRY_CREATE_MAPPING"
_PLAIN_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)


def message_key(sns_message_id: str | None, body: str) -> str:
    """An id that is the same for all copies of a message.

    This is the SNS message id, or a hash of that id if it is too long or contains unusual characters. Without an SNS
    message id, it is a hash of the body.
    """
    if sns_message_id is not None and _PLAIN_ID.fullmatch(sns_message_id):
        return sns_message_id
    return hashlib.sha256((sns_message_id or body).encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """An event that a DPS service published.

    `occurred_at` has the UTC offset that the event gives, or is in London time if the event does not give one. It is
    None if the time is missing or malformed. `malformed_time` is the beginning of a malformed time.
    """

    event_type: str
    occurred_at: datetime | None = None
    prisoner_id: str | None = None
    additional_information: Mapping[str, Any] = field(default_factory=dict)
    malformed_time: str | None = None

    def text(self, name: str) -> str:
        """`additionalInformation.<name>` as text. Raises `MalformedMessage` if it is missing or empty."""
        return _text(self.additional_information, name, f"{self.event_type}: additionalInformation")

    def optional_text(self, name: str) -> str | None:
        """`additionalInformation.<name>` as text, or None if it is missing or empty."""
        value = self.additional_information.get(name)
        return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None

    def number(self, name: str) -> int:
        """`additionalInformation.<name>` as a number, which may be written as text.

        Raises `MalformedMessage` if it is missing or is not a number.
        """
        return _number(self.additional_information, name, f"{self.event_type}: additionalInformation")

    def required_prisoner_id(self) -> str:
        """`prisonerId`. Raises `MalformedMessage` if it is missing."""
        if not self.prisoner_id:
            raise MalformedMessage(f"{self.event_type}: prisonerId is missing")
        return self.prisoner_id

    def required_occurred_at(self) -> datetime:
        """`occurredAt`. Raises `MalformedMessage` if it is missing or malformed."""
        if self.malformed_time is not None:
            raise MalformedMessage(f"{self.event_type}: occurredAt cannot be read: {self.malformed_time}")
        if self.occurred_at is None:
            raise MalformedMessage(f"{self.event_type}: occurredAt is missing")
        return self.occurred_at


@dataclass(frozen=True, slots=True)
class MappingRetry:
    """The mapping of a record that NOMIS already has. Only the call that saves the mapping is repeated."""

    mapping: Mapping[str, Any]
    telemetry_attributes: Mapping[str, str]

    def text(self, name: str) -> str:
        """`mapping.<name>` as text. Raises `MalformedMessage` if it is missing or empty."""
        return _text(self.mapping, name, "mapping retry: mapping")

    def number(self, name: str) -> int:
        """`mapping.<name>` as a number, which may be written as text.

        Raises `MalformedMessage` if it is missing or is not a number.
        """
        return _number(self.mapping, name, "mapping retry: mapping")


@dataclass(frozen=True, slots=True)
class Unhandled:
    """A message of an unknown type, which is acknowledged and tracked."""

    message_type: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed message body. `sns_message_id` is the same for all deliveries of one published event.

    `traceparent` is the trace context, which the publisher sets as an attribute of the message.
    """

    content: DomainEvent | MappingRetry | Unhandled
    sns_message_id: str | None
    traceparent: str | None = None


def read_envelope(body: str) -> Envelope:
    """Parses the body of an SQS message. Raises `MalformedMessage`."""
    outer = _object(_json(body, "the message body"), "the message body")
    message_type = outer.get("Type")
    if not isinstance(message_type, str) and "eventType" not in outer:
        raise MalformedMessage("the message body has neither a Type nor an eventType")
    if not isinstance(message_type, str) or ("Message" not in outer and "eventType" in outer):
        return Envelope(_domain_event(outer), None)
    sns_message_id = outer.get("MessageId")
    sns_message_id = sns_message_id if isinstance(sns_message_id, str) else None
    message_type = _trimmed(message_type)
    if message_type.lower() == "notification":
        return Envelope(_domain_event(_inner(outer)), sns_message_id, _attribute(outer, ATTRIBUTE))
    if message_type.upper() == MAPPING_RETRY:
        return Envelope(_mapping_retry(_inner(outer)), sns_message_id)
    return Envelope(Unhandled(message_type), sns_message_id)


def is_mapping_retry(body: str) -> bool:
    """Whether `body` has the type of a mapping retry, even if the rest of it is malformed."""
    try:
        outer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    message_type = outer.get("Type") if isinstance(outer, dict) else None
    return isinstance(message_type, str) and _trimmed(message_type).upper() == MAPPING_RETRY


def write_mapping_retry(mapping: Mapping[str, Any], telemetry_attributes: Mapping[str, str]) -> str:
    """The body of a mapping retry, in a form that both `read_envelope` and the replaced service can read."""
    message = orjson.dumps({"mapping": mapping, "telemetryAttributes": telemetry_attributes}).decode()
    return orjson.dumps({"Type": MAPPING_RETRY, "Message": message, "MessageId": None}).decode()


def write_domain_event(
    event_type: str,
    additional_information: Mapping[str, Any],
    prisoner_id: str | None = None,
    occurred_at: str | None = None,
) -> str:
    """The body of a message that repeats an event, in a form that `read_envelope` can read.

    The body does not have an SNS message id.
    """
    event = {
        "eventType": event_type,
        "version": 1,
        "occurredAt": occurred_at,
        "prisonerId": prisoner_id,
        "additionalInformation": dict(additional_information),
    }
    message = orjson.dumps({name: value for name, value in event.items() if value is not None}).decode()
    attributes = {"eventType": {"Type": "String", "Value": event_type}}
    return orjson.dumps({"Type": "Notification", "Message": message, "MessageAttributes": attributes}).decode()


def _domain_event(message: Mapping[str, Any]) -> DomainEvent:
    event_type = message.get("eventType")
    event_type = _trimmed(event_type) if isinstance(event_type, str) else ""
    if not event_type:
        raise MalformedMessage("the event has no eventType")
    information = message.get("additionalInformation")
    if information is not None and not isinstance(information, dict):
        raise MalformedMessage(f"{event_type}: additionalInformation is not an object")
    prisoner_id = message.get("prisonerId")
    occurred_at, malformed_time = _occurred_at(message.get("occurredAt"))
    return DomainEvent(
        event_type=event_type,
        occurred_at=occurred_at,
        prisoner_id=prisoner_id if isinstance(prisoner_id, str) else None,
        additional_information=information or {},
        malformed_time=malformed_time,
    )


def _occurred_at(value: Any) -> tuple[datetime | None, str | None]:
    """The time, and the beginning of a malformed time; at least one of them is None.

    An event with a malformed time fails only if its handler uses the time.
    """
    if value is None or value == "":
        return None, None
    try:
        return parse_event_time(value), None
    except ValueError:
        return None, repr(value)[:_LONGEST_QUOTE]


def _trimmed(message_type: str) -> str:
    return "".join(each for each in message_type if category(each) not in _INVISIBLE).strip()


def _mapping_retry(message: Mapping[str, Any]) -> MappingRetry:
    mapping = message.get("mapping")
    if not isinstance(mapping, dict):
        raise MalformedMessage("the mapping retry has no mapping")
    attributes = message.get("telemetryAttributes")
    if not isinstance(attributes, dict):
        attributes = {}
    return MappingRetry(mapping, {str(key): str(value) for key, value in attributes.items() if value is not None})


def _text(values: Mapping[str, Any], name: str, of: str) -> str:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise MalformedMessage(f"{of}.{name} is missing")
    return str(value)


def _number(values: Mapping[str, Any], name: str, of: str) -> int:
    text = _text(values, name, of)
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise MalformedMessage(f"{of}.{name} is not a number")
    return int(text)


def _inner(outer: Mapping[str, Any]) -> Mapping[str, Any]:
    message = outer.get("Message")
    if not isinstance(message, str):
        raise MalformedMessage("the message body has no Message text")
    return _object(_json(message, "Message"), "Message")


def _json(text: str, what: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedMessage(f"{what} is not valid JSON: {error}") from error


def _attribute(outer: Mapping[str, Any], name: str) -> str | None:
    attributes = outer.get("MessageAttributes")
    attribute = attributes.get(name) if isinstance(attributes, dict) else None
    value = attribute.get("Value") if isinstance(attribute, dict) else None
    return value if isinstance(value, str) else None


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MalformedMessage(f"{what} is not a JSON object")
    return value
