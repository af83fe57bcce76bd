"""A page as a browser parses it."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Tags(HTMLParser):
    """The tags of a page, each with its attributes, and all text between the tags."""

    def __init__(self, page: str) -> None:
        """Reads the page."""
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects a tag."""
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Collects text."""
        self.text += data


def text_of(html: str) -> str:
    """The visible text of a page as one line, without styles, scripts and data.

    A space separates neighbouring cells, and `|` ends each table.
    """
    bare = re.sub(r"<(style|script|template)\b.*?</\1>", "", html, flags=re.DOTALL)
    apart = re.sub("</(td|th)>", " ", bare).replace("</table>", "| ")
    return " ".join(Tags(apart).text.split())
