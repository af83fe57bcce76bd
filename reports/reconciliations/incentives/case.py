"""What the rules of the decision table ask about one difference: which records and reviews belong together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from reports.reconciliations.incentives.evidence import BY_API, near_each_other

if TYPE_CHECKING:
    from reports.reconciliations.incentives.evidence import Evidence
    from sync.domains.incentives.dps import Review
    from sync.domains.incentives.nomis import IepRecord

#: Kinds of review that DPS makes of a movement.
_OF_MOVEMENTS = frozenset({"TRANSFER", "INITIAL", "READMISSION"})


@dataclass(frozen=True, slots=True)
class Case:
    """One difference. `near` is how far apart two records of one event may lie."""

    evidence: Evidence
    near: timedelta

    @property
    def nomis(self) -> IepRecord | None:
        """The current record of NOMIS."""
        return self.evidence.pair.nomis

    @property
    def review(self) -> Review | None:
        """The current review of DPS."""
        return self.evidence.pair.newest_review

    def near_review(self, record: IepRecord, *, of_movement: bool = False) -> Review | None:
        """The review of DPS that belongs to a NOMIS record: at the same prison and near in time."""
        fitting = [
            each
            for each in self.evidence.reviews
            if each.agency_id == record.prison_id
            and near_each_other(each.iep_time, record.iep_date_time, self.near)
            and (not of_movement or each.review_type in _OF_MOVEMENTS)
        ]
        return min(fitting, key=lambda each: abs(each.iep_time - record.iep_date_time), default=None)

    def review_behind(self, record: IepRecord) -> Review | None:
        """The review a record was written from, by its mapping, or by its time where it has none."""
        review_id = self.evidence.reviews_of.get(record.incentive_sequence)
        for each in self.evidence.reviews:
            if each.id == review_id:
                return each
            same_time = each.iep_time.replace(microsecond=0) == record.iep_date_time.replace(microsecond=0)
            if review_id is None and same_time and each.agency_id == record.prison_id:
                return each
        return None

    def record_of(self, review: Review) -> IepRecord | None:
        """The NOMIS record that a review was written as, by its mapping or by level and time."""
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
        """The reason of an admission: a booking with an earlier life on either side was opened again."""
        moments = [each.iep_date_time for each in self.evidence.history]
        moments += [each.iep_time for each in self.evidence.reviews]
        earlier = any(
            each < nomis.iep_date_time and not near_each_other(each, nomis.iep_date_time, self.near) for each in moments
        )
        return "READMISSION" if earlier else "NEW_ADMISSION"
