"""Says what to change if a queue, a service or the database cannot be used."""

from collections.abc import Mapping
from dataclasses import dataclass

from sync.errors import BreakerOpen, NoToken, UpstreamError, one_line
from sync.queues.aws import queue_hint
from sync.queues.queue import QueueUnavailable
from sync.settings.declaration import Settings
from sync.settings.queues import QUEUES
from sync.settings.upstreams import UpstreamName
from sync.store.database import StoreUnavailable

DATABASE_REMEDY = "set DATABASE_URL, or start the database"
#: Stands for the id of a queue in a text about several queues, or about one that is not known.
_ANY_QUEUE = "<QUEUE>"


@dataclass(frozen=True, slots=True)
class QueueFailure:
    """Why the work on a queue failed.

    reason: the error on one line. remedy: what to change, or None if that is not known. shared: the reason and the
    remedy in words that fit every queue that fails in the same way, or None if they concern this queue alone.
    """

    reason: str
    remedy: str | None = None
    shared: str | None = None

    @property
    def text(self) -> str:
        """The reason, followed by the remedy if there is one."""
        return self.reason if self.remedy is None else f"{self.reason}; {self.remedy}"


def queue_failure(settings: Settings, error: Exception) -> QueueFailure:
    """Describes the error with which the work on a queue failed, and says what to change so that it can succeed."""
    shared = None
    if isinstance(error, QueueUnavailable) and not error.is_missing:
        shared = f"{error.call}: {error.code}; {queue_hint(settings, _ANY_QUEUE, error)}"
    return QueueFailure(one_line(error), _remedy(settings, error), shared)


def joined_failures(failures: Mapping[str, QueueFailure]) -> str:
    """The failures by queue on one line, which gives each reason once, after the queues that it concerns."""
    groups: dict[str, dict[str, QueueFailure]] = {}
    for queue, failure in failures.items():
        groups.setdefault(failure.shared or failure.text, {})[queue] = failure
    return "; ".join(
        f"{', '.join(group)}: {shared if len(group) > 1 else next(iter(group.values())).text}"
        for shared, group in groups.items()
    )


def service_remedy(name: UpstreamName) -> str:
    """What to do while the service is unavailable, as one clause."""
    return f"wait until the service is up, or set {name.address_variable}"


def with_remedy(settings: Settings, error: Exception, text: str) -> str:
    """The text of the error, followed by what to change so that the work can succeed.

    Returns only the text if it already says this, or if the error is not about a queue, a service or the database.
    """
    remedy = _remedy(settings, error)
    return text if remedy is None else f"{text}; {remedy}"


def _remedy(settings: Settings, error: Exception) -> str | None:
    if isinstance(error, QueueUnavailable):
        return queue_hint(settings, _queue_id(settings, error), error)
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


def _queue_id(settings: Settings, error: QueueUnavailable) -> str:
    """The id of the queue that could not be used, or `<QUEUE>` if the call was about the topic."""
    pairs = ((queue, settings.queue(queue)) for queue in QUEUES)
    return next((queue for queue, each in pairs if error.queue in (each.queue_name, each.dlq_name)), _ANY_QUEUE)
