"""What a response without success says: in whose words, about what, and whether a write may have been applied.

The body of an error is the service's own if it is a JSON object with `status` and one of the fields that the HMPPS
services share, such as `userMessage`. Gateways, proxies and other servers at the address respond otherwise.
"""

import re
from dataclasses import dataclass

import orjson

from sync.failures import NON_UNIQUE_TEXT

#: A message that is not JSON is quoted up to this number of characters.
_LONGEST_QUOTE = 200
_OWN_FIELDS = frozenset({"userMessage", "developerMessage", "errorCode", "moreInfo"})
#: How Spring says that it has no such path. That is the word of a service, but not about the record.
_NO_ROUTE = re.compile(
    r"no (static )?resource\b|no resource found|no handler found|no endpoint (get|post|put|delete|patch)\b",
    re.IGNORECASE,
)
#: Turned away before the work, where it is the service that says so, or nobody says anything.
_TURNED_AWAY = frozenset({401, 403, 429})
#: Somebody stopped waiting, or wants the request again: it may be under way all the same.
_GAVE_UP = frozenset({408, 425, 499})
#: The transaction was rolled back: another one was quicker, or NOMIS found two rows where there may be one.
_ROLLED_BACK = re.compile(
    rf"{NON_UNIQUE_TEXT}|updated or deleted by another transaction|optimistic lock|unexpected row count", re.IGNORECASE
)
#: What failed was the end of the transaction, or the way to the database: it may have been committed.
_IN_DOUBT = re.compile(
    r"commit|connect|jdbc|\bi/?o\b|ioexception|socket|broken pipe|time[d -]*out|network|communication|end-of-file"
    r"|transactionsystem|heuristic|ORA-031\d\d|ORA-1[27]\d\d\d",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The body of a response without success.

    message: its message for a person, of a text that is not JSON its start. texts: every message of it.
    error_code: the number by which the service tells its refusals of one status apart.
    from_service: whether the service itself wrote it. no_route: whether it says that the service has no such path.
    empty: whether there is none at all, as when Spring refuses a token.
    """

    message: str = ""
    texts: str = ""
    more_info: object | None = None
    error_code: int | None = None
    from_service: bool = False
    no_route: bool = False
    empty: bool = False


def is_error_body(body: object) -> bool:
    """Whether decoded JSON is the error body that the HMPPS services share."""
    return isinstance(body, dict) and "status" in body and not _OWN_FIELDS.isdisjoint(body)


def read_error_body(data: bytes) -> ErrorBody:
    """The error body in `data`, whatever that is."""
    if not data:
        return ErrorBody(empty=True)
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ErrorBody(data[:_LONGEST_QUOTE].decode("utf-8", "replace"))
    if not isinstance(body, dict):
        return ErrorBody()
    found = (body.get(name) for name in ("userMessage", "developerMessage", "error_description", "error"))
    texts = [str(text) for text in found if text]
    joined = "\n".join(texts)
    return ErrorBody(
        message=texts[0] if texts else "",
        texts=joined,
        more_info=body.get("moreInfo"),
        error_code=_number(body.get("errorCode")),
        from_service=is_error_body(body),
        no_route=_NO_ROUTE.search(joined) is not None,
    )


def may_have_been_applied(status: int, body: ErrorBody, *, no_look_up: bool) -> bool:
    """Whether a write that ended with this status, not one of 200 to 299, may have been applied.

    Certainly not after 401, 403 and 429 of the service itself, or without a body: those are decided before the work,
    and 429 means that the request was not processed. 503 means nothing of the kind: a gateway sends it also when the
    service stops in the middle of its work. Another 4xx is a refusal if it is the service's own; so is a 500 with a
    text that is known to mean a rollback. After every other 5xx, and whatever is not the service's own word, nobody can
    tell.

    With `no_look_up` nobody can ask the service afterwards either. A 500 of its own then counts as rolled back, as
    it nearly always is, unless its text is about the commit or a connection; and 401, 403 and 429 count as decided
    before the work, whoever sent them.
    """
    if status in _TURNED_AWAY and (body.from_service or body.empty or no_look_up):
        return False
    if not body.from_service and not (status == 500 and body.texts):
        return True
    if 400 <= status < 500:
        return status in _GAVE_UP
    if status != 500 or _IN_DOUBT.search(body.texts):
        return True
    rolled_back = no_look_up and body.from_service
    return not rolled_back and _ROLLED_BACK.search(body.texts) is None


def _number(code: object) -> int | None:
    """A number or its digits; None where it is neither."""
    if isinstance(code, str) and code.isascii() and code.isdecimal():
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None
