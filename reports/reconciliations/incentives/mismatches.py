"""Explains differences: collects the evidence, finds the cause, and presents the current records and histories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from reports.engine.causes import Explanation
from reports.engine.history import read_baseline
from reports.engine.parallel_reader import failed_read
from reports.engine.pending_messages import PendingMessages
from reports.engine.units import key_text
from reports.reconciliations.incentives.bookings import active_booking
from reports.reconciliations.incentives.causes import explain
from reports.reconciliations.incentives.diagnosis import diagnose
from reports.reconciliations.incentives.evidence import (
    LEGITIMATE,
    Evidence,
    collect_evidence,
    message_of,
    read_levels,
)
from reports.reconciliations.incentives.result import NAME, IncentiveEvidenceRow, IncentiveMismatch, Side
from sync.errors import SyncError

if TYPE_CHECKING:
    from collections.abc import Callable

    from reports.reconciliations.incentives.evidence import PrisonerLevels, ReviewMessage
    from reports.reconciliations.incentives.result import IncentiveDiagnosis
    from sync.domains.incentives.dps import Review
    from sync.domains.incentives.nomis import IepRecord
    from sync.store.database import Database
    from sync.upstream.services import Services

#: The most DPS reviews that are shown.
_MOST_REVIEWS = 10
#: The causes that only a person who sees the whole histories can resolve.
_FOR_A_PERSON = frozenset({9, 10})


def explanation(evidence: Evidence, diagnosis: IncentiveDiagnosis | None, missing: str | None = None) -> Explanation:
    """The explanation of a difference, with the evidence for it.

    missing: why evidence could not be read, or None if nothing is missing.
    """
    return Explanation(diagnosis, evidence_rows(evidence), missing, sides(evidence.pair))


def explain_pair(services: Services, pair: PrisonerLevels, message: ReviewMessage, near: timedelta) -> Explanation:
    """Explains why a prisoner's levels differ or, if the evidence cannot be used, why it cannot.

    near: how far apart in time two records of the same event may be.
    """
    try:
        evidence = collect_evidence(services, pair, message, near)
        diagnosis = diagnose(evidence, near)
        if diagnosis.number in _FOR_A_PERSON:
            evidence = collect_evidence(services, pair, message, near, whole=True)
        return explanation(evidence, diagnosis)
    except Exception as error:  # the difference is reported even without evidence
        if not isinstance(error, SyncError):
            structlog.get_logger().exception("evidence-not-understood", booking_id=pair.booking_id)
        return explanation(Evidence(pair), None, failed_read(error).reason)


def sides(pair: PrisonerLevels) -> dict[str, Side | None]:
    """Both current records as the fields of a mismatch, with None for a side without a record."""
    return {
        "nomis": _nomis_side(pair.nomis) if pair.nomis else None,
        "dps": _dps_side(pair, pair.newest_review) if pair.dps else None,
    }


def evidence_rows(evidence: Evidence) -> tuple[IncentiveEvidenceRow, ...]:
    """The rows for the NOMIS records that were read and for at most `_MOST_REVIEWS` DPS reviews, newest first."""
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
            if evidence.message.doubt is not None:
                notes.append(f"its message may be pending: {evidence.message.doubt}")
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
class ExplainedPrisoner:
    """The levels and histories of a prisoner on both sides. `mismatch.diagnosis` is None if both sides agree."""

    mismatch: IncentiveMismatch
    equal: bool


def explain_prisoner(
    services: Services,
    database: Database,
    find_pending: Callable[[], PendingMessages],
    offender_no: str,
    near: timedelta,
    moment: datetime,
) -> ExplainedPrisoner:
    """Reads a prisoner's levels and histories on both sides, and explains any difference. Raises `SyncError`."""
    booking = active_booking(services, offender_no)
    pair = read_levels(services, booking.booking_id, offender_no)
    review = pair.newest_review
    pending = PendingMessages() if pair.equal else find_pending()
    message = message_of(pending, review.id if review else None, offender_no)
    evidence = collect_evidence(services, pair, message, near, whole=True)
    key = {"booking_id": pair.booking_id}
    with database.read() as connection:
        baseline = read_baseline(connection, NAME, moment)
    standing, since = baseline.classify(key_text(key), moment)
    if since == baseline.started_at:
        # The last run reported the difference as new, and it stays new until the next run.
        standing = "new"
    found = explanation(evidence, None if pair.equal else _explained(diagnose(evidence, near), pair))
    values = {"offender_no": offender_no, "prison_id": pair.prison_id, "standing": standing, "since": since, **key}
    mismatch = IncentiveMismatch.model_validate(
        {**values, **found.values, "diagnosis": found.diagnosis, "evidence": found.evidence}
    )
    return ExplainedPrisoner(mismatch, pair.equal)


def _explained(diagnosis: IncentiveDiagnosis, pair: PrisonerLevels) -> IncentiveDiagnosis:
    """The diagnosis without the `reconcile explain` command, for the output of that command itself."""
    further = tuple(each for each in diagnosis.commands if each != explain(pair))
    return diagnosis.model_copy(update={"commands": further})
