"""Reads a failed response: which server wrote it, what it says, and whether a write may have been applied.

A body counts as written by the service itself if it is a JSON object with `status` and one of the fields that the HMPPS
services share, such as `userMessage`. Gateways, proxies and other servers at the service's address respond differently.

Services quote the values that they refuse (`rejected value [the comment]`). Such quotes must not reach logs, telemetry
or the database, so `own_words` removes them. It keeps codes, numbers and times from the request: they are not personal,
and they show what is wrong.
"""

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

import orjson

from sync import clock
from sync.errors import NON_UNIQUE_TEXT

#: How many characters of a body are quoted if it is not JSON.
_QUOTE_CHARACTERS = 200
_OWN_FIELDS = frozenset({"userMessage", "developerMessage", "errorCode", "moreInfo"})
#: Spring's words for an unknown path: the service's own words, but not about the record.
_NO_ROUTE = re.compile(
    r"no (static )?resource\b|no resource found|no handler found|no endpoint (get|post|put|delete|patch)\b",
    re.IGNORECASE,
)
#: With these statuses a service refuses a request before it does any work, if it responds itself or the body is empty.
_REFUSED_BEFORE_WORK = frozenset({401, 403, 429})
#: The server stopped waiting or asks for the request again. The first request may still be running.
_GAVE_UP = frozenset({408, 425, 499})
#: The transaction was rolled back: another transaction was quicker, or NOMIS found two rows instead of one.
_ROLLED_BACK = re.compile(
    rf"{NON_UNIQUE_TEXT}|updated or deleted by another transaction|optimistic lock|unexpected row count", re.IGNORECASE
)
#: The commit or the connection to the database failed: the transaction may have been committed.
_IN_DOUBT = re.compile(
    r"commit|connect|jdbc|\bi/?o\b|ioexception|socket|broken pipe|time[d -]*out|network|communication|end-of-file"
    r"|transactionsystem|heuristic|ORA-031\d\d|ORA-1[27]\d\d\d",
    re.IGNORECASE,
)
_SECONDS = re.compile(r"\d{1,9}(\.\d+)?", re.ASCII)

#: How much of a message is kept. The texts that rules and hints search for come first in a message, so they fit.
MESSAGE_CHARACTERS = 1000
_READ_CHARACTERS = 20 * MESSAGE_CHARACTERS
_LEFT_OUT = "…"
#: A partial quote of a string is recognised by this many consecutive characters.
_PART = 10
#: Quoted text may have been escaped this many times: by one service, and again by the next.
_ESCAPE_LEVELS = 2
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\"'\\/bfnrt]))")
_ESCAPES = dict.fromkeys("bfnrt", " ")
_PERCENT = re.compile(r"%[0-9a-fA-F]{2}")
#: A string with fewer characters identifies nobody and is part of many words, so it is not removed.
_SHORTEST = 3
_REJECTED = re.compile(
    r"(rejected value)\b.*?(?=\s*;\s*(?:codes|arguments|default message)\b|\s*$)", re.IGNORECASE | re.DOTALL
)
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
#: Codes, numbers, dates, times and ids: not written by a person.
_CODE = re.compile(r"[A-Z0-9_]{1,12}|(?=\S*\d)[A-Z0-9_.:+/-]{1,60}|[0-9a-fA-F-]{36}")
#: Fields that people fill in. Their values are removed even if they look like a code, as a word in capitals does.
_WRITTEN = re.compile(r"comment|description|text|note|name|detail", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The body of a failed response.

    message: the first of its messages, or the beginning of the body if the body is not JSON. texts: all its messages.
    more_info: its `moreInfo`. error_code: the service's number for the cause of the failure, where one status can have
    several causes. from_service: whether the service itself wrote the body. no_route: whether the body says that the
    service does not have the path. empty: whether the body is empty, as it is when Spring refuses a token.
    """

    message: str = ""
    texts: str = ""
    more_info: object | None = None
    error_code: int | None = None
    from_service: bool = False
    no_route: bool = False
    empty: bool = False


def is_error_body(body: object) -> bool:
    """Whether `body` (decoded JSON) has the form that the error bodies of the HMPPS services share."""
    return isinstance(body, dict) and "status" in body and not _OWN_FIELDS.isdisjoint(body)


def parse_error_body(data: bytes) -> ErrorBody:
    """Parses `data` as an error body; never raises."""
    if not data:
        return ErrorBody(empty=True)
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ErrorBody(data[:_QUOTE_CHARACTERS].decode("utf-8", "replace"))
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
    """Whether a write that ended with `status`, which is outside the range 200 to 299, may have been applied.

    A write was certainly not applied after a 401, 403 or 429 that comes from the service itself or has no body: the
    service sends these before it does any work. A 503 is different: a gateway also sends it when the service stops in
    the middle of its work. Any other 4xx from the service itself is a refusal, except a 408, 425 or 499. A 500 whose
    text is known to mean a rollback, and does not mention the commit or a connection, is a refusal as well. After any
    other response, the outcome is unknown.

    `no_look_up` means that no later look-up can show the outcome either. In that case, unless the text mentions the
    commit or a connection, a write counts as rolled back after a 500 from the service itself: it nearly always was.
    After a 401, 403 or 429, it counts as not applied, no matter which server sent the response.
    """
    if status in _REFUSED_BEFORE_WORK and (body.from_service or body.empty or no_look_up):
        return False
    if not body.from_service and not (status == 500 and body.texts):
        return True
    if 400 <= status < 500:
        return status in _GAVE_UP
    if status != 500 or _IN_DOUBT.search(body.texts):
        return True
    rolled_back = no_look_up and body.from_service
    return not rolled_back and _ROLLED_BACK.search(body.texts) is None


def parse_retry_after(value: str | None) -> float | None:
    """The wait in seconds that `value`, a `Retry-After` header, asks for. None if `value` is not a number or a date.

    Source: RFC 9110, section 10.2.3.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    # The RFC allows three forms; one of them (asctime) has no zone and means UTC.
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(0.0, (moment - clock.now()).total_seconds())


def own_words(message: str, sent: object = None) -> str:
    """`message` on one line, shortened, without the texts in `sent` that a person may have written.

    `sent` is the body of the request. Any value that the message itself calls rejected is removed too.
    """
    beginning = message[:_READ_CHARACTERS]
    line, plain = beginning.encode(errors="ignore").decode(), _unescaped(beginning)
    written = set(_written(sent))
    texts = sorted(written | {_unescaped(text) for text in written}, key=len, reverse=True)
    cleaned = _without_all(plain, texts)
    line = _without_all(line, texts) if cleaned == plain else cleaned
    line = _BLANKS.sub(" ", _REJECTED.sub(rf"\1 [{_LEFT_OUT}]", line)).strip()
    if NON_UNIQUE_TEXT in message and NON_UNIQUE_TEXT not in line[:MESSAGE_CHARACTERS]:
        line = f"{NON_UNIQUE_TEXT}: {line}"
    return line if len(line) <= MESSAGE_CHARACTERS else f"{line[:MESSAGE_CHARACTERS]}{_LEFT_OUT}"


def _written(sent: object, field: str = "") -> Iterator[str]:
    if isinstance(sent, Mapping):
        for name, value in sent.items():
            yield from _written(value, str(name))
    elif isinstance(sent, list | tuple):
        for value in sent:
            yield from _written(value, field)
    elif (
        isinstance(sent, str)
        and len(sent.strip()) >= _SHORTEST
        and (_WRITTEN.search(field) or not _CODE.fullmatch(sent))
    ):
        yield sent.strip()


def _without_all(line: str, texts: Iterable[str]) -> str:
    for text in texts:
        line = _without(line, text)
    return line


def _without(line: str, text: str) -> str:
    """`line` with `text`, and any part of it that has at least `_PART` characters, replaced by `_LEFT_OUT`."""
    words = r"\s+".join(re.escape(word) for word in text.split())
    if len(text) < _PART:
        # Short text may be part of another word.
        return re.sub(rf"(?<!\w){words}(?!\w)", _LEFT_OUT, line, flags=re.IGNORECASE)
    line = re.sub(words, _LEFT_OUT, line, flags=re.IGNORECASE)
    searched, sought = line.lower(), text.lower()
    if len(searched) != len(line):
        searched, sought = line, text
    parts = {sought[at : at + _PART] for at in range(len(sought) - _PART + 1)}
    kept, end = [], 0
    for at in range(len(searched) - _PART + 1):
        if searched[at : at + _PART] in parts:
            if at >= end:
                kept.append(f"{line[end:at]}{_LEFT_OUT}")
            end = at + _PART
    return "".join(kept) + line[end:]


def _unescaped(text: str) -> str:
    """`text` with the escapes of HTML, JSON, SQL and URLs decoded, since a quoted value may contain any of them."""
    for _ in range(_ESCAPE_LEVELS):
        text = _ESCAPED.sub(_unescaped_one, html.unescape(text))
        text = unquote(text) if _PERCENT.search(text) else text
        text = text.replace("''", "'")
    return text.encode(errors="ignore").decode()


def _unescaped_one(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else _ESCAPES.get(found[2], found[2])


def _number(code: object) -> int | None:
    """`code` as a number, or None if it is neither a whole number nor a string of digits."""
    if isinstance(code, str) and code.isascii() and code.isdecimal():
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None
