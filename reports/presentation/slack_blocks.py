"""Slack messages of Block Kit: texts made safe, within the limits of Slack, and in as many messages as they need.

Every message has the same words as plain text, which notifications show, and which is sent where Slack refuses the
blocks. The limits are those of Slack (https://docs.slack.dev/reference/block-kit), but that of a whole message, which
is the length that Slack recommends for texts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Characters of a message, of a header and of any other part of it, and parts of a message, at most.
LONGEST_MESSAGE: Final = 4_000
LONGEST_HEADER: Final = 150
LONGEST_PART: Final = 3_000
MOST_PARTS: Final = 50
#: What may be left of an escaped letter at the end of a text that was cut.
_HALF_ENTITY: Final = re.compile(r"&[a-z]{0,3}$")
_CUT: Final = "…"
#: What stays as it is in an address: what is reserved there, and what is quoted already.
_IN_ADDRESS: Final = ":/?#[]@!$&'()*+,;=%"


@dataclass(frozen=True, slots=True)
class MessageBlock:
    """A block of a message. text: in Slack's markup, escaped, but of a header, which has none."""

    kind: Literal["header", "section", "context"]
    text: str

    def block(self) -> dict[str, Any]:
        """The part as Block Kit has it; `verbatim`: Slack makes no links of channels and addresses in it."""
        if self.kind == "header":
            return {"type": "header", "text": {"type": "plain_text", "text": self.text, "emoji": False}}
        text = {"type": "mrkdwn", "text": self.text, "verbatim": True}
        if self.kind == "context":
            return {"type": "context", "elements": [text]}
        return {"type": "section", "text": text}

    def words(self) -> str:
        """The part in a message without blocks."""
        return f"*{escaped(self.text)}*" if self.kind == "header" else self.text


@dataclass(frozen=True, slots=True)
class SlackMessage:
    """A message: the text of notifications, and the blocks that are shown instead."""

    text: str
    blocks: tuple[dict[str, Any], ...]


def slack_text(text: str) -> str:
    """A text on one line in which Slack sees no link, mention, command or code."""
    return escaped("".join(letter if letter.isprintable() else " " for letter in text.replace("`", "'")))


def escaped(text: str) -> str:
    """The text with the three letters that Slack's markup begins with escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_code(text: str) -> str:
    """A text to be copied as it is."""
    return f"`{slack_text(text)}`"


def slack_link(address: str, text: str) -> str:
    """A link; what would end the address in Slack's markup is quoted in it."""
    return f"<{escaped(quote(address, safe=_IN_ADDRESS))}|{slack_text(text)}>"


def header(text: str) -> MessageBlock:
    """The title of a message; plain, and cut to what Slack takes."""
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split()) or _CUT
    return MessageBlock("header", plain if len(plain) <= LONGEST_HEADER else plain[: LONGEST_HEADER - 1] + _CUT)


def section(*lines: str, longest: int = LONGEST_PART) -> MessageBlock:
    """Lines in Slack's markup, cut to what Slack takes, or to fewer characters."""
    return MessageBlock("section", _cut("\n".join(filter(None, lines)), longest))


def context(*lines: str, longest: int = LONGEST_PART) -> MessageBlock:
    """Lines in small grey letters, cut as a section is."""
    return MessageBlock("context", _cut("\n".join(filter(None, lines)), longest))


def messages(parts: Iterable[MessageBlock]) -> tuple[SlackMessage, ...]:
    """The parts in as few messages as the limits allow, in their order."""
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
    """The text as it is, or cut where no escaped letter and no code is left open."""
    if len(text) <= longest:
        return text or _CUT
    cut = _HALF_ENTITY.sub("", text[: longest - 2])
    open_code = cut.rpartition("\n")[2].count("`") % 2
    return f"{cut}{'`' if open_code else ''}{_CUT}"
