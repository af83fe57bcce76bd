"""The shape of what goes over the wire: request bodies, answers, and the services' pages.

Outside a body is camelCase JSON; inside it is a frozen model that names only the fields that are read or sent.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel

from sync.failures import UpstreamError
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
    Where the call `creates`, its outcome counts as unknown then: something was made, but not which.
    """
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        fields = ", ".join(f"{'.'.join(map(str, each['loc'])) or 'body'} ({each['type']})" for each in wrong)
        message = f"the answer cannot be used: {fields}"
        status = 201 if creates else 200
        raise UpstreamError(
            client.name, method, path, status=status, message=message, outcome_unknown=creates
        ) from None


def read_pages(
    client: ServiceClient, path: str, query: Mapping[str, object], size: int = 1000
) -> Iterator[Mapping[str, Any]]:
    """Every element of a paged list, page by page as they are needed."""
    number = 0
    while True:
        page = client.call("GET", path, query={**query, "page": number, "size": size}) or {}
        yield from page.get("content") or ()
        number += 1
        if page.get("last", True) or number >= int(page.get("totalPages") or 0):
            return
