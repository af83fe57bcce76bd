"""Block Kit as far as Slack accepts it: checks the blocks of a message, and shows them on the sandbox's page.

The limits are those that Slack documents for each block (https://docs.slack.dev/reference/block-kit/blocks).
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

MOST_BLOCKS = 50
#: The maximum number of characters in all texts of a message's blocks together.
LONGEST_BLOCKS = 13_200
LONGEST_HEADER = 150
LONGEST_SECTION = 3_000
LONGEST_FIELD = 2_000
LONGEST_BUTTON = 75
LONGEST_ADDRESS = 3_000
LONGEST_ID = 255
MOST_FIELDS = 10
MOST_CONTEXT = 10
MOST_ACTIONS = 25
TEXT_TYPES = ("plain_text", "mrkdwn")
_LINK = re.compile(r"&lt;(https?://[^|<>\s]+)\|(.*?)&gt;")
_CODE = re.compile(r"`([^`\n]+)`")
_BOLD = re.compile(r"\*([^*\n]+)\*")


def refusal(blocks: list[Any]) -> str | None:
    """The error with which Slack refuses the blocks of a message, or None if it accepts them."""
    if any(not isinstance(block, dict) for block in blocks):
        return "invalid_blocks_format"
    if len(blocks) > MOST_BLOCKS or not all(_is_valid(block) for block in blocks):
        return "invalid_blocks"
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    if len(ids) != len(set(ids)):
        return "invalid_blocks"
    return "msg_blocks_too_long" if sum(map(_length, blocks)) > LONGEST_BLOCKS else None


def _is_valid(block: dict[str, Any]) -> bool:
    """Whether a block has a known type, every required field, no unknown field, and valid values."""
    known = {
        "header": ({"text"}, _is_header),
        "section": ({"text", "fields", "accessory", "expand"}, _is_section),
        "context": ({"elements"}, _is_context),
        "divider": (set(), lambda _block: True),
        "actions": ({"elements"}, _is_actions),
    }.get(str(block.get("type")))
    if known is None:
        return False
    keys, holds = known
    given_id = block.get("block_id", "x")
    right_id = isinstance(given_id, str) and 0 < len(given_id) <= LONGEST_ID
    return right_id and not block.keys() - keys - {"type", "block_id"} and holds(block)


def _is_header(block: dict[str, Any]) -> bool:
    return _is_text(block.get("text"), LONGEST_HEADER, ("plain_text",))


def _is_section(block: dict[str, Any]) -> bool:
    text, fields = block.get("text"), block.get("fields")
    if text is None and fields is None:
        return False
    if fields is not None:
        few = isinstance(fields, list) and 0 < len(fields) <= MOST_FIELDS
        if not few or not all(_is_text(each, LONGEST_FIELD) for each in fields):
            return False
    accessory = block.get("accessory")
    return (text is None or _is_text(text, LONGEST_SECTION)) and (accessory is None or _is_button(accessory))


def _is_context(block: dict[str, Any]) -> bool:
    elements = block.get("elements")
    few = isinstance(elements, list) and 0 < len(elements) <= MOST_CONTEXT
    return few and all(_is_text(each, LONGEST_SECTION) for each in elements or ())


def _is_actions(block: dict[str, Any]) -> bool:
    elements = block.get("elements")
    few = isinstance(elements, list) and 0 < len(elements) <= MOST_ACTIONS
    return few and all(map(_is_button, elements or ()))


def _is_button(element: object) -> bool:
    if not isinstance(element, dict) or element.get("type") != "button":
        return False
    address = element.get("url")
    right_address = address is None or (isinstance(address, str) and 0 < len(address) <= LONGEST_ADDRESS)
    return right_address and _is_text(element.get("text"), LONGEST_BUTTON, ("plain_text",))


def _is_text(text: object, longest: int, types: tuple[str, ...] = TEXT_TYPES) -> bool:
    """Whether `text` is a text object of one of the `types`, neither empty nor longer than `longest` characters."""
    if not isinstance(text, dict) or text.get("type") not in types:
        return False
    keys = {"type", "text", "emoji"} if text["type"] == "plain_text" else {"type", "text", "verbatim"}
    content = text.get("text")
    return not text.keys() - keys and isinstance(content, str) and 0 < len(content) <= longest


def _length(value: object) -> int:
    """The total number of characters in all texts of a block, or of a part of one."""
    if isinstance(value, dict):
        own = value.get("text")
        here = len(own) if isinstance(own, str) else 0
        return here + sum(_length(each) for each in value.values() if isinstance(each, dict | list))
    return sum(map(_length, value)) if isinstance(value, list) else 0


def blocks_html(blocks: list[dict[str, Any]]) -> str:
    """The HTML that shows the blocks on the sandbox's page."""
    return "".join(map(_block_html, blocks))


def _block_html(block: dict[str, Any]) -> str:
    if block["type"] == "header":
        return f"<h2>{escape(block['text']['text'])}</h2>"
    if block["type"] == "divider":
        return "<hr>"
    if block["type"] == "section":
        texts = [block["text"]] if "text" in block else []
        return "".join(f"<p>{markup_html(text)}</p>" for text in (*texts, *block.get("fields", ())))
    if block["type"] == "context":
        return "".join(f"<p class=context>{markup_html(text)}</p>" for text in block["elements"])
    buttons = ((escape(each.get("url", "")), escape(each["text"]["text"])) for each in block["elements"])
    return "".join(f'<p><a href="{address}">{text}</a></p>' for address, text in buttons)


def markup_html(text: dict[str, Any]) -> str:
    """A text object as HTML.

    In Slack's markup, links, code, bold text and line breaks are converted; everything else is shown as it is.
    """
    if text["type"] == "plain_text":
        return escape(text["text"])
    # The markup itself escapes these three characters.
    plain = text["text"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    shown = _CODE.sub(r"<code>\1</code>", _LINK.sub(r'<a href="\1">\2</a>', escape(plain)))
    return _BOLD.sub(r"<b>\1</b>", shown).replace("\n", "<br>")
