"""The messages that the demo posted to Slack, as a text to read: each message, and its thread below it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_INDENT = "    "


def slack_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The messages in their order, each with its channel; replies are indented below what they reply to."""
    replies: dict[str, list[Mapping[str, Any]]] = {}
    for each in messages:
        if each["thread_ts"]:
            replies.setdefault(each["thread_ts"], []).append(each)
    lines: list[str] = []
    for each in messages:
        if each["thread_ts"]:
            continue
        lines += [f"[{each['channel']}]", *_lines(each), ""]
        for reply in replies.get(each["ts"], ()):
            lines += [*(f"{_INDENT}{line}" for line in _lines(reply)), ""]
    return "\n".join(lines)


def _lines(message: Mapping[str, Any]) -> list[str]:
    """What people read: the blocks, or the plain text of a message without blocks."""
    texts = list(_texts(message["blocks"])) or [str(message["text"])]
    return [line for text in texts for line in text.splitlines()]


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for each in part:
            yield from _texts(each)
    elif isinstance(part, dict):
        for name, value in part.items():
            if name == "text" and isinstance(value, str):
                yield value
            else:
                yield from _texts(value)
