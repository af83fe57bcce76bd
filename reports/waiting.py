"""What waits on the incentive queue: reviews of DPS that are not written to NOMIS yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Looks at the queues and tells what waits there; called at most once a run, and only when a difference may be
    #: explained by it.
    Peek = Callable[[], "Waiting"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Reviews whose message waits, by the id that DPS gave them: on the incentive queue, and on its DLQ."""

    on_queue: frozenset[int] = frozenset()
    on_dlq: frozenset[int] = frozenset()

    def where(self, review_id: int | None) -> Literal["queue", "dlq"] | None:
        """Where the message of a review waits, None when nowhere."""
        if review_id in self.on_queue:
            return "queue"
        return "dlq" if review_id in self.on_dlq else None


def nothing_waits() -> Waiting:
    """The answer of a peek where there are no queues to look at."""
    return Waiting()
