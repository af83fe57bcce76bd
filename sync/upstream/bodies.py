"""The shape of what goes over the wire: request bodies and answers.

Outside a body is camelCase JSON; inside it is a frozen model that names only the fields that are read or sent.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel

from sync.failures import NotUnderstood, UpstreamError
from sync.upstream.transport import ServiceClient

Model = TypeVar("Model", bound="Answer")

#: A local date-time of London. Services write some with a `Z` that means nothing, so a zone is dropped.
LocalDateTime = Annotated[datetime, AfterValidator(lambda moment: moment.replace(tzinfo=None))]

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
    model: type[Model], answer: Any, client: ServiceClient, method: str, path: str, *, creates: bool = False
) -> Model:
    """`answer` as `model`.

    Raises `UpstreamError` with service, method, path and the names of the fields that do not fit, never their values.
    It is `NotUnderstood` where the answer has none of the fields: then it is not such a record at all. Where the call
    `creates`, its outcome counts as unknown then: something was made, but not which.
    """
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
    fields = ", ".join(f"{'.'.join(map(str, each['loc'])) or 'body'} ({each['type']})" for each in wrong)
    message = f"the answer cannot be used: {fields}"
    status = 201 if creates else 200
    if creates or not _has_any_field(model, answer):
        raise NotUnderstood(client.name, method, path, status=status, message=message, outcome_unknown=creates)
    raise UpstreamError(client.name, method, path, status=status, message=message, from_service=True)


def read_list(model: type[Model], answer: Any, client: ServiceClient, method: str, path: str) -> tuple[Model, ...]:
    """`answer` as a list of `model`; raises as `read_answer`, `NotUnderstood` for whatever is no list."""
    if not isinstance(answer, list):
        raise NotUnderstood(client.name, method, path, status=200, message="the answer is no list")
    return tuple(read_answer(model, each, client, method, path) for each in answer)


def _has_any_field(model: type[Answer], answer: Any) -> bool:
    return isinstance(answer, dict) and any(field.alias in answer for field in model.model_fields.values())
