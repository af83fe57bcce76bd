"""The shape of what goes over the wire: request bodies and answers.

Outside a body is camelCase JSON; inside it is a frozen model that names only the fields that are read or sent.
"""

from collections.abc import Mapping
from datetime import datetime, time
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel, to_snake

from sync.clock import LONDON
from sync.failures import NotUnderstood, UpstreamError
from sync.upstream.transport import ServiceClient

Model = TypeVar("Model", bound="Answer")


def _in_london(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(LONDON).replace(tzinfo=None)


def _without_z(value: object) -> object:
    return value[:-1] if isinstance(value, str) and value[-1:] in ("Z", "z") else value


#: A local date-time of London, as the services write it; one with an offset is that moment in London.
LocalDateTime = Annotated[datetime, AfterValidator(_in_london)]

#: The same for the activities API, which alone writes local date-times with a `Z` that means nothing.
LooseLocalDateTime = Annotated[datetime, BeforeValidator(_without_z), AfterValidator(_in_london)]


def _no_offset(moment: time) -> time:
    if moment.tzinfo is not None:
        raise ValueError("a time of day has no offset")
    return moment


#: A time of day in London. One with an offset is not read: without its date nobody can say when that is.
LocalTime = Annotated[time, AfterValidator(_no_offset)]


def _no_flag(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


#: The number by which a record is known: never below 1.
RecordNumber = Annotated[int, BeforeValidator(_no_flag), Field(gt=0)]


def cut_to_bytes(text: str, most: int) -> str:
    """`text`, or as many of its first characters as take `most` bytes in UTF-8, as which NOMIS's columns count them."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


#: A comment in NOMIS, whose columns for comments hold 240 bytes: what is longer is cut.
Comment = Annotated[str, AfterValidator(lambda text: cut_to_bytes(text, 240))]

#: An amount of money; Decimal inside, a JSON number outside.
Money = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]


class Answer(BaseModel):
    """What is read of an answer; further fields are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore", populate_by_name=True)


class Body(BaseModel):
    """What is sent."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid", populate_by_name=True)

    def as_json(self) -> dict[str, Any]:
        """The body as plain JSON, without the fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def read_answer(
    model: type[Model],
    answer: Any,
    client: ServiceClient,
    method: str,
    path: str,
    *,
    writes: bool = False,
    asked: Mapping[str, int | str] | None = None,
) -> Model:
    """`answer` as `model`; `asked` are the fields, by their JSON names, whose values the request named.

    Raises `UpstreamError` with service, method, path and the names of the fields that do not fit, never their values.
    It is `NotUnderstood` where the answer has none of the fields, so that it is no such record at all, or where it is
    another record than the one asked for. Where the call `writes` it is `NotUnderstood` too, and its outcome counts as
    unknown: something was made or changed, but not which.
    """
    status = 201 if method == "POST" and writes else 200
    try:
        found = model.model_validate(answer)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        fields = ", ".join(f"{'.'.join(map(str, each['loc'])) or 'body'} ({each['type']})" for each in wrong)
        message = f"the answer cannot be used: {fields}"
        if not writes and _has_any_field(model, answer):
            raise UpstreamError(client.name, method, path, status=status, message=message, from_service=True) from None
        raise NotUnderstood(client.name, method, path, status=status, message=message, outcome_unknown=writes) from None
    if asked:
        has = found.model_dump(by_alias=True, include={to_snake(name) for name in asked})
        others = [name for name, value in asked.items() if str(has[name]) != str(value)]
        if others:
            message = f"the answer is about another record: {', '.join(others)} is not the one asked for"
            raise NotUnderstood(client.name, method, path, status=status, message=message, outcome_unknown=writes)
    return found


def read_list(model: type[Model], answer: Any, client: ServiceClient, method: str, path: str) -> tuple[Model, ...]:
    """`answer` as a list of `model`; raises as `read_answer`, `NotUnderstood` for whatever is no list."""
    if not isinstance(answer, list):
        raise NotUnderstood(client.name, method, path, status=200, message="the answer is no list")
    return tuple(read_answer(model, each, client, method, path) for each in answer)


def _has_any_field(model: type[Answer], answer: Any) -> bool:
    return isinstance(answer, dict) and any(field.alias in answer for field in model.model_fields.values())
