"""The shapes of request bodies and responses, and the pages of a list.

A body is camelCase JSON on the wire. In the program, it is a frozen model that has only the fields that are read or
sent.

Spring writes a page in one of two forms. In the first, `number`, `size`, `totalElements`, `totalPages` and `last` are
fields of the page itself. In the second, there is no `last`, and the others are fields of an object `page` inside the
page. A page that contradicts itself is refused, so that a list never counts as complete because of such a page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel, to_snake

from sync.clock import LONDON
from sync.errors import NotUnderstood, UpstreamError
from sync.upstream.transport import ServiceClient

Model = TypeVar("Model", bound="Response")

#: The longest list that is accepted. A larger total is an error, not a reason to make calls for days.
MAX_ELEMENTS = 1_000_000

_COUNTS = ("number", "size", "totalElements", "totalPages", "numberOfElements")


def _in_london(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(LONDON).replace(tzinfo=None)


#: A date-time in London, as the services write it. A date-time with an offset is converted to London time.
LocalDateTime = Annotated[datetime, AfterValidator(_in_london)]


def _no_offset(moment: time) -> time:
    if moment.tzinfo is not None:
        raise ValueError("a time of day must not have an offset")
    return moment


#: A time of day in London. A time with an offset is refused, since the local time depends on the date.
LocalTime = Annotated[time, AfterValidator(_no_offset)]


def _not_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true and false are not numbers")
    return value


#: The number of a record, at least 1.
RecordNumber = Annotated[int, BeforeValidator(_not_boolean), Field(gt=0)]


def cut_to_bytes(text: str, limit: int) -> str:
    """`text` cut to at most `limit` bytes of UTF-8. NOMIS's columns are measured in bytes."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


#: A comment in NOMIS, cut to the 240 bytes that fit in its comment columns.
Comment = Annotated[str, AfterValidator(lambda text: cut_to_bytes(text, 240))]

#: An amount of money: a Decimal in the program, and a number in JSON.
Money = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]


@dataclass(frozen=True, slots=True)
class Since:
    """Marks a field that services have had since a given month (`2023-11`) and that the program can do without."""

    month: str


@dataclass(frozen=True, slots=True)
class AlsoRead:
    """Marks a field that newer versions of the service write as `shape`. The program reads the older form as well."""

    shape: Any


class Response(BaseModel):
    """The fields that are read from a response; further fields are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore", populate_by_name=True)


class Body(BaseModel):
    """The fields of a request's body; a field that is not declared is an error."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid", populate_by_name=True)

    def as_json(self) -> dict[str, Any]:
        """The body as plain JSON, without the fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def parse_response(
    model: type[Model],
    response: Any,
    client: ServiceClient,
    method: str,
    path: str,
    *,
    writes: bool = False,
    asked: Mapping[str, int | str] | None = None,
) -> Model:
    """Parses `response` as `model`; `asked` has the values that fields must have, by the JSON names of the fields.

    Raises `UpstreamError` with the service, the method, the path and the names of the fields that do not fit, but never
    their values. The error is `NotUnderstood` if the response has none of the fields of `model`, and so is a different
    kind of record, or if it is a different record from the requested one. If the call `writes`, the error is always
    `NotUnderstood` with an unknown outcome: something was created or changed, but the response does not say which
    record.
    """
    status = 201 if method == "POST" and writes else 200
    try:
        found = model.model_validate(response)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        fields = ", ".join(f"{'.'.join(map(str, each['loc'])) or 'body'} ({each['type']})" for each in wrong)
        message = f"the response cannot be used: {fields}"
        if not writes and _has_any_field(model, response):
            raise UpstreamError(client.name, method, path, status=status, message=message, from_service=True) from None
        raise NotUnderstood(client.name, method, path, status=status, message=message, outcome_unknown=writes) from None
    if asked:
        has = found.model_dump(by_alias=True, include={to_snake(name) for name in asked})
        others = [name for name, value in asked.items() if str(has[name]) != str(value)]
        if others:
            message = f"the response is about another record: it differs in {', '.join(others)}"
            raise NotUnderstood(client.name, method, path, status=status, message=message, outcome_unknown=writes)
    return found


def parse_list(model: type[Model], response: Any, client: ServiceClient, method: str, path: str) -> tuple[Model, ...]:
    """Parses `response` as a list of `model`; raises the same errors as `parse_response`."""
    if not isinstance(response, list):
        raise NotUnderstood(client.name, method, path, status=200, message="the response is not a list")
    return tuple(parse_response(model, each, client, method, path) for each in response)


def _has_any_field(model: type[Response], response: Any) -> bool:
    return isinstance(response, dict) and any(field.alias in response for field in model.model_fields.values())


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: its elements as received, its number (from 0), and the totals of the whole list."""

    content: tuple[Any, ...]
    number: int
    total_elements: int
    total_pages: int
    last: bool


def parse_page(response: Any, number: int, size: int) -> Page:
    """Parses `response` as page `number`, with at most `size` elements. Raises `ValueError` if it is not that page.

    If the response lacks `last`, the totals decide whether the page is the last one. A response without
    `totalElements` is refused.
    """
    if not isinstance(response, dict):
        raise ValueError(f"it is {_kind(response)}, not an object")
    content = response.get("content")
    if not isinstance(content, list):
        raise ValueError(f"its content is {_kind(content)}, not a list")
    counts = page_counts(response)
    if counts.get("number", number) != number:
        raise ValueError(f"it is page {counts['number']}")
    if counts.get("numberOfElements", len(content)) != len(content):
        raise ValueError(f"its numberOfElements is {counts['numberOfElements']}, but its content has {len(content)}")
    if "totalElements" not in counts:
        raise ValueError("it does not say how many elements there are")
    total, real_size = counts["totalElements"], counts.get("size", size)
    if total > MAX_ELEMENTS:
        raise ValueError(f"it says that there are {total} elements")
    if not 0 < real_size <= size:
        raise ValueError(f"its size is {real_size}, but {size} was requested")
    pages = -(-total // real_size)
    # An empty list counts as no page or as one page, depending on Spring's version.
    if counts.get("totalPages", pages) != pages and not (total == 0 and counts["totalPages"] == 1):
        raise ValueError(f"{total} elements in pages of {real_size} are {pages} pages, not {counts['totalPages']}")
    last = response.get("last", number + 1 >= pages)
    if not isinstance(last, bool):
        raise ValueError(f"its last is {_kind(last)}")
    if last != (number + 1 >= pages):
        raise ValueError(f"it says that it is {'' if last else 'not '}the last of {pages} pages")
    expected = min(real_size, max(0, total - number * real_size))
    if len(content) != expected:
        raise ValueError(f"it has {len(content)} of {total} elements instead of {expected}")
    return Page(tuple(content), number, total, pages, last)


def page_counts(response: Mapping[str, Any]) -> dict[str, int]:
    """The counts of a page in either form, by name.

    Raises `ValueError` for a count that is negative or not a whole number, or that the page states twice with different
    values.
    """
    inner = response.get("page", {})
    if not isinstance(inner, dict):
        raise ValueError(f"its page is {_kind(inner)}, not an object")
    counts: dict[str, int] = {}
    for fields in (response, inner):
        for name in _COUNTS:
            if name not in fields:
                continue
            value = fields[name]
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"its {name} is {value if isinstance(value, int) else _kind(value)}")
            if counts.setdefault(name, value) != value:
                raise ValueError(f"its {name} is {counts[name]} and {value}")
    return counts


def _kind(value: object) -> str:
    """The JSON type of a value, for messages that must not contain the value itself, which may be personal."""
    if value is None:
        return "missing or null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"
