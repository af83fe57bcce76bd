"""Texts of others as a report may hold them: without what steers a terminal or the direction of reading."""

from __future__ import annotations

import unicodedata

#: Control characters, formats such as changes of direction, halves of characters. A NUL ends some readers.
_STEERING = frozenset({"Cc", "Cf", "Cs"})


def without_steering(text: str) -> str:
    """The text without such characters; line breaks stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each for each in text if each == "\n" or unicodedata.category(each) not in _STEERING)
