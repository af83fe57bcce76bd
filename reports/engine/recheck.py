"""The second look: each difference is read again by the single calls, and dropped if it was only in flight."""

from __future__ import annotations

import queue
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeVar

import structlog

from reports.engine.history import NO_BASELINE
from reports.engine.listing import unwatched
from reports.engine.parallel_reader import OUTAGE_SECONDS, Reading, Unreadable, ticking
from reports.reconciliations.incentives.evidence import Pair, read_pair
from reports.reconciliations.incentives.pending_messages import PendingMessages
from sync.clock import LONDON
from sync.failures import SyncError
from sync.upstream.prisoners import PrisonerId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from reports.engine.history import Baseline
    from reports.reconciliations.incentives.pending_messages import FindPendingMessages
    from sync.upstream.services import Services

#: The levels of a booking in NOMIS and in DPS, None for none.
Levels = tuple[str | None, str | None]
Item = TypeVar("Item")
Value = TypeVar("Value")

JUST_NOW = "the DPS review is only some minutes old"
JUST_RECORDED = "the NOMIS record is only some minutes old, and DPS may not have heard of it yet"
#: The clocks of DPS, NOMIS and this machine may differ by this much: what is dated further ahead is not recent.
CLOCK_DIFFERENCE = timedelta(minutes=5)
#: A message that is still on the main queue so long after a run saw it there is not on its way any more.
_LONGEST_ON_QUEUE = timedelta(days=1)
WAITING = {
    "queue": "its message waits on the incentive queue",
    "dlq": "its message waits on the dead letter queue: prisoner-to-nomis dlq retry incentive",
}


@dataclass(slots=True)
class Rechecked:
    """What became of the candidates: each is in exactly one of the lists.

    confirmed: they still differ. settled: equal by now. in_flight: they differ, and why that will pass. released: no
    longer on the list of active bookings. unread: one of the sides could not be read.
    """

    confirmed: list[Pair] = field(default_factory=list)
    settled: list[Pair] = field(default_factory=list)
    in_flight: list[tuple[Pair, str]] = field(default_factory=list)
    released: list[PrisonerId] = field(default_factory=list)
    unread: list[tuple[PrisonerId, Unreadable]] = field(default_factory=list)
    pending: PendingMessages | None = None


@dataclass(frozen=True, slots=True)
class Recheck:
    """How the second look is done.

    is_active: whether a booking is still active; None to take that for granted. in_flight: a difference whose DPS
    review or NOMIS record is younger than this is on its way. earlier: the last complete run, whose differences in
    flight are in flight no longer if their message is where it was. find_pending: finds the reviews whose message is
    still to be handled; called at most once, and only when something still differs.
    """

    services: Services
    in_flight: timedelta
    find_pending: FindPendingMessages
    clock: Callable[[], datetime]
    is_active: Callable[[int], bool] | None = None
    earlier: Baseline = NO_BASELINE
    outage_seconds: float = OUTAGE_SECONDS
    tick: Callable[[str | None], None] = lambda _waits_for: None

    def __call__(
        self,
        candidates: Sequence[PrisonerId],
        progress: Callable[[int, int], None] = unwatched,
        at_first: Mapping[int, Levels] | None = None,
        witness: PrisonerId | None = None,
    ) -> Rechecked:
        """Reads both sides of every candidate again. Errors are answers here: what cannot be read is `unread`.

        `at_first` are the levels that the first look saw. A booking does not lose its level: where one is gone, and the
        prisoner was not released, the second look is not believed. `witness` is somebody who could be read before.
        """
        found = Rechecked()
        differing = self._without_released(self._read(candidates, found, progress, at_first or {}, witness), found)
        for pair in differing:
            lost = _lost(pair, at_first or {})
            if lost is not None:
                found.unread.append((PrisonerId(pair.booking_id, pair.offender_no), Unreadable(lost, network=False)))
        differing = [pair for pair in differing if _lost(pair, at_first or {}) is None]
        if differing:
            found.pending = self._pending_messages()
        for pair in differing:
            why = self._why_in_flight(pair, found.pending)
            if why is None:
                found.confirmed.append(pair)
            else:
                found.in_flight.append((pair, why))
        return found

    def _pending_messages(self) -> PendingMessages:
        """The reviews whose message is still to be handled; a doubt alone when the queues cannot be read."""
        try:
            return self.find_pending()
        except SyncError as error:
            structlog.get_logger().warning("pending_messages_unknown", reason=str(error))
            return PendingMessages(doubt="the incentive queues could not be read")

    def _read(
        self,
        candidates: Sequence[PrisonerId],
        found: Rechecked,
        progress: Callable[[int, int], None],
        at_first: Mapping[int, Levels],
        witness: PrisonerId | None,
    ) -> list[Pair]:
        """Reads both sides of everyone, and gives back those who still differ or lost a level, by booking id."""
        differing: list[Pair] = []
        answers = self._side_by_side(
            candidates, lambda each: read_pair(self.services, each.booking_id, each.offender_no), witness
        )
        for done, (each, value) in enumerate(answers, start=1):
            if isinstance(value, Unreadable):
                found.unread.append((each, value))
            else:
                settled = value.equal and _lost(value, at_first) is None
                (found.settled if settled else differing).append(value)
            progress(done, len(candidates))
        found.settled.sort(key=lambda pair: pair.booking_id)
        return sorted(differing, key=lambda pair: pair.booking_id)

    def _without_released(self, differing: Sequence[Pair], found: Rechecked) -> list[Pair]:
        """Those who are still on the list; where that cannot be asked, what was read twice stands.

        The list is read when all pairs are, so that no page is older than the pair it is asked about.
        """
        is_active = self.is_active
        if is_active is None:
            return list(differing)
        active: list[Pair] = []
        for pair, listed in self._side_by_side(differing, lambda pair: is_active(pair.booking_id)):
            if isinstance(listed, Unreadable):
                structlog.get_logger().warning("release-not-checked", booking_id=pair.booking_id, reason=listed.reason)
            if listed is False:
                found.released.append(PrisonerId(pair.booking_id, pair.offender_no))
            else:
                active.append(pair)
        found.released.sort(key=lambda each: each.booking_id)
        return sorted(active, key=lambda pair: pair.booking_id)

    def _side_by_side(
        self, items: Sequence[Item], read: Callable[[Item], Value], witness: Item | None = None
    ) -> Iterator[tuple[Item, Value | Unreadable]]:
        """Each item with what was read for it, or why nothing was, as they are finished."""
        answers: queue.SimpleQueue[tuple[Item, Value | Unreadable]] = queue.SimpleQueue()

        def deliver(item: Item, value: Value | Unreadable) -> None:
            answers.put((item, value))

        reading = Reading("recheck", read, deliver, self.services.nomis.limit, self.outage_seconds, witness)
        reading.close()
        reading.add(items)
        try:
            for _ in items:
                yield ticking(answers, self.tick, reading)
        finally:
            reading.stop()
            reading.join()

    def _why_in_flight(self, pair: Pair, pending: PendingMessages | None) -> str | None:
        review = pair.newest_review
        where = None if pending is None or review is None else pending.where(review.id, pair.offender_no)
        if where is not None and pending is not None:
            return None if self._stuck(pair, where, pending) else WAITING[where]
        if review is not None and self._is_recent(review.iep_time):
            return JUST_NOW
        return JUST_RECORDED if pair.nomis is not None and self._is_recent(pair.nomis.iep_date_time) else None

    def _is_recent(self, moment: datetime) -> bool:
        """Whether a time in London lies in the last minutes, or ahead by no more than clocks differ."""
        now = self.clock().astimezone(LONDON).replace(tzinfo=None)
        return now - self.in_flight < moment <= now + min(CLOCK_DIFFERENCE, self.in_flight)

    def _stuck(self, pair: Pair, where: Literal["queue", "dlq"], pending: PendingMessages) -> bool:
        """Whether the message explains nothing: it is given up, or waited in the last complete run already."""
        review, earlier = pair.newest_review, self.earlier
        if review is None or pending.why_given_up(review.id) is not None:
            return True
        started = earlier.started_at
        if started is None or not earlier.differed(pair.booking_id):
            return False
        if review.iep_time > started.astimezone(LONDON).replace(tzinfo=None):
            # It was another review that waited then.
            return False
        return where == "dlq" or self.clock() - started > _LONGEST_ON_QUEUE


def _lost(pair: Pair, at_first: Mapping[int, Levels]) -> str | None:
    """What speaks against a pair: a level that the first look saw is gone."""
    nomis, dps = at_first.get(pair.booking_id, (None, None))
    for side, before, after in (("NOMIS", nomis, pair.nomis_level), ("DPS", dps, pair.dps_level)):
        if before is not None and after is None:
            return f"{side} had the level {before} at the first look and none at the second, which is not believed"
    return None
