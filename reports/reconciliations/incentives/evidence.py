"""The evidence about one difference: both histories, the origin of the records, and whether a message is pending."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from reports.reconciliations.incentives.reading import level_code, prison_code
from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives import nomis as nomis_incentives
from sync.domains.incentives.dps import Review, ReviewSummary
from sync.domains.incentives.nomis import IepRecord
from sync.domains.incentives.rules import CREATION, OF_PRISONER, OF_REVIEW
from sync.domains.incentives.rules import MAPPINGS as INCENTIVE_MAPPINGS
from sync.settings.upstreams import UpstreamName
from sync.tracing import TracedThreads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reports.engine.pending_messages import PendingMessages
    from sync.upstream.services import Services


#: The audit module of records that the synchronisation, or another program, wrote through an API.
BY_API = "JDBC Thin Client"
#: The audit module of records that a user made on the NOMIS IEP screen.
BY_SCREEN = "OIDOIEPS"
BY_TRANSFER = "OIDITRAN"
BY_ADMISSION = "OIDADMIS"
#: The audit modules of records that may be a prisoner's current level.
LEGITIMATE = frozenset({BY_API, BY_SCREEN})
#: At most this many sequences below that of the current record are read.
DEEPEST_HISTORY = 10


@dataclass(frozen=True, slots=True)
class PrisonerLevels:
    """The current records of a booking on both sides; None for a side without a record."""

    offender_no: str
    booking_id: int
    nomis: IepRecord | None
    dps: ReviewSummary | None

    @property
    def nomis_level(self) -> str | None:
        """The level code in NOMIS, or None if there is none."""
        return self.nomis.iep_level.code if self.nomis else None

    @property
    def dps_level(self) -> str | None:
        """The level code in DPS, or None if there is none."""
        return self.dps.iep_code if self.dps else None

    @property
    def equal(self) -> bool:
        """Whether both sides agree; if neither side has a level, they agree."""
        return self.nomis_level == self.dps_level

    @property
    def newest_review(self) -> Review | None:
        """The current review in DPS: the one that the summary names, or else the latest; None if DPS has no reviews."""
        if self.dps is None or not self.dps.iep_details:
            return None
        named = next((each for each in self.dps.iep_details if each.id == self.dps.id), None)
        return named or max(self.dps.iep_details, key=lambda each: each.iep_time)

    @property
    def prison_id(self) -> str | None:
        """The prison of the newer of the two current records; a review without a prison does not count."""
        review = self.newest_review
        if self.nomis is None:
            return review.agency_id if review else None
        if review is None or review.agency_id is None or self.nomis.iep_date_time >= review.iep_time:
            return self.nomis.prison_id
        return review.agency_id


@dataclass(frozen=True, slots=True)
class ReviewMessage:
    """The message about DPS's current review, if it has not been handled yet.

    pending_on: the queue that holds the message, or None if no message is known. given_up: why the message stays on
    the DLQ, or None if it does not stay there. doubt: why a message may be pending although none is known, or None if
    there can be no unknown message.
    """

    pending_on: Literal["queue", "dlq"] | None = None
    given_up: str | None = None
    doubt: str | None = None


def entities(review_id: int | None, offender_no: str) -> tuple[str, ...]:
    """The names by which failures, creations and messages refer to a review, or to its prisoner.

    Empty if `review_id` is None.
    """
    if review_id is None:
        return ()
    return f"{CREATION.name}:{review_id}", f"{OF_REVIEW}{review_id}", f"{OF_PRISONER}{offender_no}"


def message_of(pending: PendingMessages, review_id: int | None, offender_no: str) -> ReviewMessage:
    """What is known about the message of a prisoner's review; `review_id` is None if there is no review."""
    named = entities(review_id, offender_no)
    return ReviewMessage(pending.where(named), pending.why_given_up(named), pending.doubt)


@dataclass(frozen=True, slots=True)
class ReviewMapping:
    """The NOMIS record of a review, according to the mapping service."""

    booking_id: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the diagnosis of one difference uses.

    history: NOMIS records with a lower sequence than the current one, highest sequence first, as far back as needed.
    written: the mapping of DPS's current review, or None if there is none. reviews_of: the id of the review from which
    a NOMIS record was made, by the sequence of the record; None means that the mapping was looked up and does not
    exist. message: the message about DPS's current review.
    """

    pair: PrisonerLevels
    history: tuple[IepRecord, ...] = ()
    written: ReviewMapping | None = None
    reviews_of: Mapping[int, int | None] = field(default_factory=dict)
    message: ReviewMessage = ReviewMessage()

    @property
    def reviews(self) -> tuple[Review, ...]:
        """The DPS reviews, newest first."""
        return self.pair.dps.iep_details if self.pair.dps else ()

    @property
    def records(self) -> tuple[IepRecord, ...]:
        """The NOMIS records, the current one first."""
        return (self.pair.nomis, *self.history) if self.pair.nomis else ()


def read_levels(services: Services, booking_id: int, offender_no: str) -> PrisonerLevels:
    """Reads both sides of a booking in parallel, with calls for that booking alone.

    Raises `SyncError` if a side cannot be read or has an invalid code.
    """
    with TracedThreads(1, thread_name_prefix="dps") as executor:
        dps = executor.submit(incentives_api.booking_summary, services[UpstreamName.INCENTIVES], booking_id)
        nomis = nomis_incentives.current_iep(services.nomis, booking_id)
    pair = PrisonerLevels(offender_no, booking_id, nomis, dps.result())
    if pair.nomis is not None:
        response = f"nomis: GET /incentives/booking-id/{booking_id}/current"
        level_code(pair.nomis_level, response)
        prison_code(pair.nomis.prison_id, response)
    if pair.dps is not None:
        response = f"incentives: GET /iep/reviews/booking/{booking_id}"
        level_code(pair.dps_level, response)
        prison_code(pair.newest_review.agency_id if pair.newest_review else None, response)
    return pair


def collect_evidence(
    services: Services, pair: PrisonerLevels, message: ReviewMessage, near: timedelta, *, whole: bool = False
) -> Evidence:
    """Reads what the decision table needs: mappings, and the NOMIS history back to a time before both current records.

    At most `DEEPEST_HISTORY` sequences are read. With `whole`, the history is read as far as this limit allows, with
    the mappings of its records. Mappings are read at the same time as the history. Raises `SyncError` if a service
    cannot be read.
    """
    review = pair.newest_review
    reviews_of: dict[int, Future[int | None]] = {}
    with TracedThreads(2, thread_name_prefix="mappings") as executor:

        def look_up(record: IepRecord) -> None:
            # Only records that came through the API can have been made from a DPS review.
            if record.audit_module == BY_API:
                sequence = record.incentive_sequence
                reviews_of[sequence] = executor.submit(_review_of, services, pair.booking_id, sequence)

        written = executor.submit(_written, services, review.id) if review else None
        history: list[IepRecord] = []
        if pair.nomis:
            look_up(pair.nomis)
            for record in _history(services, pair, near, whole=whole):
                history.append(record)
                if whole:
                    look_up(record)
    return Evidence(
        pair,
        tuple(history),
        written.result() if written else None,
        {sequence: found.result() for sequence, found in reviews_of.items()},
        message,
    )


def near_each_other(one: datetime, other: datetime, near: timedelta) -> bool:
    """Whether two times are on the same day or at most `near` apart, so that their records count as one event."""
    return one.date() == other.date() or abs(one - other) <= near


def _history(services: Services, pair: PrisonerLevels, near: timedelta, *, whole: bool) -> Iterator[IepRecord]:
    assert pair.nomis is not None
    review = pair.newest_review
    until = min([pair.nomis.iep_date_time, *([review.iep_time] if review else [])]) - near
    current = pair.nomis.incentive_sequence
    # The current record is the latest by date and may not have the highest sequence; records with a higher sequence are
    # not current.
    for sequence in range(current - 1, max(0, current - 1 - DEEPEST_HISTORY), -1):
        record = nomis_incentives.iep_record(services.nomis, pair.booking_id, sequence)
        if record is None:
            continue
        yield record
        if not whole and record.iep_date_time < until:
            return


def _written(services: Services, review_id: int) -> ReviewMapping | None:
    found = INCENTIVE_MAPPINGS.find(services.mapping, review_id)
    if found is None:
        return None
    return ReviewMapping(int(found["nomisBookingId"]), int(found["nomisIncentiveSequence"]))


def _review_of(services: Services, booking_id: int, sequence: int) -> int | None:
    found = INCENTIVE_MAPPINGS.find_by_nomis_ids(services.mapping, booking_id, sequence)
    return None if found is None else int(found["incentiveId"])


#: The kinds of review that DPS makes for a movement.
_OF_MOVEMENTS = frozenset({"TRANSFER", "INITIAL", "READMISSION"})


@dataclass(frozen=True, slots=True)
class Case:
    """One difference. `near` is how far apart in time two records of the same event may be."""

    evidence: Evidence
    near: timedelta

    @property
    def nomis(self) -> IepRecord | None:
        """The current NOMIS record."""
        return self.evidence.pair.nomis

    @property
    def review(self) -> Review | None:
        """The current DPS review."""
        return self.evidence.pair.newest_review

    def near_review(self, record: IepRecord, *, of_movement: bool = False) -> Review | None:
        """Of the DPS reviews at the prison of `record`, the one nearest to the record in time; None if none is near.

        of_movement: whether only reviews that DPS makes for a movement are considered.
        """
        fitting = [
            each
            for each in self.evidence.reviews
            if each.agency_id == record.prison_id
            and near_each_other(each.iep_time, record.iep_date_time, self.near)
            and (not of_movement or each.review_type in _OF_MOVEMENTS)
        ]
        return min(fitting, key=lambda each: abs(each.iep_time - record.iep_date_time), default=None)

    def review_behind(self, record: IepRecord) -> Review | None:
        """The review from which a record was written, or None if there is no such review.

        If the record has no mapping, the review with the same time and prison is used.
        """
        review_id = self.evidence.reviews_of.get(record.incentive_sequence)
        for each in self.evidence.reviews:
            if each.id == review_id:
                return each
            same_time = each.iep_time.replace(microsecond=0) == record.iep_date_time.replace(microsecond=0)
            if review_id is None and same_time and each.agency_id == record.prison_id:
                return each
        return None

    def record_of(self, review: Review) -> IepRecord | None:
        """The NOMIS record that was written from a review, or None if there is none.

        The record of the current review is found by the mapping, if there is one. Otherwise, the record is found by the
        time of the review.
        """
        written = self.evidence.written
        current = self.review
        if current is not None and review.id == current.id and written is not None:
            if written.booking_id != self.evidence.pair.booking_id:
                return None
            return next((each for each in self.evidence.records if each.incentive_sequence == written.sequence), None)
        moment = review.iep_time.replace(microsecond=0)
        fitting = (
            each
            for each in self.evidence.records
            if each.audit_module == BY_API and each.iep_date_time.replace(microsecond=0) == moment
        )
        return next(fitting, None)

    def admission_reason(self, nomis: IepRecord) -> str:
        """The reason for an admission: `READMISSION` if either side has an earlier record, otherwise `NEW_ADMISSION`.

        Records near `nomis` do not count as earlier.
        """
        moments = [each.iep_date_time for each in self.evidence.history]
        moments += [each.iep_time for each in self.evidence.reviews]
        earlier = any(
            each < nomis.iep_date_time and not near_each_other(each, nomis.iep_date_time, self.near) for each in moments
        )
        return "READMISSION" if earlier else "NEW_ADMISSION"
