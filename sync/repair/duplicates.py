"""Duplicates: which two pairs of records disagree, and which of them is surplus.

A finding holds the pair that the mapping service has (`existing…`) and the pair it refused (`duplicate…`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sync.store.findings import Finding


class Verdict(StrEnum):
    """What the ids of the two pairs say."""

    #: One DPS record, two NOMIS records: the refused one is surplus.
    SURPLUS = "surplus"
    #: Two DPS records claim one NOMIS record: nothing may be deleted, a person investigates.
    TWO_CLAIMS = "two claims"
    #: Both ids are equal: no duplicate at all.
    SAME = "no duplicate"
    #: Both ids differ: what was refused has nothing to do with what exists.
    UNRELATED = "unrelated"
    #: The mapping service does not know any mapping of the record.
    NOT_MAPPED = "not mapped"


@dataclass(frozen=True, slots=True)
class PairFields:
    """The fields of a mapping that name the DPS record and the NOMIS record."""

    dps: str
    nomis: tuple[str, ...]


#: By the domain of the finding, which is the name of its creation.
PAIR_FIELDS: Mapping[str, PairFields] = {
    "visit": PairFields("vsipId", ("nomisId",)),
    "incentive": PairFields("incentiveId", ("nomisBookingId", "nomisIncentiveSequence")),
    "activity": PairFields("activityScheduleId", ("nomisCourseActivityId",)),
    "appointment": PairFields("appointmentInstanceId", ("nomisEventId",)),
    "sentencing-adjustment": PairFields("adjustmentId", ("nomisAdjustmentId", "nomisAdjustmentCategory")),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A DPS record and the NOMIS record it belongs to, all ids as text."""

    dps_id: str
    nomis_ids: tuple[str, ...]

    @property
    def nomis_text(self) -> str:
        """The NOMIS ids as one text, such as `8811002` or `33012 SENTENCE`."""
        return " ".join(self.nomis_ids)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The pair that was refused, and the one that exists (None where the finding does not say)."""

    domain: str
    duplicate: Pair
    existing: Pair | None

    @property
    def verdict(self) -> Verdict:
        """What the ids say."""
        if self.existing is None:
            return Verdict.NOT_MAPPED
        same_dps = self.duplicate.dps_id == self.existing.dps_id
        same_nomis = self.duplicate.nomis_ids == self.existing.nomis_ids
        if same_dps:
            return Verdict.SAME if same_nomis else Verdict.SURPLUS
        return Verdict.TWO_CLAIMS if same_nomis else Verdict.UNRELATED


def read_duplicate(finding: Finding) -> Duplicate:
    """The two pairs of a finding of kind `duplicate`. Raises `ValueError` when it does not name the refused one."""
    duplicate = _pair(finding, "duplicate")
    if duplicate is None:
        raise ValueError(f"finding {finding.id} does not say which {finding.domain} was refused")
    return Duplicate(finding.domain, duplicate, _pair(finding, "existing"))


def pair_of_mapping(domain: str, mapping: Mapping[str, object]) -> Pair:
    """The pair of a mapping as the mapping service gives it."""
    fields = PAIR_FIELDS[domain]
    return Pair(str(mapping[fields.dps]), tuple(str(mapping[name]) for name in fields.nomis))


def _pair(finding: Finding, prefix: str) -> Pair | None:
    fields = PAIR_FIELDS[finding.domain]
    values = {
        name: finding.properties.get(prefix + name[:1].upper() + name[1:]) for name in (fields.dps, *fields.nomis)
    }
    if any(value in (None, "null") for value in values.values()):
        return None
    return pair_of_mapping(finding.domain, values)
