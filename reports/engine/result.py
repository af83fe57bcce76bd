"""The result of a reconciliation: one frozen object, of which report, CSV, JSON and messages are views.

What a reconciliation knows beyond this is in a subclass, as for incentive levels.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

RunStatus = Literal["complete", "incomplete", "failed"]
Standing = Literal["new", "persisting"]
Confidence = Literal["high", "medium", "low"]
RightSide = Literal["NOMIS", "DPS", "unknown"]
#: Who puts a difference right; `nobody`: nothing is to be done.
Who = Literal["this team", "NOMIS support", "the prison", "the DPS team", "nobody"]
#: A compared value as it is shown; moments and dates are texts in ISO 8601, local to London.
Value = bool | int | str | None


class Part(BaseModel):
    """A part of a result: frozen, snake_case inside, camelCase in JSON."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", ser_json_inf_nan="null"
    )


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


#: The name of a column that identifies records, such as `booking_id`.
ColumnName = Annotated[str, BeforeValidator(_snake), PlainSerializer(_camel)]
#: The identifying columns of a record, in their order.
Key = dict[ColumnName, str | int]


class FieldName(Part):
    """A field that is compared or shown, and what reports call it."""

    name: str
    label: str


class KindName(Part):
    """A kind of difference, and what it says of a record, after "is" or "are": `not in NOMIS`."""

    code: str
    label: str


class FieldValues(Part):
    """Both values of a field; None for none, or for a side without the record."""

    field: str
    nomis: Value = None
    dps: Value = None


class Record(Part):
    """A record that differs or did: what identifies it, whose it is, and how the sides differ.

    kind: a code of the reconciliation, empty where nothing differs. missing_in: the side without the record, None where
    both have it. differences: the fields that differ. other_fields: those that are equal, or shown but not compared.
    """

    key: Key = {}
    offender_no: str | None = None
    booking_id: int | None = None
    prison_id: str | None = None
    kind: str = ""
    missing_in: Literal["NOMIS", "DPS"] | None = None
    differences: tuple[FieldValues, ...] = ()
    other_fields: tuple[FieldValues, ...] = ()

    @property
    def by_field(self) -> dict[str, FieldValues]:
        """The values of every field, different or not, by its name; those that differ first."""
        return {each.field: each for each in (*self.differences, *self.other_fields)}


class EvidenceRow(Part):
    """Something that was read about a difference, as the report shows it.

    side: where it was found: NOMIS, DPS, the mapping service, a queue. at: when it happened, local to London.
    """

    side: str
    at: datetime | None = None
    text: str = ""
    note: str = ""


class Diagnosis(Part):
    """Why a record differs, which side is right, and what fixes it.

    cause: in words that are the same for every difference of that cause. who: who puts it right, None in results of
    versions that did not say. commands: what to run, in this order. request:
    the text of a request to the NOMIS support team, where only they can fix it; nomis_ids: the NOMIS records that it is
    about; lookup: the SQL that finds those records in NOMIS, where nothing here knows them.
    """

    cause: str
    confidence: Confidence
    right_side: RightSide
    who: Who | None = None
    explanation: str = ""
    action: str
    commands: tuple[str, ...] = ()
    request: str | None = None
    nomis_ids: tuple[int, ...] = ()
    lookup: str | None = None

    @property
    def known_as(self) -> str:
        """What the history calls the cause."""
        return self.cause


class Mismatch(Record):
    """A record that differs, confirmed by reading both sides again."""

    standing: Standing = "new"
    since: datetime
    diagnosis: Diagnosis | None = None
    evidence: tuple[EvidenceRow, ...] = ()
    #: Why the evidence could not be read, where it could not.
    evidence_missing: str | None = None

    @property
    def finding(self) -> tuple[object, ...]:
        """What differs of which record: an equal one is not reported again."""
        return (str(self.key), self.kind, self.differences)


class InFlight(Record):
    """A difference that is expected to disappear; `why` says by what."""

    why: str


class Excluded(Record):
    """A record on the list of exclusions: still different, or equal, so that the entry is no longer needed.

    since: the date that the list gives for the entry. unread: why the record could not be read, where it could not:
    then its entry is kept, and its differences are those that were seen, if any.
    """

    reason: str
    still_differs: bool
    since: date | None = None
    unread: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the record was read, and differs."""
        return self.still_differs and self.unread is None


class Resolved(Record):
    """An earlier mismatch that no longer differs; `gone` or `released`: no longer among the records compared."""

    since: datetime
    how: Literal["equal", "gone", "released"]


class Unread(Part):
    """A record of which one side could not be read; `network`: no response came at all.

    unit: what was to be read as a whole, such as a prison, where its records are not known; `key` is empty then.
    """

    key: Key = {}
    offender_no: str | None = None
    booking_id: int | None = None
    prison_id: str | None = None
    side: str | None = None
    unit: str | None = None
    reason: str
    network: bool = False

    @property
    def listed(self) -> bool:
        """Whether a resumed run can read it: it is among the records to compare, and not just asked for."""
        return bool(self.key) or self.unit is not None


class Unconfirmed(Record):
    """A difference of the first reading that could not be read again: seen, not confirmed.

    standing and since: as for a mismatch. The record is among the unread too, with the same reason.
    """

    standing: Standing = "new"
    since: datetime
    reason: str


class Gap(Part):
    """A part of the population that could not be listed; its records were not compared."""

    what: str
    reason: str


class PrisonCount(Part):
    """One prison: records compared, mismatches, and how many of those are new."""

    prison_id: str | None
    compared: int
    mismatches: int
    new: int


class TrendPoint(Part):
    """An earlier run over everyone, or this one.

    unread: the records that it could not read. new, resolved: None in results of versions that did not count them.
    """

    run_id: str
    started_at: datetime
    compared: int
    mismatches: int
    unread: int = 0
    new: int | None = None
    resolved: int | None = None

    @property
    def persisting(self) -> int | None:
        """Mismatches that were known before; None where that was not counted."""
        return None if self.new is None else self.mismatches - self.new


class ReconciliationResult(Part):
    """Everything a run found. Frozen; `to_json` and `model_validate_json` are inverse to each other.

    reconciliation: its name. counted: what is counted as compared, in the plural. key_columns, fields, kinds: what
    identifies a record, what is compared, how records differ. total: how many records the services say there are, None
    if unknown. listed: records found. compared: records of which both sides are known; in_nomis, in_dps: how many of
    those each side has. released: records that differed and were no longer among those to compare when read again.
    empty_prisons: requested prisons without records. implausible: the run failed since what it read cannot be right,
    unless somebody accepts it. unconfirmed: differences that were seen and could not be read again. suspicious: why
    there are more differences than is plausible, None if there are not.
    """

    reconciliation: str
    title: str
    counted: str
    key_columns: tuple[ColumnName, ...]
    fields: tuple[FieldName, ...] = ()
    kinds: tuple[KindName, ...] = ()
    run_id: str
    status: RunStatus
    environment: str
    started_at: datetime
    finished_at: datetime
    parameters: dict[str, object] = {}
    failure: str | None = None
    implausible: bool = False
    suspicious: str | None = None
    total: int | None
    listed: int
    compared: int
    in_nomis: int | None = None
    in_dps: int | None = None
    settled_on_recheck: int = 0
    released: tuple[str, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    in_flight: tuple[InFlight, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    unneeded_exclusions: tuple[str, ...] = ()
    resolved: tuple[Resolved, ...] = ()
    unread: tuple[Unread, ...] = ()
    gaps: tuple[Gap, ...] = ()
    unconfirmed: tuple[Unconfirmed, ...] = ()
    empty_prisons: tuple[str, ...] = ()
    prisons: tuple[PrisonCount, ...] = ()
    trend: tuple[TrendPoint, ...] = ()
    compared_with: str | None = None

    @property
    def rows(self) -> tuple[tuple[int, Mismatch], ...]:
        """The mismatches as every view lists them, numbered from 1: new first, then by prison, prisoner and key."""
        return tuple(enumerate(sorted(self.mismatches, key=_place), start=1))

    @property
    def new(self) -> int:
        """Mismatches that the last complete run did not have."""
        return sum(each.standing == "new" for each in self.mismatches)

    @property
    def persisting(self) -> int:
        """Mismatches that the last complete run had already."""
        return len(self.mismatches) - self.new

    @property
    def everything(self) -> int:
        """How many records there are: as the services count them, or as were found where they count one side alone."""
        found = self.compared + sum(bool(each.key) for each in self.unread)
        return max(self.listed if self.total is None else self.total, found)

    def counts(self) -> dict[str, int]:
        """The figures of the run, by plain names, for the ledger and for summaries."""
        return {
            self.counted: self.everything,
            "compared": self.compared,
            "mismatches": len(self.mismatches),
            "new": self.new,
            "persisting": self.persisting,
            "resolved": len(self.resolved),
            "in_flight": len(self.in_flight),
            "excluded": sum(each.still_differs for each in self.excluded),
            "released": len(self.released),
            "unconfirmed": len(self.unconfirmed),
            f"unread_{self.counted}": len(self.unread),
            "gaps": len(self.gaps),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """The whole result as JSON, with camelCase names."""
        return self.model_dump_json(by_alias=True, indent=indent)


def _place(mismatch: Mismatch) -> tuple[object, ...]:
    # Numbers in the key sort as numbers; a column holds either numbers or texts.
    return (
        mismatch.standing != "new",
        mismatch.prison_id or "~",
        mismatch.offender_no or "~",
        [(str(type(value)), value) for value in mismatch.key.values()],
    )
