"""Slack messages in Block Kit: texts are escaped, cut to Slack's limits and spread over as few messages as possible.

Every message also contains its words as text without blocks. Notifications show this text, and it is sent alone if
Slack refuses the blocks. The limits are those given at https://docs.slack.dev/reference/block-kit; the limit for a
whole message is the length that Slack recommends for the text of a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The most characters in a message, in its header and in any other part, and the most parts in a message.
LONGEST_MESSAGE: Final = 4_000
LONGEST_HEADER: Final = 150
LONGEST_PART: Final = 3_000
MOST_PARTS: Final = 50
#: What can remain of an escaped character at the end of text that was cut.
_HALF_ENTITY: Final = re.compile(r"&[a-z]{0,3}$")
_CUT: Final = "…"
#: Characters that are not percent-encoded in an address: characters with a meaning there, and the `%` of characters
#: that are already encoded.
_IN_ADDRESS: Final = ":/?#[]@!$&'()*+,;=%"


@dataclass(frozen=True, slots=True)
class MessageBlock:
    """A part of a message. text: the words, escaped and in Slack's markup; for a `header`, the words as plain text."""

    kind: Literal["header", "section", "context"]
    text: str

    def block(self) -> dict[str, Any]:
        """The part as a block of Block Kit; `verbatim` keeps Slack from turning names or addresses in it into links."""
        if self.kind == "header":
            return {"type": "header", "text": {"type": "plain_text", "text": self.text, "emoji": False}}
        text = {"type": "mrkdwn", "text": self.text, "verbatim": True}
        if self.kind == "context":
            return {"type": "context", "elements": [text]}
        return {"type": "section", "text": text}

    def words(self) -> str:
        """The part as text, for a message without blocks."""
        return f"*{escaped(self.text)}*" if self.kind == "header" else self.text


@dataclass(frozen=True, slots=True)
class SlackMessage:
    """A message. text: what notifications show. blocks: what Slack shows in the conversation, in Block Kit."""

    text: str
    blocks: tuple[dict[str, Any], ...]


def slack_text(text: str) -> str:
    """The text on one line, escaped so that Slack finds no link, mention, command or code in it."""
    return escaped("".join(letter if letter.isprintable() else " " for letter in text.replace("`", "'")))


def escaped(text: str) -> str:
    """The text with the three control characters of Slack's markup, `&`, `<` and `>`, escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_code(text: str) -> str:
    """The text in code style, for people to copy."""
    return f"`{slack_text(text)}`"


def slack_link(address: str, text: str) -> str:
    """A link to `address` that shows `text`.

    Characters that would end the address in Slack's markup are percent-encoded.
    """
    return f"<{escaped(quote(address, safe=_IN_ADDRESS))}|{slack_text(text)}>"


def header(text: str) -> MessageBlock:
    """The title of a message as plain text, cut to the length that Slack accepts."""
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split()) or _CUT
    return MessageBlock("header", plain if len(plain) <= LONGEST_HEADER else plain[: LONGEST_HEADER - 1] + _CUT)


def section(*lines: str, longest: int = LONGEST_PART) -> MessageBlock:
    """A section with the non-empty `lines`, in Slack's markup; the whole text is cut to `longest` characters."""
    return MessageBlock("section", _cut("\n".join(filter(None, lines)), longest))


def context(*lines: str, longest: int = LONGEST_PART) -> MessageBlock:
    """The non-empty `lines`, in Slack's markup, in small grey letters.

    The whole text is cut to `longest` characters.
    """
    return MessageBlock("context", _cut("\n".join(filter(None, lines)), longest))


def messages(parts: Iterable[MessageBlock]) -> tuple[SlackMessage, ...]:
    """The parts in the given order, in as few messages as the limits allow."""
    packed: list[list[MessageBlock]] = []
    length = 0
    for part in parts:
        more = len(part.words()) + 1
        if not packed or length + more > LONGEST_MESSAGE or len(packed[-1]) == MOST_PARTS:
            packed.append([])
            length = 0
        packed[-1].append(part)
        length += more
    return tuple(
        SlackMessage("\n".join(each.words() for each in some), tuple(each.block() for each in some)) for some in packed
    )


def _cut(text: str, longest: int) -> str:
    """The text, or `…` if it is empty; text of more than `longest` characters is cut.

    The cut does not split an escaped character or leave code style open.
    """
    if len(text) <= longest:
        return text or _CUT
    cut = _HALF_ENTITY.sub("", text[: longest - 2])
    open_code = cut.rpartition("\n")[2].count("`") % 2
    return f"{cut}{'`' if open_code else ''}{_CUT}"
