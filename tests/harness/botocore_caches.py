"""Shares between the many AWS clients of a test process what one client computes once in a real process."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import botocore.hooks
import botocore.session
from botocore.hooks import EventAliaser


class _SharedAliaser(EventAliaser):  # type: ignore[misc]
    """Resolves the aliases of botocore's events once per process instead of once per client."""

    _names: ClassVar[dict[str, str]] = {}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._alias_name_cache = self._names


def share_botocore_caches() -> None:
    """Caches service models, event aliases and signatures, which are most of the cost of a client."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    botocore.session.EventAliaser = _SharedAliaser
    botocore.hooks.accepts_kwargs = functools.lru_cache(2_048)(botocore.hooks.accepts_kwargs)
