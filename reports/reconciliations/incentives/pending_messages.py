"""What waits on the incentive queue: reviews of DPS that are not written to NOMIS yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    #: Looks at the queues and tells what waits there; called at most once a run, and only when a difference may be
    #: explained by it.
    Peek = Callable[[], "Waiting"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Reviews whose message waits, by the id that DPS gave them.

    on_queue, on_dlq: seen on the incentive queue, and on its DLQ. given_up: those on the DLQ that nothing sends back
    any more, and why, as a clause about the message. tried_reviews, tried_prisoners: of what was tried,
    failed, and is hidden until it is tried again; most messages name the prisoner, whose reviews then wait for each
    other. settled: written to NOMIS since. doubt: why a message may wait all the same although nothing tells of it,
    as a clause; None where none can.
    """

    on_queue: frozenset[int] = frozenset()
    on_dlq: frozenset[int] = frozenset()
    given_up: Mapping[int, str] = field(default_factory=dict)
    tried_reviews: frozenset[int] = frozenset()
    tried_prisoners: frozenset[str] = frozenset()
    settled: frozenset[int] = frozenset()
    doubt: str | None = None

    def where(self, review_id: int | None, offender_no: str) -> Literal["queue", "dlq"] | None:
        """Where the message of a review of this prisoner waits, None when nowhere."""
        if review_id is None:
            return None
        if review_id in self.on_queue:
            return "queue"
        if review_id in self.on_dlq:
            return "dlq"
        if review_id in self.settled:
            return None
        return "queue" if review_id in self.tried_reviews or offender_no in self.tried_prisoners else None

    def why_given_up(self, review_id: int | None) -> str | None:
        """Why nothing sends the message of a review back from the DLQ; None if it may still be handled by itself."""
        if review_id is None or self.where(review_id, "") != "dlq":
            return None
        return self.given_up.get(review_id)


def nothing_waits() -> Waiting:
    """The answer of a peek where there are no queues to look at."""
    return Waiting()
