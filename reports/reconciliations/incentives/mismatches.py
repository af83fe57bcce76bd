"""Differences explained: evidence collected, diagnosed, and presented with both current records and histories."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from reports.engine.bookings import active_booking
from reports.engine.history import read_baseline
from reports.engine.parallel_reader import failed_read
from reports.engine.result import Standing
from reports.reconciliations.incentives.diagnosis import diagnose
from reports.reconciliations.incentives.evidence import LEGITIMATE, Evidence, collect_evidence, read_levels
from reports.reconciliations.incentives.pending_messages import PendingMessages
from reports.reconciliations.incentives.result import IncentiveEvidenceRow, IncentiveMismatch, Side
from sync.failures import SyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reports.reconciliations.incentives.evidence import Evidence, PrisonerLevels
    from reports.reconciliations.incentives.pending_messages import FindPendingMessages
    from reports.reconciliations.incentives.result import IncentiveDiagnosis
    from sync.domains.incentives.dps import Review
    from sync.domains.incentives.nomis import IepRecord
    from sync.store.database import Database
    from sync.upstream.services import Services

#: Reviews of DPS that are shown at most.
_MOST_REVIEWS = 10
#: Mismatches whose evidence is read at once, and in all: more than that have one common cause.
_EXPLAINED_AT_ONCE = 8
MOST_EXPLAINED = 2_000
#: The causes that only a person can tell, who wants to see the whole histories.
_FOR_A_PERSON = frozenset({9, 10})


def explain_all(
    services: Services,
    pairs: Sequence[PrisonerLevels],
    pending: PendingMessages,
    near: timedelta,
    standing: Callable[[int], tuple[Standing, datetime]],
    progress: Callable[[int, int], None],
) -> list[IncentiveMismatch]:
    """The mismatches of confirmed differences, in the same order.

    near: how far apart two records of one event may lie. standing: new or persisting, and since when, by booking id.
    """
    explained = pairs[:MOST_EXPLAINED]

    def explain_one(pair: PrisonerLevels) -> IncentiveMismatch:
        try:
            evidence = collect_evidence(services, pair, pending, near)
            diagnosis = diagnose(evidence, near)
            if diagnosis.number in _FOR_A_PERSON:
                evidence = collect_evidence(services, pair, pending, near, whole=True)
            return to_mismatch(evidence, diagnosis, *standing(pair.booking_id))
        except Exception as error:  # the difference is reported whatever its evidence is, and so are the others
            if not isinstance(error, SyncError):
                structlog.get_logger().exception("evidence-not-understood", booking_id=pair.booking_id)
            return unexplained(pair, failed_read(error).reason)

    def unexplained(pair: PrisonerLevels, why: str) -> IncentiveMismatch:
        return to_mismatch(Evidence(pair), None, *standing(pair.booking_id), missing=why)

    found = []
    with ThreadPoolExecutor(_EXPLAINED_AT_ONCE, thread_name_prefix="explain") as pool:
        try:
            for mismatch in pool.map(explain_one, explained):
                found.append(mismatch)
                progress(len(found), len(explained))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    beyond = f"more than {MOST_EXPLAINED} mismatches: look for one common cause first"
    return found + [unexplained(pair, beyond) for pair in pairs[MOST_EXPLAINED:]]


def to_mismatch(
    evidence: Evidence,
    diagnosis: IncentiveDiagnosis | None,
    standing: Standing,
    since: datetime,
    missing: str | None = None,
) -> IncentiveMismatch:
    """The mismatch of `evidence`; `missing` says why evidence could not be read."""
    pair = evidence.pair
    review = pair.newest_review
    return IncentiveMismatch(
        offender_no=pair.offender_no,
        booking_id=pair.booking_id,
        prison_id=pair.prison_id,
        nomis=_nomis_side(pair.nomis) if pair.nomis else None,
        dps=_dps_side(pair, review) if pair.dps else None,
        standing=standing,
        since=since,
        diagnosis=diagnosis,
        evidence=evidence_rows(evidence),
        evidence_missing=missing,
    )


def evidence_rows(evidence: Evidence) -> tuple[IncentiveEvidenceRow, ...]:
    """The records of both sides, newest first."""
    current = evidence.pair.newest_review
    rows = [_record_row(evidence, record) for record in evidence.records]
    rows += [_review_row(evidence, review, current) for review in evidence.reviews[:_MOST_REVIEWS]]
    return tuple(sorted(rows, key=lambda row: (row.at, row.side == "DPS", row.record), reverse=True))


def _record_row(evidence: Evidence, record: IepRecord) -> IncentiveEvidenceRow:
    notes = []
    if record.audit_module not in LEGITIMATE:
        notes.append("made by NOMIS itself")
    if record.incentive_sequence in evidence.reviews_of:
        review_id = evidence.reviews_of[record.incentive_sequence]
        notes.append("no mapping" if review_id is None else f"written from review {review_id}")
    return IncentiveEvidenceRow(
        side="NOMIS",
        at=record.iep_date_time,
        level=record.iep_level.code,
        prison_id=record.prison_id,
        origin=record.audit_module,
        user_id=record.user_id,
        record=record.incentive_sequence,
        current=record is evidence.pair.nomis,
        note="; ".join(notes),
    )


def _review_row(evidence: Evidence, review: Review, current: Review | None) -> IncentiveEvidenceRow:
    notes = []
    if current is not None and review.id == current.id:
        written = evidence.written
        if written is None:
            notes.append("not written to NOMIS")
            if evidence.doubt is not None:
                notes.append(f"its message may be pending: {evidence.doubt}")
        elif written.booking_id == evidence.pair.booking_id:
            notes.append(f"written as sequence {written.sequence}")
        else:
            notes.append(f"written to booking {written.booking_id} as sequence {written.sequence}")
    if review.booking_id != evidence.pair.booking_id:
        notes.append(f"of booking {review.booking_id}")
    if review.prisoner_number not in (None, evidence.pair.offender_no):
        notes.append(f"of prisoner {review.prisoner_number}")
    return IncentiveEvidenceRow(
        side="DPS",
        at=review.iep_time,
        level=review.iep_code,
        prison_id=review.agency_id,
        origin=review.review_type,
        user_id=review.user_id,
        record=review.id,
        current=current is not None and review.id == current.id,
        note="; ".join(notes),
    )


def _nomis_side(record: IepRecord) -> Side:
    return Side(
        level=record.iep_level.code,
        at=record.iep_date_time,
        prison_id=record.prison_id,
        origin=record.audit_module,
        user_id=record.user_id,
        record=record.incentive_sequence,
    )


def _dps_side(pair: PrisonerLevels, review: Review | None) -> Side:
    dps = pair.dps
    assert dps is not None
    return Side(
        level=dps.iep_code,
        at=review.iep_time if review else dps.iep_time,
        prison_id=review.agency_id if review else None,
        origin=review.review_type if review else None,
        user_id=review.user_id if review else None,
        record=review.id if review else dps.id or 0,
    )


@dataclass(frozen=True, slots=True)
class Explanation:
    """Both levels and histories of a prisoner. `mismatch.diagnosis` is None where both sides agree."""

    mismatch: IncentiveMismatch
    equal: bool


def explain(
    services: Services,
    database: Database,
    find_pending: FindPendingMessages,
    offender_no: str,
    near: timedelta,
    moment: datetime,
) -> Explanation:
    """Reads both sides of a prisoner, whole histories included, and says why they differ. Raises `SyncError`."""
    booking = active_booking(services, offender_no)
    pair = read_levels(services, booking.booking_id, offender_no)
    pending = PendingMessages() if pair.equal else find_pending()
    evidence = collect_evidence(services, pair, pending, near, whole=True)
    with database.read() as connection:
        standing, since = read_baseline(connection, moment).standing(pair.booking_id, moment)
    diagnosis = None if pair.equal else diagnose(evidence, near)
    return Explanation(to_mismatch(evidence, diagnosis, standing, since), pair.equal)
