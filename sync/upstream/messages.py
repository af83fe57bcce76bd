"""What an upstream says of a failed call, without what it quotes: a message of its own must not carry ours.

NOMIS repeats what it refuses (`rejected value [the comment]`), and what it repeats would stand in logs, telemetry and
the ledger for good. Codes, numbers and times may stay: they are no personal data, and they say what is wrong.
"""

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

from sync.failures import NON_UNIQUE_TEXT

#: Long enough for every text that a rule or a hint looks for, which stand at its beginning.
LONGEST_MESSAGE = 1000
_MOST_READ = 20 * LONGEST_MESSAGE
_LEFT_OUT = "…"
#: Of texts that are quoted in part, so many characters in a row are known as ours.
_PART = 10
#: A text that is quoted may be escaped by one service, and then by another.
_MOST_ESCAPES = 2
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\"'\\/bfnrt]))")
_ESCAPES = dict.fromkeys("bfnrt", " ")
_PERCENT = re.compile(r"%[0-9a-fA-F]{2}")
#: What is shorter says nothing about anybody, and stands in many words.
_SHORTEST = 3
_REJECTED = re.compile(
    r"(rejected value)\b.*?(?=\s*;\s*(?:codes|arguments|default message)\b|\s*$)", re.IGNORECASE | re.DOTALL
)
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
#: Codes, numbers, dates, times and ids: nothing that a person wrote.
_CODE = re.compile(r"[A-Z0-9_]{1,12}|(?=\S*\d)[A-Z0-9_.:+/-]{1,60}|[0-9a-fA-F-]{36}")
#: The fields that people fill in, even where a single word in capitals stands in them.
_WRITTEN = re.compile(r"comment|description|text|note|name|detail", re.IGNORECASE)


def own_words(message: str, sent: object = None) -> str:
    """The message on one line and of limited length, without the texts of the request's body (`sent`, as JSON)."""
    beginning = message[:_MOST_READ]
    line, plain = beginning.encode(errors="ignore").decode(), _unescaped(beginning)
    written = set(_written(sent))
    texts = sorted(written | {_unescaped(text) for text in written}, key=len, reverse=True)
    told = _without_all(plain, texts)
    line = _without_all(line, texts) if told == plain else told
    line = _BLANKS.sub(" ", _REJECTED.sub(rf"\1 [{_LEFT_OUT}]", line)).strip()
    if NON_UNIQUE_TEXT in message and NON_UNIQUE_TEXT not in line[:LONGEST_MESSAGE]:
        line = f"{NON_UNIQUE_TEXT}: {line}"
    return line if len(line) <= LONGEST_MESSAGE else f"{line[:LONGEST_MESSAGE]}{_LEFT_OUT}"


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
    """The line without a text of ours, nor any larger part of it."""
    words = r"\s+".join(re.escape(word) for word in text.split())
    if len(text) < _PART:
        # A short one may be part of another word.
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
    """The text without the escapes of HTML, JSON, SQL and addresses, in which one of ours may be quoted."""
    for _ in range(_MOST_ESCAPES):
        text = _ESCAPED.sub(_unescaped_one, html.unescape(text))
        text = unquote(text) if _PERCENT.search(text) else text
        text = text.replace("''", "'")
    return text.encode(errors="ignore").decode()


def _unescaped_one(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else _ESCAPES.get(found[2], found[2])
