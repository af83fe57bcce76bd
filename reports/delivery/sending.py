"""What a sender of one channel may say and use: when to try again, and how to note what has been sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sync.failures import SyncError

#: Notes the progress of a delivery in the database; raises `ClaimLost`.
Note = Callable[[Mapping[str, Any]], None]


class TryLater(SyncError):
    """The delivery could not be made, or not wholly; `seconds` says when to try again, None: as usual.

    With `whole_channel` the channel as a whole is away, so other deliveries to it need not be tried now.
    """

    recoverable = True

    def __init__(self, reason: str, seconds: float | None = None, *, whole_channel: bool = True) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.whole_channel = whole_channel


class Undeliverable(SyncError):
    """The delivery can never be made: there is nothing to send, or nowhere to send it to."""


class ClaimLost(SyncError):
    """Another sender took the delivery over."""
