"""The result of a reconciliation: one frozen object. The report, the CSV, the JSON and the messages are views of it.

A reconciliation that reports further values declares subclasses of the parts below, as the incentive reconciliation
does.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

RunStatus = Literal["complete", "incomplete", "failed"]
Standing = Literal["new", "persisting"]
Confidence = Literal["high", "medium", "low"]
RightSide = Literal["NOMIS", "DPS", "unknown"]
#: Who fixes a difference; `nobody` if it needs no action.
Who = Literal["this team", "NOMIS support", "the prison", "the DPS team", "nobody"]
#: A compared value. Dates and times are texts in ISO 8601, in London time.
Value = bool | int | str | None


class Part(BaseModel):
    """A part of a result. It is frozen; the names of its fields are snake_case in Python and camelCase in JSON."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", ser_json_inf_nan="null"
    )


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


#: The name of a key column, such as `booking_id`; `bookingId` in JSON.
ColumnName = Annotated[str, BeforeValidator(_snake), PlainSerializer(_camel)]
#: The key columns of a record with their values, in order.
Key = dict[ColumnName, str | int]


class FieldName(Part):
    """A field that is compared or shown. label: its name in reports."""

    name: str
    label: str


class KindName(Part):
    """A kind of difference. label: what follows "the record is", such as `not in NOMIS`."""

    code: str
    label: str


class FieldValues(Part):
    """The values of a field on both sides; None for a side that has no value, or does not have the record."""

    field: str
    nomis: Value = None
    dps: Value = None


class Record(Part):
    """A record that differs, or differed before: what identifies it, its prisoner and prison, and how the sides differ.

    key: the values of its key columns. prison_id: the code of its prison, or None if unknown. kind: the code of a kind
    of difference, or empty if nothing differs. missing_in: the side without the record, or None if both have it.
    differences: the values of the fields that differ. other_fields: the values of the fields that are equal, or that
    are shown but not compared.
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
        """The values of every field by its name, differing fields first."""
        return {each.field: each for each in (*self.differences, *self.other_fields)}


class EvidenceRow(Part):
    """A piece of evidence about a difference, as the report shows it.

    side: where it was found: `NOMIS`, `DPS`, `mapping` or `queue`. at: the date and time of what was found, naive, in
    London time, or None if unknown. text: what was found. note: a remark on it.
    """

    side: str
    at: datetime | None = None
    text: str = ""
    note: str = ""


#: What to do about the differences of a run with implausible data.
CHECK_DATA_FIRST: Final = "Do not fix anything until the data has been checked."


class Diagnosis(Part):
    """Why a record differs, which side is right, and what fixes it.

    cause: a clause, worded identically for every difference with this cause. right_side: the side that has the correct
    values. who: who fixes the difference, or None in results of earlier versions of the program, which did not record
    this. explanation: the evidence for the cause, as sentences. action: what to do, as a sentence. commands: the
    commands to run, in order. request: the text of a request to the NOMIS support team, if nobody else can fix the
    difference. nomis_ids: the ids of the NOMIS records that the request is about. lookup: the SQL that finds those
    records in NOMIS, if their ids are not known.
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
        """The text that identifies the cause in stored mismatches."""
        return self.cause

    def without_fix(self) -> Self:
        """The diagnosis of a difference in a run with implausible data: the cause stays, and no fix is proposed."""
        no_fix = {"commands": (), "request": None, "nomis_ids": (), "lookup": None}
        return self.model_copy(update={"who": "this team", "action": CHECK_DATA_FIRST, **no_fix})


class Mismatch(Record):
    """A record that still differed when both sides were read again.

    standing: whether the mismatch is new since the last run for everyone, or persisting. since: when it was first
    seen, aware. diagnosis: None if the cause is not known. evidence: in the order in which it is shown.
    """

    standing: Standing = "new"
    since: datetime
    diagnosis: Diagnosis | None = None
    evidence: tuple[EvidenceRow, ...] = ()
    #: Why the evidence could not be read; None if it could.
    evidence_missing: str | None = None

    @property
    def finding(self) -> tuple[object, ...]:
        """The record and how it differs; a resumed run does not report an equal finding again."""
        return (str(self.key), self.kind, self.differences)


class InFlight(Record):
    """A difference that is expected to disappear; `why` gives the reason as a clause."""

    why: str


class Excluded(Record):
    """A record on the list of exclusions. It still differs, or could not be read, or its entry is no longer needed.

    reason: why it is on the list, or a clause saying that its entry is no longer needed. since: the date of the entry.
    unread: why the record could not be read, or None if it could. If it could not, its entry stays on the list, and
    its differences are those of the first reading, if any.
    """

    reason: str
    still_differs: bool
    since: date | None = None
    unread: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the record was read and differs."""
        return self.still_differs and self.unread is None


class Resolved(Record):
    """An earlier mismatch that no longer exists.

    since: when it was first seen, aware. how: `equal` if both sides agree, `gone` or `released` if the record is no
    longer among the records compared.
    """

    since: datetime
    how: Literal["equal", "gone", "released"]


class Unread(Part):
    """A record, or a whole unit, that could not be read on at least one side.

    side: the side that could not be read, or None if neither could be read or the side is unknown. unit: the whole unit
    that could not be read, such as a prison, or None for a single record; `key` is empty for a unit. reason: a clause.
    network: whether no response was received.
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
        """Whether a resumed run can read the record or unit; false if only a requested prisoner number is known."""
        return bool(self.key) or self.unit is not None


class Unconfirmed(Record):
    """A difference that the first reading found, but that is not confirmed: the record could not be read again.

    standing, since: as for a mismatch. reason: why the record could not be read again. The record is also in `unread`.
    """

    standing: Standing = "new"
    since: datetime
    reason: str


class Gap(Part):
    """A part of the population that could not be listed, so its records were not compared; `reason` is a clause."""

    what: str
    reason: str


class PrisonCount(Part):
    """How many records of a prison were compared, how many of them are mismatches, and how many of those are new."""

    prison_id: str | None
    compared: int
    mismatches: int
    new: int


class TrendPoint(Part):
    """The figures of an earlier run for everyone, or of this run.

    started_at: aware. compared, mismatches, unread, new, resolved: numbers of records. `new` and `resolved` are None in
    results of earlier versions of the program, which did not count them.
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
        """How many mismatches earlier runs already had, or None if new mismatches were not counted."""
        return None if self.new is None else self.mismatches - self.new


class ReconciliationResult(Part):
    """Everything that a run found. `to_json` and `model_validate_json` are inverses of each other.

    reconciliation: the name of the reconciliation. counted, counted_singular: what is counted as compared, in the
    plural and in the singular; `counted_singular` is empty in results of earlier versions of the program. key_columns:
    the columns that identify a record. fields: the fields that are compared or shown. kinds: how records can differ.
    started_at, finished_at: aware. failure: why the run failed, as a clause, or None if it did not. implausible:
    whether the run failed because the data that it read is implausible; an operator can accept such data. suspicious:
    why the run has unusually many differences, as a clause, or None if it does not.

    total: how many records there are according to the services, or None if no service gives a total. listed: how many
    records were listed. compared: the number of records whose state on both sides is known. in_nomis, in_dps: how many
    of the compared records each side has. settled_on_recheck: how many records differed, but were equal when they were
    read again. released: the records that differed, but no longer existed when they were read again, as prisoner
    numbers or else as keys. unconfirmed: the differences whose records could not be read again. empty_prisons: the
    requested prisons without records. compared_with: the id of the run with which this run was compared: the last
    earlier run for everyone that did not fail. None if there was no such run.
    """

    reconciliation: str
    title: str
    counted: str
    counted_singular: str = ""
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
        """The number of mismatches that earlier runs did not have."""
        return sum(each.standing == "new" for each in self.mismatches)

    @property
    def persisting(self) -> int:
        """The number of mismatches that earlier runs already had."""
        return len(self.mismatches) - self.new

    @property
    def everything(self) -> int:
        """How many records there are, as the services count them, or else as they were listed.

        This is at least the number of records that were compared or could not be read.
        """
        found = self.compared + sum(bool(each.key) for each in self.unread)
        return max(self.listed if self.total is None else self.total, found)

    def counts(self) -> dict[str, int]:
        """The figures of the run by name, for the record of the job run and for logs."""
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
        """The whole result as JSON with camelCase names, indented by `indent` spaces, or by default on one line."""
        return self.model_dump_json(by_alias=True, indent=indent)


def _place(mismatch: Mismatch) -> tuple[object, ...]:
    # Numbers in the key are sorted as numbers; a column holds either numbers or texts.
    return (
        mismatch.standing != "new",
        mismatch.prison_id or "~",
        mismatch.offender_no or "~",
        [(str(type(value)), value) for value in mismatch.key.values()],
    )
