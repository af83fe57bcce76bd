"""From the pages of a run to its result: compare, look again, compare with earlier runs, diagnose."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from reports.engine.exclusions import NO_LONGER_NEEDED
from reports.engine.parallel_reader import why_unreadable
from reports.engine.result import (
    Excluded,
    InFlight,
    Mismatch,
    ReconciliationResult,
    Resolved,
    Status,
    TrendPoint,
    Unconfirmed,
    Unread,
    UnreadPage,
)
from reports.reconciliations.incentives.diagnosis import diagnose
from reports.reconciliations.incentives.evidence import Evidence, Pair, gather
from reports.reconciliations.incentives.pending_messages import PendingMessages
from reports.reconciliations.incentives.view import to_mismatch
from sync.failures import SyncError
from sync.upstream.prisoners import PrisonerId

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from reports.engine.exclusions import Exclusion
    from reports.engine.history import Baseline
    from reports.engine.listing import Listing
    from reports.engine.recheck import Levels, Recheck, Rechecked
    from reports.reconciliations.incentives.frame import LevelFrame
    from sync.upstream.services import Services

#: Mismatches whose evidence is read at once, and at most; more than that has one common cause.
_DIAGNOSED_AT_ONCE = 8
MOST_DIAGNOSED = 2_000


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a conclusion needs to know beside what was read.

    failure: why the run gave up, None when it read everyone it could.
    """

    run_id: str
    environment: str
    started_at: datetime
    parameters: Mapping[str, object]
    prisons: tuple[str, ...]
    listing: Listing
    failure: str | None
    baseline: Baseline
    trend: tuple[TrendPoint, ...]
    exclusions: Mapping[int, Exclusion]
    near: timedelta


class Conclusion:
    """Draws the result of one run."""

    def __init__(
        self,
        services: Services,
        recheck: Recheck,
        circumstances: Circumstances,
        clock: Callable[[], datetime],
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._services = services
        self._recheck = recheck
        self._about = circumstances
        self._clock = clock
        self._progress = progress

    def draw(self, frame: LevelFrame, wait: Callable[[], None]) -> ReconciliationResult:
        """The result. `wait` lets what is in flight arrive; it is called only when something differs."""
        about = self._about
        if about.prisons:
            frame = frame.only_prisons(about.prisons, unknown_too=True)
        at_first = frame.differences()
        candidates = [PrisonerId(booking_id, frame.offenders[booking_id]) for booking_id in at_first]
        if candidates:
            wait()
        equal = next((int(each) for each in frame.bookings if int(each) not in at_first), None)
        witness = None if equal is None else PrisonerId(equal, frame.offenders[equal])
        seen = self._look_again(candidates, at_first, witness)
        if about.prisons:
            seen = _at_prisons(seen, about.prisons)
        pairs = [*seen.confirmed, *seen.settled, *(pair for pair, _ in seen.in_flight)]
        aside = {each.booking_id for each in seen.released} | {each.booking_id for each, _ in seen.unread}
        if about.prisons:
            named = {pair.booking_id for pair in pairs}
            known = frame.only_prisons(about.prisons, unknown_too=False)
            aside |= {int(each) for each in frame.bookings} - {int(each) for each in known.bookings} - named
        final = frame.amended(pairs, aside)
        unread_by_anyone = self._unread(frame, seen)
        # An exclusion holds for whoever cannot be read too: that booking is not asked after.
        unread = tuple(each for each in unread_by_anyone if each.booking_id not in about.exclusions)
        empty = self._empty_prisons(frame.at_prisons() | {pair.prison_id for pair in pairs}, unread)
        status = self._status(unread, empty)
        mismatches = self._mismatches(
            [each for each in seen.confirmed if each.booking_id not in about.exclusions], seen
        )
        excluded = self._excluded(seen, final, unread_by_anyone, at_first)
        in_flight = [_in_flight(pair, why) for pair, why in seen.in_flight if pair.booking_id not in about.exclusions]
        return ReconciliationResult(
            run_id=about.run_id,
            status=status,
            environment=about.environment,
            started_at=about.started_at,
            finished_at=self._clock(),
            parameters=dict(about.parameters),
            failure=about.failure,
            total=about.listing.total_elements,
            listed=len(about.listing.prisoners),
            compared=len(final.bookings),
            settled_on_recheck=len(seen.settled),
            released=tuple(each.offender_no for each in seen.released),
            mismatches=tuple(mismatches),
            in_flight=tuple(in_flight),
            excluded=excluded,
            unneeded_exclusions=self._unneeded(excluded, seen),
            resolved=self._resolved(final, mismatches, seen, unread_by_anyone),
            unread=unread,
            unread_pages=tuple(UnreadPage(page=each.page, reason=each.reason) for each in about.listing.failed_pages),
            unconfirmed=self._unconfirmed(seen, at_first),
            empty_prisons=empty,
            prisons=final.by_prison(mismatches),
            matrix=final.matrix(),
            trend=self._trend(status, len(final.bookings), len(mismatches), len(unread)),
            compared_with=about.baseline.run_id,
        )

    def _look_again(
        self, candidates: Sequence[PrisonerId], at_first: Mapping[int, Levels], witness: PrisonerId | None
    ) -> Rechecked:
        with ThreadPoolExecutor(1, thread_name_prefix="token") as beside:
            if candidates:
                # What comes next, finding causes, asks the mapping service; should it get no token, that will say so.
                beside.submit(self._services.mapping.authenticate)
            return self._recheck(
                candidates, lambda done, total: self._progress("looking again", done, total), at_first, witness
            )

    def _status(self, unread: Sequence[Unread], empty: Sequence[str]) -> Status:
        if self._about.failure is not None:
            return "failed"
        return "incomplete" if unread or empty or self._about.listing.failed_pages else "complete"

    def _empty_prisons(self, found_at: Collection[str | None], unread: Sequence[Unread]) -> tuple[str, ...]:
        """The prisons asked for where nobody is; none while somebody was not read, who may be there."""
        if self._about.failure is not None or unread or self._about.listing.failed_pages:
            return ()
        return tuple(prison for prison in self._about.prisons if prison not in found_at)

    def _unread(self, frame: LevelFrame, seen: Rechecked) -> tuple[Unread, ...]:
        at_first = [
            Unread(
                offender_no=frame.offenders[booking_id],
                booking_id=booking_id,
                reason=why.reason,
                network=why.network,
            )
            for booking_id, why in frame.unreadable.items()
        ]
        later = [
            Unread(offender_no=each.offender_no, booking_id=each.booking_id, reason=why.reason, network=why.network)
            for each, why in seen.unread
        ]
        never = [
            Unread(offender_no=each, booking_id=None, reason="not among the active prisoners, and no review in DPS")
            for each in self._about.listing.not_found
        ]
        unusable = [
            Unread(
                offender_no=each.offender_no or "unknown",
                booking_id=each.booking_id,
                reason=f"row {each.row} of page {each.page} of the active prisoners: {each.reason}",
                page=each.page,
                row=each.row,
            )
            for each in self._about.listing.unusable
        ]
        # Whoever leaves a list half read, such as a process that died, must not let it look read.
        left = [
            Unread(offender_no=each.offender_no, booking_id=each.booking_id, reason="listed, but not read by this run")
            for each in (self._about.listing.prisoners if self._about.failure is None else ())
            if each.booking_id not in frame.offenders
        ]
        return tuple(sorted([*at_first, *later, *left, *unusable, *never], key=lambda each: each.booking_id or 0))

    def _mismatches(self, pairs: Sequence[Pair], seen: Rechecked) -> list[Mismatch]:
        pending = seen.pending or PendingMessages()
        diagnosed = pairs[:MOST_DIAGNOSED]
        found = []
        with ThreadPoolExecutor(_DIAGNOSED_AT_ONCE, thread_name_prefix="diagnosis") as pool:
            try:
                for mismatch in pool.map(lambda pair: self._mismatch(pair, pending), diagnosed):
                    found.append(mismatch)
                    self._progress("finding causes", len(found), len(diagnosed))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        beyond = f"more than {MOST_DIAGNOSED} mismatches: look for one common cause first"
        return found + [self._bare(pair, beyond) for pair in pairs[MOST_DIAGNOSED:]]

    def _mismatch(self, pair: Pair, pending: PendingMessages) -> Mismatch:
        standing, since = self._about.baseline.standing(pair.booking_id, self._about.started_at)
        try:
            evidence = gather(self._services, pair, pending, self._about.near)
            diagnosis = diagnose(evidence, self._about.near)
            if diagnosis.number in (9, 10):
                # Nobody but a person can tell: that person wants to see all there is.
                evidence = gather(self._services, pair, pending, self._about.near, whole=True)
            return to_mismatch(evidence, diagnosis, standing, since)
        except Exception as error:  # whatever the evidence of one prisoner is, the difference stands, as do the others
            if not isinstance(error, SyncError):
                structlog.get_logger().exception("evidence-not-understood", booking_id=pair.booking_id)
            return self._bare(pair, why_unreadable(error).reason)

    def _bare(self, pair: Pair, why: str) -> Mismatch:
        standing, since = self._about.baseline.standing(pair.booking_id, self._about.started_at)
        return to_mismatch(Evidence(pair), None, standing, since, missing=why)

    def _unconfirmed(self, seen: Rechecked, at_first: Mapping[int, Levels]) -> tuple[Unconfirmed, ...]:
        found = []
        for each, why in seen.unread:
            if each.booking_id in self._about.exclusions:
                continue
            nomis, dps = at_first[each.booking_id]
            standing, since = self._about.baseline.standing(each.booking_id, self._about.started_at)
            found.append(
                Unconfirmed(
                    offender_no=each.offender_no,
                    booking_id=each.booking_id,
                    nomis_level=nomis,
                    dps_level=dps,
                    standing=standing,
                    since=since,
                    reason=why.reason,
                )
            )
        return tuple(sorted(found, key=lambda each: each.booking_id))

    def _excluded(
        self, seen: Rechecked, final: LevelFrame, unread: Sequence[Unread], at_first: Mapping[int, Levels]
    ) -> tuple[Excluded, ...]:
        exclusions = self._about.exclusions
        if not exclusions:
            return ()
        differing = {pair.booking_id: pair for pair in (*seen.confirmed, *(pair for pair, _ in seen.in_flight))}
        failed = {each.booking_id: each for each in unread}
        levels = {
            int(booking_id): final.levels.text(int(level))
            for booking_id, level in zip(final.bookings, final.nomis, strict=True)
            if int(booking_id) in exclusions
        }
        found = []
        for booking_id, exclusion in exclusions.items():
            pair = differing.get(booking_id)
            if booking_id in failed:
                nomis, dps = at_first.get(booking_id, (None, None))
                found.append(
                    Excluded(
                        offender_no=failed[booking_id].offender_no,
                        booking_id=booking_id,
                        nomis_level=nomis,
                        dps_level=dps,
                        reason=exclusion.reason,
                        still_differs=True,
                        since=exclusion.since,
                        unread=failed[booking_id].reason,
                    )
                )
                continue
            if pair is None and booking_id not in levels:
                continue
            found.append(
                Excluded(
                    offender_no=final.offenders[booking_id],
                    booking_id=booking_id,
                    nomis_level=pair.nomis_level if pair else levels[booking_id],
                    dps_level=pair.dps_level if pair else levels[booking_id],
                    reason=exclusion.reason if pair else NO_LONGER_NEEDED,
                    still_differs=pair is not None,
                    since=exclusion.since,
                )
            )
        return tuple(sorted(found, key=lambda each: each.booking_id))

    def _unneeded(self, excluded: Sequence[Excluded], seen: Rechecked) -> tuple[str, ...]:
        """The entries of the list of exclusions that may go: the levels agree, or the booking is not active."""
        agree = [f"{each.offender_no}, booking {each.booking_id}" for each in excluded if not each.still_differs]
        if not self._whole_list_known:
            return tuple(agree)
        active = self._about.listing.bookings - {each.booking_id for each in seen.released}
        gone = [f"booking {each}, which is not active" for each in sorted(self._about.exclusions) if each not in active]
        return (*agree, *gone)

    @property
    def _whole_list_known(self) -> bool:
        """Whether a booking that is not on the list is not active."""
        about = self._about
        if about.failure is not None or about.listing.failed_pages or about.parameters.get("offender_nos"):
            return False
        return all(each.booking_id is not None for each in about.listing.unusable)

    def _resolved(
        self, final: LevelFrame, mismatches: Sequence[Mismatch], seen: Rechecked, unread: Sequence[Unread]
    ) -> tuple[Resolved, ...]:
        about = self._about
        if not about.baseline.mismatches:
            return ()
        read = {int(booking_id) for booking_id in final.bookings}
        open_still = {each.booking_id for each in mismatches} | {pair.booking_id for pair, _ in seen.in_flight}
        open_still |= {pair.booking_id for pair in seen.confirmed} | {
            each.booking_id for each in unread if each.booking_id
        }
        listed = about.listing.bookings
        released = {each.booking_id for each in seen.released}
        partial = bool(about.prisons or about.parameters.get("offender_nos"))
        return about.baseline.resolved(
            equal=lambda booking_id: booking_id in read and booking_id not in open_still,
            gone=lambda booking_id: (
                booking_id in released or (self._whole_list_known and not partial and booking_id not in listed)
            ),
            examined=lambda booking_id: not partial or booking_id in read,
        )

    def _trend(self, status: Status, compared: int, mismatches: int, unread: int) -> tuple[TrendPoint, ...]:
        about = self._about
        # Where only single prisoners are missing, the trend goes on.
        told = status == "complete" or (status == "incomplete" and not about.listing.failed_pages)
        if not told or about.prisons or about.parameters.get("offender_nos"):
            return about.trend
        point = TrendPoint(
            run_id=about.run_id,
            started_at=about.started_at,
            compared=compared,
            mismatches=mismatches,
            unread=unread,
        )
        return (*about.trend, point)


def _in_flight(pair: Pair, why: str) -> InFlight:
    return InFlight(
        offender_no=pair.offender_no,
        booking_id=pair.booking_id,
        nomis_level=pair.nomis_level,
        dps_level=pair.dps_level,
        why=why,
    )


def _at_prisons(seen: Rechecked, prisons: tuple[str, ...]) -> Rechecked:
    """What concerns the prisons: where NOMIS has no record, the prison of the DPS review tells."""
    seen.confirmed = [pair for pair in seen.confirmed if pair.prison_id in prisons]
    seen.settled = [pair for pair in seen.settled if pair.prison_id in prisons]
    seen.in_flight = [(pair, why) for pair, why in seen.in_flight if pair.prison_id in prisons]
    return seen
