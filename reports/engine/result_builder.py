"""From what a run has read to its result: compared, rechecked, set against earlier runs and explained."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from reports.engine.exclusions import excluded_bookings, unneeded_exclusions
from reports.engine.result import Status, TrendPoint
from reports.reconciliations.incentives.mismatches import explain_all
from reports.reconciliations.incentives.pending_messages import PendingMessages
from reports.reconciliations.incentives.result import (
    IncentiveInFlight,
    IncentiveMismatch,
    IncentiveResolved,
    IncentiveResult,
    IncentiveUnconfirmed,
    IncentiveUnread,
    UnreadPage,
)
from sync.upstream.prisoners import PrisonerId

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from reports.engine.exclusions import Exclusion
    from reports.engine.history import Baseline
    from reports.engine.listing import Listing
    from reports.engine.recheck import Levels, Recheck, Rechecked
    from reports.reconciliations.incentives.evidence import PrisonerLevels
    from reports.reconciliations.incentives.frame import LevelFrame
    from sync.upstream.services import Services


@dataclass(frozen=True, slots=True)
class RunContext:
    """What is known of a run besides what it read.

    prisons: those it was limited to. failure: why the run gave up; None if it finished. near: how far apart two records
    of one event may lie.
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


class ResultBuilder:
    """Builds the result of one run."""

    def __init__(
        self,
        services: Services,
        recheck: Recheck,
        context: RunContext,
        clock: Callable[[], datetime],
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._services = services
        self._recheck = recheck
        self._context = context
        self._clock = clock
        self._progress = progress

    def build(self, frame: LevelFrame, wait: Callable[[], None]) -> IncentiveResult:
        """The result. `wait` gives messages in flight time to arrive; it is called only if something differs."""
        context = self._context
        if context.prisons:
            frame = frame.only_prisons(context.prisons, unknown_too=True)
        first_levels = frame.differences()
        candidates = [PrisonerId(booking_id, frame.offenders[booking_id]) for booking_id in first_levels]
        if candidates:
            wait()
        equal = next((int(each) for each in frame.bookings if int(each) not in first_levels), None)
        witness = None if equal is None else PrisonerId(equal, frame.offenders[equal])
        rechecked = self._recheck_differences(candidates, first_levels, witness)
        if context.prisons:
            rechecked = _at_prisons(rechecked, context.prisons)
        pairs = [*rechecked.confirmed, *rechecked.agreed, *(pair for pair, _ in rechecked.in_flight)]
        left_out = {each.booking_id for each in rechecked.released} | {each.booking_id for each, _ in rechecked.unread}
        if context.prisons:
            named = {pair.booking_id for pair in pairs}
            known = frame.only_prisons(context.prisons, unknown_too=False)
            left_out |= {int(each) for each in frame.bookings} - {int(each) for each in known.bookings} - named
        final = frame.amended(pairs, left_out)
        all_unread = self._unread(frame, rechecked)
        # An excluded booking that cannot be read does not make the run incomplete.
        unread = tuple(each for each in all_unread if each.booking_id not in context.exclusions)
        empty = self._empty_prisons(frame.at_prisons() | {pair.prison_id for pair in pairs}, unread)
        status = self._status(unread, empty)
        mismatches = explain_all(
            self._services,
            [each for each in rechecked.confirmed if each.booking_id not in context.exclusions],
            rechecked.pending or PendingMessages(),
            context.near,
            lambda booking_id: context.baseline.standing(booking_id, context.started_at),
            lambda done, total: self._progress("finding causes", done, total),
        )
        excluded = excluded_bookings(context.exclusions, rechecked, final, all_unread, first_levels)
        in_flight = [
            _in_flight(pair, why) for pair, why in rechecked.in_flight if pair.booking_id not in context.exclusions
        ]
        return IncentiveResult(
            run_id=context.run_id,
            status=status,
            environment=context.environment,
            started_at=context.started_at,
            finished_at=self._clock(),
            parameters=dict(context.parameters),
            failure=context.failure,
            total=context.listing.total_elements,
            listed=len(context.listing.prisoners),
            compared=len(final.bookings),
            settled_on_recheck=len(rechecked.agreed),
            released=tuple(each.offender_no for each in rechecked.released),
            mismatches=tuple(mismatches),
            in_flight=tuple(in_flight),
            excluded=excluded,
            unneeded_exclusions=unneeded_exclusions(context.exclusions, excluded, self._active_bookings(rechecked)),
            resolved=self._resolved(final, mismatches, rechecked, all_unread),
            unread=unread,
            unread_pages=tuple(UnreadPage(page=each.page, reason=each.reason) for each in context.listing.failed_pages),
            unconfirmed=self._unconfirmed(rechecked, first_levels),
            empty_prisons=empty,
            prisons=final.by_prison(mismatches),
            matrix=final.matrix(),
            trend=self._trend(status, len(final.bookings), len(mismatches), len(unread)),
            compared_with=context.baseline.run_id,
        )

    def _recheck_differences(
        self, candidates: Sequence[PrisonerId], first_levels: Mapping[int, Levels], witness: PrisonerId | None
    ) -> Rechecked:
        with ThreadPoolExecutor(1, thread_name_prefix="token") as executor:
            if candidates:
                # Finding causes will need the mapping service; a token that cannot be had is reported there.
                executor.submit(self._services.mapping.authenticate)
            return self._recheck(
                candidates, lambda done, total: self._progress("rechecking", done, total), first_levels, witness
            )

    def _status(self, unread: Sequence[IncentiveUnread], empty: Sequence[str]) -> Status:
        if self._context.failure is not None:
            return "failed"
        return "incomplete" if unread or empty or self._context.listing.failed_pages else "complete"

    def _empty_prisons(self, found_at: Collection[str | None], unread: Sequence[IncentiveUnread]) -> tuple[str, ...]:
        """Requested prisons without active prisoners; empty if anyone was unread, as they may be held there."""
        if self._context.failure is not None or unread or self._context.listing.failed_pages:
            return ()
        return tuple(prison for prison in self._context.prisons if prison not in found_at)

    def _unread(self, frame: LevelFrame, rechecked: Rechecked) -> tuple[IncentiveUnread, ...]:
        first_levels = [
            IncentiveUnread(
                offender_no=frame.offenders[booking_id],
                booking_id=booking_id,
                reason=why.reason,
                network=why.network,
            )
            for booking_id, why in frame.failed.items()
        ]
        later = [
            IncentiveUnread(
                offender_no=each.offender_no, booking_id=each.booking_id, reason=why.reason, network=why.network
            )
            for each, why in rechecked.unread
        ]
        never = [
            IncentiveUnread(
                offender_no=each, booking_id=None, reason="not among the active prisoners, and no review in DPS"
            )
            for each in self._context.listing.not_found
        ]
        unusable = [
            IncentiveUnread(
                offender_no=each.offender_no or "unknown",
                booking_id=each.booking_id,
                reason=f"row {each.row} of page {each.page} of the active prisoners: {each.reason}",
                page=each.page,
                row=each.row,
            )
            for each in self._context.listing.unusable
        ]
        # Listed but never read, e.g. after a crash: counts as unread.
        left = [
            IncentiveUnread(
                offender_no=each.offender_no, booking_id=each.booking_id, reason="listed, but not read by this run"
            )
            for each in (self._context.listing.prisoners if self._context.failure is None else ())
            if each.booking_id not in frame.offenders
        ]
        return tuple(sorted([*first_levels, *later, *left, *unusable, *never], key=lambda each: each.booking_id or 0))

    def _unconfirmed(
        self, rechecked: Rechecked, first_levels: Mapping[int, Levels]
    ) -> tuple[IncentiveUnconfirmed, ...]:
        found = []
        for each, why in rechecked.unread:
            if each.booking_id in self._context.exclusions:
                continue
            nomis, dps = first_levels[each.booking_id]
            standing, since = self._context.baseline.standing(each.booking_id, self._context.started_at)
            found.append(
                IncentiveUnconfirmed(
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

    def _active_bookings(self, rechecked: Rechecked) -> frozenset[int] | None:
        """Every active booking; None unless the whole list is known."""
        if not self._whole_list_known:
            return None
        return self._context.listing.bookings - {each.booking_id for each in rechecked.released}

    @property
    def _whole_list_known(self) -> bool:
        """Whether a booking that is not on the list is certainly not active."""
        context = self._context
        if context.failure is not None or context.listing.failed_pages or context.parameters.get("offender_nos"):
            return False
        return all(each.booking_id is not None for each in context.listing.unusable)

    def _resolved(
        self,
        final: LevelFrame,
        mismatches: Sequence[IncentiveMismatch],
        rechecked: Rechecked,
        unread: Sequence[IncentiveUnread],
    ) -> tuple[IncentiveResolved, ...]:
        context = self._context
        if not context.baseline.mismatches:
            return ()
        read = {int(booking_id) for booking_id in final.bookings}
        open_still = {each.booking_id for each in mismatches} | {pair.booking_id for pair, _ in rechecked.in_flight}
        open_still |= {pair.booking_id for pair in rechecked.confirmed} | {
            each.booking_id for each in unread if each.booking_id
        }
        listed = context.listing.bookings
        released = {each.booking_id for each in rechecked.released}
        partial = bool(context.prisons or context.parameters.get("offender_nos"))
        return context.baseline.resolved(
            equal=lambda booking_id: booking_id in read and booking_id not in open_still,
            gone=lambda booking_id: (
                booking_id in released or (self._whole_list_known and not partial and booking_id not in listed)
            ),
            examined=lambda booking_id: not partial or booking_id in read,
        )

    def _trend(self, status: Status, compared: int, mismatches: int, unread: int) -> tuple[TrendPoint, ...]:
        context = self._context
        # A run that lacks single prisoners is comparable with others.
        comparable = status == "complete" or (status == "incomplete" and not context.listing.failed_pages)
        if not comparable or context.prisons or context.parameters.get("offender_nos"):
            return context.trend
        point = TrendPoint(
            run_id=context.run_id,
            started_at=context.started_at,
            compared=compared,
            mismatches=mismatches,
            unread=unread,
        )
        return (*context.trend, point)


def _in_flight(pair: PrisonerLevels, why: str) -> IncentiveInFlight:
    return IncentiveInFlight(
        offender_no=pair.offender_no,
        booking_id=pair.booking_id,
        nomis_level=pair.nomis_level,
        dps_level=pair.dps_level,
        why=why,
    )


def _at_prisons(rechecked: Rechecked, prisons: tuple[str, ...]) -> Rechecked:
    """The part that concerns the prisons; without a NOMIS record the prison of the DPS review counts."""
    rechecked.confirmed = [pair for pair in rechecked.confirmed if pair.prison_id in prisons]
    rechecked.agreed = [pair for pair in rechecked.agreed if pair.prison_id in prisons]
    rechecked.in_flight = [(pair, why) for pair, why in rechecked.in_flight if pair.prison_id in prisons]
    return rechecked
