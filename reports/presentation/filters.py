"""By what the differences of a page are filtered: a link names values, and each row has its own.

The script of the page keeps what is filtered in the fragment of the address, `#prison=LEI&standing=new`, which can be
sent. No server sees a fragment, so that a signed address stays valid and a saved page works as well.
"""

from __future__ import annotations

import re
from urllib.parse import urlencode

_NO_WORD = re.compile(r"[^a-z0-9]+")


def slug(text: str) -> str:
    """A text as part of an address: `the event was lost, or failed` is `the-event-was-lost-or-failed`."""
    return _NO_WORD.sub("-", text.lower()).strip("-") or "unknown"


def code(value: str | None, none: str = "unknown") -> str:
    """A code of another system as part of an address, without blanks."""
    return none if value is None else "-".join(value.split()) or none


def query(**values: str) -> str:
    """What a link filters by: `prison=LEI&standing=new`."""
    return urlencode(values)
