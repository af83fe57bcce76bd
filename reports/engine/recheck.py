"""The recheck: each difference is read again by the single calls, and dropped if it agrees or is in flight."""

from __future__ import annotations

import queue
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeVar

import structlog

from reports.engine.history import NO_BASELINE
from reports.engine.listing import no_progress
from reports.engine.parallel_reader import OUTAGE_SECONDS, FailedRead, ParallelReader, get_with_heartbeat
from reports.reconciliations.incentives.evidence import PrisonerLevels, read_levels
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
#: How much the clocks of DPS, NOMIS and this machine may differ: a record dated further ahead is not recent.
CLOCK_DIFFERENCE = timedelta(minutes=5)
#: A message that was pending in a run this long ago and still is, is stuck.
_LONGEST_ON_QUEUE = timedelta(days=1)
WAITING = {
    "queue": "its message waits on the incentive queue",
    "dlq": "its message waits on the dead letter queue: prisoner-to-nomis dlq retry incentive",
}


@dataclass(slots=True)
class Rechecked:
    """What became of the candidates: each is in exactly one of the lists.

    confirmed: they still differ. agreed: equal by now. in_flight: they differ, and why that will pass. released: no
    longer active. unread: one of the sides could not be read. pending: the messages that explained what is in flight.
    """

    confirmed: list[PrisonerLevels] = field(default_factory=list)
    agreed: list[PrisonerLevels] = field(default_factory=list)
    in_flight: list[tuple[PrisonerLevels, str]] = field(default_factory=list)
    released: list[PrisonerId] = field(default_factory=list)
    unread: list[tuple[PrisonerId, FailedRead]] = field(default_factory=list)
    pending: PendingMessages | None = None


@dataclass(frozen=True, slots=True)
class Recheck:
    """Reads differences again and sorts them.

    in_flight: a difference whose DPS review or NOMIS record is younger than this is in flight. find_pending: finds the
    reviews whose message is still to be handled; called at most once, and only if something still differs. is_active:
    whether a booking is still active; None to assume so. earlier: the runs before; a message that was pending then
    explains nothing now. tick: called periodically; may raise to stop.
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
        progress: Callable[[int, int], None] = no_progress,
        first_levels: Mapping[int, Levels] | None = None,
        witness: PrisonerId | None = None,
    ) -> Rechecked:
        """Reads both sides of every candidate again; what cannot be read is `unread`.

        `first_levels` are those of the first reader. A booking does not lose its level: where one is gone although the
        prisoner was not released, the recheck is not believed. `witness` is a prisoner who could be read before.
        """
        found = Rechecked()
        differing = self._without_released(self._read(candidates, found, progress, first_levels or {}, witness), found)
        for pair in differing:
            lost = _lost(pair, first_levels or {})
            if lost is not None:
                found.unread.append((PrisonerId(pair.booking_id, pair.offender_no), FailedRead(lost, network=False)))
        differing = [pair for pair in differing if _lost(pair, first_levels or {}) is None]
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
            structlog.get_logger().warning("pending-messages-unknown", reason=str(error))
            return PendingMessages(doubt="the incentive queues could not be read")

    def _read(
        self,
        candidates: Sequence[PrisonerId],
        found: Rechecked,
        progress: Callable[[int, int], None],
        first_levels: Mapping[int, Levels],
        witness: PrisonerId | None,
    ) -> list[PrisonerLevels]:
        """Reads both sides of everyone; returns those that still differ or lost a level, by booking id."""
        differing: list[PrisonerLevels] = []
        results = self._read_each(
            candidates, lambda each: read_levels(self.services, each.booking_id, each.offender_no), witness
        )
        for done, (each, value) in enumerate(results, start=1):
            if isinstance(value, FailedRead):
                found.unread.append((each, value))
            else:
                agreed = value.equal and _lost(value, first_levels) is None
                (found.agreed if agreed else differing).append(value)
            progress(done, len(candidates))
        found.agreed.sort(key=lambda pair: pair.booking_id)
        return sorted(differing, key=lambda pair: pair.booking_id)

    def _without_released(self, differing: Sequence[PrisonerLevels], found: Rechecked) -> list[PrisonerLevels]:
        """Those that are still active, or of which that cannot be read.

        Pages of the list are read after all levels, so that none is older than the levels it is asked about.
        """
        is_active = self.is_active
        if is_active is None:
            return list(differing)
        active: list[PrisonerLevels] = []
        for pair, listed in self._read_each(differing, lambda pair: is_active(pair.booking_id)):
            if isinstance(listed, FailedRead):
                structlog.get_logger().warning("release-not-checked", booking_id=pair.booking_id, reason=listed.reason)
            if listed is False:
                found.released.append(PrisonerId(pair.booking_id, pair.offender_no))
            else:
                active.append(pair)
        found.released.sort(key=lambda each: each.booking_id)
        return sorted(active, key=lambda pair: pair.booking_id)

    def _read_each(
        self, items: Sequence[Item], read: Callable[[Item], Value], witness: Item | None = None
    ) -> Iterator[tuple[Item, Value | FailedRead]]:
        """Reads the items in parallel; yields each with its value or failed read as it finishes."""
        results: queue.SimpleQueue[tuple[Item, Value | FailedRead]] = queue.SimpleQueue()

        def on_result(item: Item, value: Value | FailedRead) -> None:
            results.put((item, value))

        reader = ParallelReader("recheck", read, on_result, self.services.nomis.limit, self.outage_seconds, witness)
        reader.close()
        reader.add(items)
        try:
            for _ in items:
                yield get_with_heartbeat(results, self.tick, reader)
        finally:
            reader.stop()
            reader.join()

    def _why_in_flight(self, pair: PrisonerLevels, pending: PendingMessages | None) -> str | None:
        review = pair.newest_review
        where = None if pending is None or review is None else pending.where(review.id, pair.offender_no)
        if where is not None and pending is not None:
            return None if self._stuck(pair, where, pending) else WAITING[where]
        if review is not None and self._is_recent(review.iep_time):
            return JUST_NOW
        return JUST_RECORDED if pair.nomis is not None and self._is_recent(pair.nomis.iep_date_time) else None

    def _is_recent(self, moment: datetime) -> bool:
        """Whether a time in London lies in the last minutes, or ahead by no more than clocks may differ."""
        now = self.clock().astimezone(LONDON).replace(tzinfo=None)
        return now - self.in_flight < moment <= now + min(CLOCK_DIFFERENCE, self.in_flight)

    def _stuck(self, pair: PrisonerLevels, where: Literal["queue", "dlq"], pending: PendingMessages) -> bool:
        """Whether the message explains nothing: it is given up, or was pending in an earlier run already."""
        review, earlier = pair.newest_review, self.earlier
        if review is None or pending.why_given_up(review.id) is not None:
            return True
        started = earlier.started_at
        if started is None or not earlier.differed(pair.booking_id):
            return False
        if review.iep_time > started.astimezone(LONDON).replace(tzinfo=None):
            # Another review was pending then.
            return False
        return where == "dlq" or self.clock() - started > _LONGEST_ON_QUEUE


def _lost(pair: PrisonerLevels, first_levels: Mapping[int, Levels]) -> str | None:
    """Why the recheck is not believed: a level of the first reading is gone."""
    nomis, dps = first_levels.get(pair.booking_id, (None, None))
    for side, before, after in (("NOMIS", nomis, pair.nomis_level), ("DPS", dps, pair.dps_level)):
        if before is not None and after is None:
            return f"{side} had the level {before} when first read and none in the recheck, which is not believed"
    return None
