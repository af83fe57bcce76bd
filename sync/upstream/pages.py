"""The pages of a list, in both forms in which Spring writes them, and only where they make sense.

Either `number`, `size`, `totalElements`, `totalPages` and `last` stand beside the `content`, or all but `last` in an
object `page`. A page that contradicts itself is not read: a list is never taken to be complete on its word.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sync.failures import NotUnderstood
from sync.upstream.transport import ServiceClient

#: No list that is read here comes near it: a total beyond is an error, not a reason to make calls for days.
MOST_ELEMENTS = 1_000_000

_COUNTS = ("number", "size", "totalElements", "totalPages", "numberOfElements")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: its elements as they came, and where it stands among the pages, counted from 0."""

    content: tuple[Any, ...]
    number: int
    total_elements: int
    total_pages: int
    last: bool


def read_page(client: ServiceClient, path: str, query: Mapping[str, object], number: int, size: int) -> Page:
    """Page `number` (from 0) of a list; the service may make the pages smaller than `size`.

    Raises `UpstreamError`, as `NotUnderstood` where the answer is no page or contradicts itself.
    """
    answer = client.call("GET", path, query={**query, "page": number, "size": size})
    try:
        return page_of(answer, number, size)
    except ValueError as error:
        message = f"page {number} cannot be right: {error}"
        raise NotUnderstood(client.name, "GET", path, status=200, message=message) from None


def page_of(answer: Any, number: int, size: int) -> Page:
    """The page that `answer` is, when page `number` of `size` elements was asked for; raises `ValueError` for others.

    Without `last` the totals tell whether it is the last page; without totals it is refused.
    """
    if not isinstance(answer, dict):
        raise ValueError(f"it is {_kind(answer)}, not an object")
    content = answer.get("content")
    if not isinstance(content, list):
        raise ValueError(f"its content is {_kind(content)}, not a list")
    told = counts_of(answer)
    if told.get("number", number) != number:
        raise ValueError(f"it is page {told['number']}")
    if told.get("numberOfElements", len(content)) != len(content):
        raise ValueError(f"it has {len(content)} elements and says {told['numberOfElements']}")
    if "totalElements" not in told:
        raise ValueError("it does not say how many elements there are")
    total, real_size = told["totalElements"], told.get("size", size)
    if total > MOST_ELEMENTS:
        raise ValueError(f"it says that there are {total} elements")
    if not 0 < real_size <= size:
        raise ValueError(f"its size is {real_size}, and {size} was asked for")
    pages = -(-total // real_size)
    # Spring counts no page, or one, where there are no elements.
    if told.get("totalPages", pages) != pages and not (total == 0 and told["totalPages"] == 1):
        raise ValueError(f"{total} elements by {real_size} are {pages} pages, not {told['totalPages']}")
    last = answer.get("last", number + 1 >= pages)
    if not isinstance(last, bool):
        raise ValueError(f"its last is {_kind(last)}")
    if last != (number + 1 >= pages):
        raise ValueError(f"of {pages} pages it says that it is {'' if last else 'not '}the last")
    expected = min(real_size, max(0, total - number * real_size))
    if len(content) != expected:
        raise ValueError(f"of {total} elements it has {len(content)} instead of {expected}")
    return Page(tuple(content), number, total, pages, last)


def read_pages(client: ServiceClient, path: str, query: Mapping[str, object], size: int = 1000) -> Iterator[Any]:
    """Every element of a list, page by page as they are needed.

    Raises `NotUnderstood` where an element may have been missed: it became shorter, or an element came twice.
    """
    number, total = 0, 0
    seen: set[bytes] = set()
    while True:
        page = read_page(client, path, query, number, size)
        rows = {orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in page.content}
        if page.total_elements < total or len(rows) < len(page.content) or not rows.isdisjoint(seen):
            message = f"elements moved or came twice while its pages were read: see page {number}"
            raise NotUnderstood(client.name, "GET", path, status=200, message=message)
        yield from page.content
        if page.last:
            return
        seen |= rows
        number, total = number + 1, page.total_elements


def counts_of(answer: Mapping[str, Any]) -> dict[str, int]:
    """The counts that a page gives, by their names, wherever they stand; raises `ValueError` for what is no count."""
    inner = answer.get("page", {})
    if not isinstance(inner, dict):
        raise ValueError(f"its page is {_kind(inner)}, not an object")
    found: dict[str, int] = {}
    for where in (answer, inner):
        for name in _COUNTS:
            if name not in where:
                continue
            value = where[name]
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"its {name} is {value if isinstance(value, int) else _kind(value)}")
            if found.setdefault(name, value) != value:
                raise ValueError(f"its {name} is {found[name]} and {value}")
    return found


def _kind(value: object) -> str:
    """What kind of JSON a value is; the value itself may be personal."""
    if value is None:
        return "missing or null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"
