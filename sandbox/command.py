"""What an endpoint of the control API is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """One control endpoint: `handler(engine, body, **path_params)` returns what is JSON-able, or awaits it.

    A GET's query is its body. A ValueError, KeyError or TypeError is answered with 400 and its text.
    """

    method: str
    template: str
    handler: Callable[..., Any]
