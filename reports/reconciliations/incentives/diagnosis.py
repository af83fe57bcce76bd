"""The decision table: which side is right and why, according to the records of both sides. It makes no calls.

The correct level is that of the latest review, whether a person made it or DPS made it for a movement. Records that
NOMIS makes itself must not decide anyone's current level.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from reports.engine.result import Confidence
from reports.reconciliations.incentives import causes
from reports.reconciliations.incentives.causes import CAUSES
from reports.reconciliations.incentives.evidence import (
    BY_ADMISSION,
    BY_API,
    BY_SCREEN,
    BY_TRANSFER,
    LEGITIMATE,
    Case,
    near_each_other,
)
from reports.reconciliations.incentives.result import Arrival, IncentiveDiagnosis

if TYPE_CHECKING:
    from collections.abc import Callable

    from reports.reconciliations.incentives.evidence import Evidence
    from sync.domains.incentives.dps import Review
    from sync.domains.incentives.nomis import IepRecord


def diagnose(evidence: Evidence, near: timedelta = timedelta(hours=24)) -> IncentiveDiagnosis:
    """The diagnosis of a difference, from the first matching row of the table.

    near: how far apart in time two records of one event may be; records of the same calendar day always count as near.
    """
    case = Case(evidence, near)
    for rule in _TABLE:
        found = rule(case)
        if found is not None:
            return found
    return _unexplained(case)


def _message_pending(case: Case) -> IncentiveDiagnosis | None:
    pending_on = case.evidence.message.pending_on
    if pending_on is None:
        return None
    given_up = case.evidence.message.given_up
    if given_up is not None:
        return _found(
            1,
            confidence="high",
            explanation=f"The message of the current DPS review is on the dead letter queue: {given_up}.",
            action="Find out why the message failed, correct the cause, and then send the message back.",
            commands=(causes.SHOW_DLQ, causes.RETRY_DLQ, causes.reconcile_again(case.evidence.pair)),
        )
    place = "dead letter queue" if pending_on == "dlq" else "incentive queue"
    return _found(
        1,
        confidence="high",
        explanation=f"The message of the current DPS review is waiting on the {place}.",
        action="Retry the dead letter queue." if pending_on == "dlq" else "Wait: the message will be handled.",
        commands=(causes.RETRY_DLQ, causes.reconcile_again(case.evidence.pair)) if pending_on == "dlq" else (),
    )


def _event_lost(case: Case) -> IncentiveDiagnosis | None:
    if case.nomis is not None or case.review is None or case.evidence.written is not None:
        return None
    return _not_written(case, "NOMIS has no record, and the current DPS review has no mapping.", "high")


def _admission_missed(case: Case) -> IncentiveDiagnosis | None:
    nomis = case.nomis
    if nomis is None or case.evidence.pair.dps is not None:
        return None
    older = any(
        not near_each_other(each.iep_date_time, nomis.iep_date_time, case.near) for each in case.evidence.history
    )
    reason = "READMISSION" if older else "NEW_ADMISSION"
    by_system = nomis.audit_module not in LEGITIMATE
    arrival = _arrival(nomis, reason)
    return _found(
        3,
        confidence="high" if by_system else "medium",
        explanation=(
            f"DPS has no review for this booking; NOMIS made its record on {_day(nomis.iep_date_time)} "
            f"at {nomis.prison_id} ({nomis.audit_module or 'module unknown'})."
        ),
        action="Publish the received event again; DPS then makes the review and NOMIS gets it.",
        commands=causes.receive_again(case.evidence.pair, arrival),
        arrival=arrival,
    )


def _reception_missed(case: Case) -> IncentiveDiagnosis | None:
    nomis = case.nomis
    if nomis is None or nomis.audit_module in LEGITIMATE or case.near_review(nomis) is not None:
        return None
    review = case.review
    last = f"; its newest review is dated {_day(review.iep_time)} at {review.agency_id}" if review else ""
    explanation = (
        f"NOMIS made its current record itself ({nomis.audit_module or 'module unknown'}) on "
        f"{_day(nomis.iep_date_time)} at {nomis.prison_id}, and DPS has no review for an arrival at that time{last}."
    )
    reason = {BY_TRANSFER: "TRANSFERRED", BY_ADMISSION: case.admission_reason(nomis)}.get(nomis.audit_module or "")
    if reason is None:
        return _found(
            4,
            confidence="low",
            explanation=explanation,
            action="Check the prisoner's movements by hand: the record was not made on a transfer or admission screen.",
            request=causes.support_request(case.evidence.pair, [nomis]),
            nomis_ids=(nomis.incentive_sequence,),
        )
    arrival = _arrival(nomis, reason)
    return _found(
        4,
        confidence="high",
        explanation=explanation,
        action="Publish the received event again; DPS then makes the review and NOMIS gets it.",
        commands=causes.receive_again(case.evidence.pair, arrival),
        arrival=arrival,
    )


def _received_twice(case: Case) -> IncentiveDiagnosis | None:
    nomis = case.nomis
    if nomis is None or nomis.audit_module in LEGITIMATE:
        return None
    review = case.near_review(nomis, of_movement=True)
    if review is None:
        return None
    made_by_dps = case.record_of(review)
    if made_by_dps is None or made_by_dps.incentive_sequence >= nomis.incentive_sequence:
        return None
    duplicates = [
        each
        for each in case.evidence.records
        if each.incentive_sequence > made_by_dps.incentive_sequence and each.audit_module not in LEGITIMATE
    ]
    numbers = ", ".join(str(each.incentive_sequence) for each in duplicates)
    sequences = f"{'sequence' if len(duplicates) == 1 else 'sequences'} {numbers}"
    return _found(
        5,
        confidence="high",
        explanation=(
            f"DPS made a review for the arrival on {_day(review.iep_time)} at {review.agency_id}, written to NOMIS as "
            f"sequence {made_by_dps.incentive_sequence}; NOMIS itself made {sequences} after it."
        ),
        action=f"Ask NOMIS support to delete {sequences}.",
        commands=(causes.reconcile_again(case.evidence.pair),),
        request=causes.support_request(case.evidence.pair, duplicates),
        nomis_ids=tuple(each.incentive_sequence for each in duplicates),
    )


def _wrong_order(case: Case) -> IncentiveDiagnosis | None:
    nomis, review, written = case.nomis, case.review, case.evidence.written
    if nomis is None or review is None or written is None or nomis.audit_module != BY_API:
        return None
    if written.booking_id != case.evidence.pair.booking_id or written.sequence >= nomis.incentive_sequence:
        return None
    behind = case.review_behind(nomis)
    if behind is None or behind.iep_time >= review.iep_time or nomis.iep_date_time.date() != review.iep_time.date():
        return None
    return _found(
        6,
        confidence="high",
        explanation=(
            f"Two reviews are dated {review.iep_time.day} {review.iep_time:%B %Y}, at {behind.iep_time:%H:%M:%S} and "
            f"{review.iep_time:%H:%M:%S}; the older one was written last, as sequence {nomis.incentive_sequence}, "
            f"and NOMIS orders records only by day."
        ),
        action="Write the current DPS level to NOMIS again.",
        commands=causes.repair(case.evidence.pair),
    )


def _changed_on_screen(case: Case) -> IncentiveDiagnosis | None:
    nomis, review = case.nomis, case.review
    if nomis is None or nomis.audit_module != BY_SCREEN or review is None or nomis.iep_date_time <= review.iep_time:
        return None
    return _found(
        7,
        confidence="high",
        explanation=(
            f"A user entered {nomis.iep_level.code} in NOMIS on {_day(nomis.iep_date_time)}, after the newest DPS "
            f"review, dated {_day(review.iep_time)}."
        ),
        action="Hand the difference over to the incentives team; there is nothing else to do.",
    )


def _edited_or_deleted(case: Case) -> IncentiveDiagnosis | None:
    nomis, review = case.nomis, case.review
    if nomis is None or review is None or nomis.audit_module != BY_API:
        return None
    behind = case.review_behind(nomis)
    known = case.evidence.reviews_of.get(nomis.incentive_sequence) is not None
    if behind is not None and behind.iep_code == nomis.iep_level.code:
        return None
    what = "was edited in DPS afterwards" if behind is not None else "no longer exists in DPS"
    gone = f"The DPS review from which sequence {nomis.incentive_sequence} was written {what}"
    return _found(
        8,
        confidence="high" if known else "medium",
        explanation=(
            f"The review behind NOMIS sequence {nomis.incentive_sequence} {what}; such changes are not synchronised."
        ),
        action=_write_again_or_ask(nomis, review),
        commands=causes.repair(case.evidence.pair) if _would_be_current(nomis, review) else (),
        request=None if _would_be_current(nomis, review) else causes.support_request(case.evidence.pair, [nomis], gone),
        nomis_ids=() if _would_be_current(nomis, review) else (nomis.incentive_sequence,),
    )


def _merged(case: Case) -> IncentiveDiagnosis | None:
    pair = case.evidence.pair
    others = sorted({each.booking_id for each in case.evidence.reviews if each.booking_id != pair.booking_id})
    numbers = sorted(
        {each.prisoner_number for each in case.evidence.reviews if each.prisoner_number not in (None, pair.offender_no)}
    )
    elsewhere = case.evidence.written
    if elsewhere is not None and elsewhere.booking_id != pair.booking_id and elsewhere.booking_id not in others:
        others.append(elsewhere.booking_id)
    if not others and not numbers:
        return None
    named = ", ".join([*(f"booking {each}" for each in others), *(str(each) for each in numbers)])
    return _found(
        9,
        confidence="medium",
        explanation=f"Records of this prisoner are also under {named}.",
        action="Check both histories by hand.",
    )


def _overtaken(case: Case) -> IncentiveDiagnosis | None:
    """Row 2 in its wider form: NOMIS has an older record, and the newer DPS review has no mapping."""
    nomis, review = case.nomis, case.review
    if nomis is None or review is None or case.evidence.written is not None or nomis.iep_date_time >= review.iep_time:
        return None
    return _not_written(
        case, f"The DPS review of {_day(review.iep_time)} is newer than the NOMIS record and has no mapping.", "medium"
    )


def _unexplained(case: Case) -> IncentiveDiagnosis:
    return _found(
        10,
        confidence="low",
        explanation="None of the known causes fits; both histories are shown.",
        action="Check both histories by hand.",
        commands=(causes.explain(case.evidence.pair),),
    )


_TABLE: tuple[Callable[[Case], IncentiveDiagnosis | None], ...] = (
    _message_pending,
    _event_lost,
    _admission_missed,
    _reception_missed,
    _received_twice,
    _wrong_order,
    _changed_on_screen,
    _edited_or_deleted,
    _merged,
    _overtaken,
)


def _found(
    number: int,
    *,
    confidence: Confidence,
    explanation: str,
    action: str,
    commands: tuple[str, ...] = (),
    request: str | None = None,
    nomis_ids: tuple[int, ...] = (),
    arrival: Arrival | None = None,
) -> IncentiveDiagnosis:
    cause = CAUSES[number]
    return IncentiveDiagnosis(
        number=number,
        cause=cause.name,
        confidence=confidence,
        right_side=cause.right_side,
        who=cause.who if request is None else "NOMIS support",
        explanation=explanation,
        action=action,
        commands=commands,
        request=request,
        nomis_ids=nomis_ids,
        arrival=arrival,
    )


def _not_written(case: Case, explanation: str, confidence: Confidence) -> IncentiveDiagnosis:
    doubt = case.evidence.message.doubt
    if doubt is not None:
        # If a review were written by hand while its message was pending, it would be in NOMIS twice.
        return _found(
            2,
            confidence="low",
            explanation=f"{explanation} The message of the review may be pending: {doubt}.",
            action="Compare the levels again in a few minutes, before you write anything to NOMIS.",
            commands=(causes.reconcile_again(case.evidence.pair),),
        )
    return _found(
        2,
        confidence=confidence,
        explanation=explanation,
        action="Look for the message on the dead letter queue; if it is not there, write the DPS level to NOMIS.",
        commands=(causes.SHOW_DLQ, *causes.repair(case.evidence.pair)),
    )


def _would_be_current(nomis: IepRecord, review: Review) -> bool:
    """Whether a new record of `review` would become current. It does not if `nomis` is from a later day."""
    return review.iep_time.date() >= nomis.iep_date_time.date()


def _write_again_or_ask(nomis: IepRecord, review: Review) -> str:
    if _would_be_current(nomis, review):
        return "Write the current DPS level to NOMIS again."
    return (
        f"Ask NOMIS support to delete the record with sequence {nomis.incentive_sequence}: it is dated after the "
        f"current DPS review, and therefore the review would not become current in NOMIS even if it were written again."
    )


def _arrival(nomis: IepRecord, reason: str) -> Arrival:
    """The received event for a record that NOMIS made on arrival, with the time of the record as the arrival time."""
    return Arrival(prison_id=nomis.prison_id, reason=reason, occurred_at=nomis.iep_date_time.replace(microsecond=0))


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y at %H:%M}"
