"""The Jinja templates of pages and emails.

In HTML, every value from outside is escaped, and a page runs only its own scripts.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from reports.presentation import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import jinja2


@cache
def environment() -> jinja2.Environment:
    """The Jinja environment of the templates.

    In HTML, every value except our own markup is escaped. An undefined name is an error.
    """
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("templates", ""),
        autoescape=jinja2.select_autoescape(("html.j2",), ("txt.j2",), default=True, default_for_string=True),
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "day": text.day,
        "exact": text.exact_moment,
        "short_moment": text.short_moment,
        "capital": text.capital,
        "thousands": text.thousands,
    }
    return made


def render_page(template: str, scripts: Sequence[str], values: Mapping[str, Any]) -> str:
    """An HTML page that contains its style sheet and scripts; a browser loads and runs nothing else for it.

    template, scripts: files in `templates/`. values: what the template shows.
    """
    style, script = _asset("report.css"), "".join(map(_asset, scripts))
    own = {"style": _trusted(style), "script": _trusted(script), "policy": _policy(style, script)}
    return environment().get_template(template).render({**values, **own})


def _printable(value: object) -> object:
    """A value as a template writes it: text without its control characters.

    Any other value, such as our own markup, stays unchanged.
    """
    return text.without_control_characters(value) if type(value) is str else value


@cache
def _asset(name: str) -> str:
    return (files("templates") / name).read_text(encoding="utf-8")


def _trusted(own: str) -> Any:
    """A style sheet or script of this package, marked so that it is not escaped."""
    from markupsafe import Markup

    return Markup(own)  # noqa: S704 - a file of this package


def _policy(style: str, script: str) -> str:
    """A content security policy that allows nothing but the style sheet and the script of the page itself."""
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    allowed = f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
