"""Lets the many AWS clients of a test process share what is slow to compute.

A real process has only a few clients.
"""

from __future__ import annotations

import copy
import functools
import threading
from typing import Any, ClassVar

import boto3.session
import botocore.hooks
import botocore.session
from botocore.hooks import EventAliaser, HierarchicalEmitter

_clients: dict[str, Any] = {}
_clients_lock = threading.Lock()


class _SharedAliaser(EventAliaser):  # type: ignore[misc]
    """Resolves the aliases of botocore's events once per process instead of once per client."""

    _names: ClassVar[dict[str, str]] = {}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._alias_name_cache = self._names


class _CoreSession(botocore.session.Session):  # type: ignore[misc]
    """Copies botocore's built-in handlers, since their registration is most of the cost of a session."""

    _registered: ClassVar[HierarchicalEmitter | None] = None

    def _register_builtin_handlers(self, events: EventAliaser) -> None:
        if _CoreSession._registered is None:
            super()._register_builtin_handlers(events)
            _CoreSession._registered = copy.copy(self._original_handler)
        else:
            self._original_handler.__dict__ |= copy.copy(_CoreSession._registered).__dict__


class _Session(boto3.session.Session):  # type: ignore[misc]
    """Returns the same client to all callers that ask for the same service, address, keys and settings."""

    def client(self, service_name: str, **options: Any) -> Any:
        """A client for the service. Other callers may get the same client."""
        if not {"endpoint_url", "aws_access_key_id"} <= options.keys():
            return super().client(service_name, **options)
        key = repr((service_name, sorted((name, getattr(value, "__dict__", value)) for name, value in options.items())))
        with _clients_lock:
            if key not in _clients:
                _clients[key] = super().client(service_name, **options)
            return _clients[key]


def share_botocore_caches() -> None:
    """Caches clients, and the service models, handlers and signatures that account for most of a client's cost."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    botocore.session.EventAliaser = _SharedAliaser
    botocore.session.Session = _CoreSession
    botocore.hooks.accepts_kwargs = functools.lru_cache(2_048)(botocore.hooks.accepts_kwargs)
    boto3.session.Session = _Session


def forget_clients() -> None:
    """Gives the next test new clients, since a client counts the retries that it has left."""
    with _clients_lock:
        _clients.clear()
