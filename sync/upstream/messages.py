"""What an upstream says of a failed call, without what it quotes: a message of its own must not carry ours.

NOMIS repeats what it refuses (`rejected value [the comment]`), and what it repeats would stand in logs, telemetry and
the ledger for good. Codes, numbers and times may stay: they are no personal data, and they say what is wrong.
"""

import re
from collections.abc import Iterator, Mapping

from sync.failures import NON_UNIQUE_TEXT

#: Long enough for every text that a rule or a hint looks for, which stand at its beginning.
LONGEST_MESSAGE = 1000
_LEFT_OUT = "…"
#: Of texts that are quoted in part the beginning is known by so many characters.
_BEGINNING = 10
#: What is shorter says nothing about anybody, and stands in many words.
_SHORTEST = 3
_REJECTED = re.compile(r"(rejected value) \[.*?\](?=\s*;\s*codes|\s*[;,]|\s*$)", re.IGNORECASE | re.DOTALL)
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
#: Codes, numbers, dates, times and ids: nothing that a person wrote.
_CODE = re.compile(r"[A-Z0-9_]{1,12}|(?=\S*\d)[A-Z0-9_.:+/-]{1,60}|[0-9a-fA-F-]{36}")
#: The fields that people fill in, even where a single word in capitals stands in them.
_WRITTEN = re.compile(r"comment|description|text|note|name|detail", re.IGNORECASE)


def own_words(message: str, sent: object = None) -> str:
    """The message on one line and of limited length, without the texts of the request's body (`sent`, as JSON)."""
    line = message.encode(errors="ignore").decode()
    for text in sorted(set(_written(sent)), key=len, reverse=True):
        line = _without(line, text)
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


def _without(line: str, text: str) -> str:
    """The line without a text of ours: as it is, as JSON writes it, or its beginning where it was cut."""
    for form in {text, text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")}:
        words = r"\s+".join(re.escape(word) for word in form.split())
        if len(form) <= _BEGINNING:
            # A short one may be part of another word.
            words = rf"(?<!\w){words}(?!\w)"
        line = re.sub(words, _LEFT_OUT, line, flags=re.IGNORECASE)
        if len(form) > _BEGINNING:
            at = line.find(form[:_BEGINNING])
            while at >= 0:
                end = at + _BEGINNING
                while end < len(line) and end - at < len(form) and line[end] == form[end - at]:
                    end += 1
                line = f"{line[:at]}{_LEFT_OUT}{line[end:]}"
                at = line.find(form[:_BEGINNING], at + 1)
    return line
