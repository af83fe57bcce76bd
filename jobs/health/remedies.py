"""Says what to change if a queue, a service or the database cannot be used."""

import re
from collections.abc import Mapping

from sync.errors import BreakerOpen, NoToken, UpstreamError
from sync.queues.aws import queue_hint, queue_of
from sync.queues.queue import QueueUnavailable
from sync.settings.declaration import Settings
from sync.settings.upstreams import UpstreamName
from sync.store.database import StoreUnavailable

DATABASE_REMEDY = "set DATABASE_URL, or start the database"
#: The beginning of the text of a `QueueUnavailable`. The names of missing queues matter, so they are not matched.
_QUEUE_NAME = re.compile(r"^queue \S+: (?!.*(?:NonExistentQueue|QueueDoesNotExist))")


def service_remedy(name: UpstreamName) -> str:
    """What to do while the service is unavailable, as one clause."""
    return f"wait until the service is up, or set {name.address_variable}"


def with_remedy(settings: Settings, error: Exception, text: str) -> str:
    """The text of the error, followed by what to change so that the work can succeed.

    Returns only the text if it already says this, or if the error is not about a queue, a service or the database.
    """
    remedy = _remedy(settings, error)
    return text if remedy is None else f"{text}; {remedy}"


def joined_errors(errors: Mapping[str, str]) -> str:
    """The errors of queues on one line, which gives each reason once.

    errors: the reason for each queue. A reason that several queues share does not name them, and has `<QUEUE>` in the
    names of their settings.
    """
    groups: dict[str, dict[str, str]] = {}
    for queue, reason in errors.items():
        shared = reason
        if named := _QUEUE_NAME.match(reason):
            shared = reason[named.end() :].replace(f"_{queue.upper()}_", "_<QUEUE>_")
        groups.setdefault(shared, {})[queue] = reason
    return "; ".join(
        f"{', '.join(group)}: {shared if len(group) > 1 else next(iter(group.values()))}"
        for shared, group in groups.items()
    )


def _remedy(settings: Settings, error: Exception) -> str | None:
    if isinstance(error, QueueUnavailable):
        return queue_hint(settings, queue_of(settings, error), error)
    if isinstance(error, StoreUnavailable):
        return DATABASE_REMEDY
    if not isinstance(error, BreakerOpen | UpstreamError):
        return None
    name = next((each for each in UpstreamName if each == error.service), None)
    if name is None:
        return None
    if isinstance(error, UpstreamError) and error.status is not None and error.credentials_refused:
        if isinstance(error, NoToken):
            return None
        return f"check {' and '.join(name.credential_variables)}, and the roles of the client"
    return service_remedy(name) if isinstance(error, BreakerOpen) or error.unavailable else None
