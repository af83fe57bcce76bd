"""What leaves when a run has ended: the report to the archive, Slack and email, each once for a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sync.store import outbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from reports.engine.result import ReconciliationResult
    from sync.settings.declaration import Settings
    from sync.store.outbox import Delivery

Channel = Literal["archive", "slack", "email"]
CHANNELS: tuple[Channel, ...] = ("archive", "slack", "email")
#: The settings without which a channel is off.
NEEDED_SETTINGS: Mapping[str, str] = {"slack": "SLACK_TOKEN", "email": "SMTP_URL or REPORTS_EMAIL_TO"}


def enqueue_report(
    connection: Connection, settings: Settings, result: ReconciliationResult, again: str | None = None
) -> list[Channel]:
    """Puts the report of a run into the outbox for every channel that is set up; the channels it goes to.

    With `again`, any text of its own, it is delivered once more although it was delivered before.
    """
    channels = [channel for channel in CHANNELS if is_set_up(settings, channel)]
    for channel in channels:
        enqueue_channel(connection, result.run_id, channel, again, finished=result.finished_at.isoformat())
    return channels


def enqueue_channel(
    connection: Connection, run_id: str, channel: Channel, again: str | None = None, *, finished: str
) -> bool:
    """Puts the report of a run into the outbox for one channel; False when it is, or was, there.

    `finished` tells the endings of a run apart that was resumed after it had ended incomplete.
    """
    key = _key(run_id, channel, again, finished)
    return outbox.enqueue(connection, key, channel, {"kind": "reconciliation", "run_id": run_id})


def report_deliveries(connection: Connection, result: ReconciliationResult) -> dict[Channel, Delivery]:
    """The first deliveries of the report of a run, by channel: those that were enqueued at its end."""
    finished = result.finished_at.isoformat()
    found = {channel: outbox.find(connection, _key(result.run_id, channel, None, finished)) for channel in CHANNELS}
    return {channel: delivery for channel, delivery in found.items() if delivery is not None}


def _key(run_id: str, channel: Channel, again: str | None, finished: str) -> str:
    return ":".join(part for part in ("reconciliation", run_id, finished, channel, again) if part)


def is_set_up(settings: Settings, channel: Channel) -> bool:
    """Whether the settings name where to deliver to."""
    if channel == "slack":
        return settings.slack_token is not None
    if channel == "email":
        return settings.smtp_url is not None and bool(settings.reports_email_to)
    return True
