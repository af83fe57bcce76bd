"""The delivery channels: which are set up, what is enqueued for them, and how a delivery can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from sync.errors import SyncError
from sync.store import outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

    from reports.engine.result import ReconciliationResult
    from sync.settings.declaration import Settings
    from sync.store.outbox import Delivery

    #: Records the progress of a delivery in the database; raises `ClaimLost`.
    Note = Callable[[Mapping[str, Any]], None]

Channel = Literal["archive", "slack", "email"]
CHANNELS: tuple[Channel, ...] = ("archive", "slack", "email")
#: The settings without which a channel is off.
NEEDED_SETTINGS: Mapping[str, str] = {"slack": "SLACK_TOKEN", "email": "SMTP_URL or REPORTS_EMAIL_TO"}


class TryLater(SyncError):
    """The delivery failed but may succeed later, or it is not complete yet.

    seconds: how long until the next attempt, or None for the usual wait. whole_channel: whether the channel is
    unavailable, so that other deliveries for it need not be tried now.
    """

    recoverable = True

    def __init__(self, reason: str, seconds: float | None = None, *, whole_channel: bool = True) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.whole_channel = whole_channel


class Undeliverable(SyncError):
    """The delivery can never succeed: its kind is unknown, or there is nothing to send."""


class ClaimLost(SyncError):
    """Another process has taken the delivery over."""


def enqueue_report(connection: Connection, settings: Settings, result: ReconciliationResult) -> list[Channel]:
    """Puts the report of a run into the outbox for every channel that is set up, and returns these channels."""
    channels = [channel for channel in CHANNELS if is_set_up(settings, channel)]
    for channel in channels:
        enqueue_channel(connection, result.run_id, channel, finished=result.finished_at.isoformat())
    return channels


def enqueue_channel(
    connection: Connection, run_id: str, channel: Channel, again: str | None = None, *, finished: str
) -> bool:
    """Puts the report of a run into the outbox for `channel`. Returns False if it was already there.

    again: a unique text that lets the report be delivered once more. finished: when the run ended, in ISO 8601; a run
    that ended incomplete, was resumed and ended again has two reports.
    """
    key = _key(run_id, channel, again, finished)
    return outbox.enqueue(connection, key, channel, {"kind": "reconciliation", "run_id": run_id})


def report_deliveries(
    connection: Connection, result: ReconciliationResult, again: str | None = None
) -> dict[Channel, Delivery]:
    """The deliveries that were enqueued when the run with this `result` ended, by channel.

    again: as in `enqueue_channel`, for the deliveries that were enqueued with it instead.
    """
    finished = result.finished_at.isoformat()
    found = {channel: outbox.find(connection, _key(result.run_id, channel, again, finished)) for channel in CHANNELS}
    return {channel: delivery for channel, delivery in found.items() if delivery is not None}


def _key(run_id: str, channel: Channel, again: str | None, finished: str) -> str:
    return ":".join(part for part in ("reconciliation", run_id, finished, channel, again) if part)


def is_set_up(settings: Settings, channel: Channel) -> bool:
    """Whether the settings that `channel` needs are set."""
    if channel == "slack":
        return settings.slack_token is not None
    if channel == "email":
        return settings.smtp_url is not None and bool(settings.reports_email_to)
    return True
