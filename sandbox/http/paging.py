"""Pages in the form of Spring Data, as NOMIS and visit-scheduler return them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.http.serving import Refused, Reply, Request

DEFAULT_SIZE = 20
LARGEST_SIZE = 20_000


def number(request: Request, name: str, default: int) -> int:
    """Returns a whole number from the query or, as Spring does, the default if the value is absent or not a number."""
    text = request.first(name)
    if text is None or not text.removeprefix("-").isdecimal():
        return default
    return int(text)


def page(
    request: Request,
    items: Sequence[object] | int,
    view: Callable[[int, int], list[object]],
    *,
    largest: int | None = LARGEST_SIZE,
) -> Reply:
    """Returns one page of a listing.

    Args: request: the request, whose query may give `page` (from 0; a negative number counts as 0) and `size` (20 if
    absent or below 1; lowered to `largest` if above it). items: the whole listing, or its length. view: returns the
    content from a start index up to, but not including, an end index. largest: the largest size allowed, or None for a
    service without a limit.
    """
    total = items if isinstance(items, int) else len(items)
    wanted = max(0, number(request, "page", 0))
    size = number(request, "size", DEFAULT_SIZE)
    size = DEFAULT_SIZE if size < 1 else size if largest is None else min(size, largest)
    start = wanted * size
    content = view(start, min(total, start + size)) if start < total else []
    pages = -(-total // size)
    sort = {"empty": False, "sorted": True, "unsorted": False}
    return Reply(
        body={
            "content": content,
            "number": wanted,
            "size": size,
            "totalElements": total,
            "totalPages": pages,
            "numberOfElements": len(content),
            "first": wanted == 0,
            "last": wanted >= pages - 1,
            "empty": not content,
            "pageable": {
                "pageNumber": wanted,
                "pageSize": size,
                "offset": start,
                "paged": True,
                "unpaged": False,
                "sort": sort,
            },
            "sort": sort,
        }
    )


def flag(request: Request, name: str, default: bool) -> bool:
    """Returns a boolean from the query, or the default if the parameter is absent or empty.

    Raises:
        Refused: 400 if the value is neither true nor false.
    """
    text = request.first(name)
    if text is None or text == "":
        return default
    if text.lower() not in ("true", "false"):
        raise Refused(400, f"Bad request: Failed to convert value of '{name}' to type boolean: {text}")
    return text.lower() == "true"
