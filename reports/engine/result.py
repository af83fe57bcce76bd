"""The result of a reconciliation: one frozen object, of which report, CSV, JSON and messages are views."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

Status = Literal["complete", "incomplete", "failed"]
Standing = Literal["new", "persisting"]
Confidence = Literal["high", "medium", "low"]
RightSide = Literal["NOMIS", "DPS", "unknown"]


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", ser_json_inf_nan="null"
    )


class Side(_Part):
    """The current level of one side; `at` is local to London, `origin` the audit module or the kind of review."""

    level: str
    at: datetime | None = None
    prison_id: str | None = None
    origin: str | None = None
    user_id: str | None = None
    #: The sequence of the IEP record in NOMIS, or the id of the review in DPS.
    record: int


class EvidenceRow(_Part):
    """One record of either history, as the report shows it, with remarks in `note`."""

    side: Literal["NOMIS", "DPS"]
    at: datetime
    level: str
    prison_id: str | None = None
    origin: str | None = None
    user_id: str | None = None
    record: int
    current: bool = False
    note: str = ""


class Arrival(_Part):
    """A received event that DPS missed, to be published again; `occurred_at` is local to London."""

    prison_id: str
    reason: str
    occurred_at: datetime


class Diagnosis(_Part):
    """Why two levels differ, which side is right, and what fixes it.

    number: the row of the decision table, 1 to 10. commands: what to run, in this order. request: the text of a
    request to the NOMIS support team, where only they can fix it. arrival: the received event to publish again, where
    that fixes it.
    """

    number: int
    cause: str
    confidence: Confidence
    right_side: RightSide
    explanation: str
    action: str
    commands: tuple[str, ...] = ()
    request: str | None = None
    arrival: Arrival | None = None


class Mismatch(_Part):
    """A prisoner whose levels differ, confirmed by reading both again."""

    offender_no: str
    booking_id: int
    prison_id: str | None = None
    nomis: Side | None = None
    dps: Side | None = None
    standing: Standing = "new"
    since: datetime
    diagnosis: Diagnosis | None = None
    evidence: tuple[EvidenceRow, ...] = ()
    #: Why the evidence could not be read, where it could not.
    evidence_missing: str | None = None

    @property
    def nomis_level(self) -> str | None:
        """The level in NOMIS, None for none."""
        return self.nomis.level if self.nomis else None

    @property
    def dps_level(self) -> str | None:
        """The level in DPS, None for none."""
        return self.dps.level if self.dps else None


class InFlight(_Part):
    """A difference that is expected to disappear; `why` says by what."""

    offender_no: str
    booking_id: int
    nomis_level: str | None = None
    dps_level: str | None = None
    why: str


class Excluded(_Part):
    """A booking on the list of exclusions: still different, or equal, so that the entry is no longer needed.

    since: the date that the list gives for the entry. unread: why the booking could not be read, where it could not:
    then its entry is kept, and its levels are those that were seen, if any.
    """

    offender_no: str
    booking_id: int
    nomis_level: str | None = None
    dps_level: str | None = None
    reason: str
    still_differs: bool
    since: date | None = None
    unread: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the levels were read, and differ."""
        return self.still_differs and self.unread is None


class Resolved(_Part):
    """An earlier mismatch that no longer differs."""

    offender_no: str
    booking_id: int
    nomis_level: str | None = None
    dps_level: str | None = None
    since: datetime
    how: Literal["equal", "released"]


class Unread(_Part):
    """A prisoner whose levels could not be read; `network`: no response came at all.

    page, row: where on the list of active prisoners (pages from 0, rows from 1) the prisoner stands, where that row
    cannot be used; the number or the booking that it lacks is `unknown` or None.
    """

    offender_no: str
    booking_id: int | None
    reason: str
    network: bool = False
    page: int | None = None
    row: int | None = None

    @property
    def listed(self) -> bool:
        """Whether the prisoner is on the list of active prisoners, and not just unknown."""
        return self.booking_id is not None or self.page is not None


class Unconfirmed(_Part):
    """A difference of the first reading that could not be read again: seen, not confirmed.

    standing and since: as for a mismatch. The prisoner is among the unread too, with the same reason.
    """

    offender_no: str
    booking_id: int
    nomis_level: str | None = None
    dps_level: str | None = None
    standing: Standing = "new"
    since: datetime
    reason: str


class UnreadPage(_Part):
    """A page of the list that could not be read; its prisoners were not checked."""

    page: int
    reason: str


class PrisonCount(_Part):
    """One prison: prisoners compared, mismatches, and how many of those are new."""

    prison_id: str | None
    compared: int
    mismatches: int
    new: int


class MatrixCell(_Part):
    """How many prisoners have this pair of levels; None for no level."""

    nomis_level: str | None
    dps_level: str | None
    count: int


class TrendPoint(_Part):
    """An earlier run over everyone, or this one; `unread` are the prisoners that it could not read."""

    run_id: str
    started_at: datetime
    compared: int
    mismatches: int
    unread: int = 0


class ReconciliationResult(_Part):
    """Everything a run found. Frozen; `to_json` and `from_json` are inverse to each other.

    listed: active bookings found. total: how many the service said there are. compared: prisoners whose levels are
    known on both sides. released: differences dropped because the booking left the list during the run.
    empty_prisons: requested prisons without active prisoners. unconfirmed: differences that were seen and could not be
    read again.
    """

    run_id: str
    status: Status
    environment: str
    started_at: datetime
    finished_at: datetime
    parameters: dict[str, object] = {}
    failure: str | None = None
    total: int
    listed: int
    compared: int
    settled_on_recheck: int = 0
    released: tuple[str, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    in_flight: tuple[InFlight, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    unneeded_exclusions: tuple[str, ...] = ()
    resolved: tuple[Resolved, ...] = ()
    unread: tuple[Unread, ...] = ()
    unread_pages: tuple[UnreadPage, ...] = ()
    unconfirmed: tuple[Unconfirmed, ...] = ()
    empty_prisons: tuple[str, ...] = ()
    prisons: tuple[PrisonCount, ...] = ()
    matrix: tuple[MatrixCell, ...] = ()
    trend: tuple[TrendPoint, ...] = ()
    compared_with: str | None = None

    @property
    def rows(self) -> tuple[tuple[int, Mismatch], ...]:
        """The mismatches as every view lists them, numbered from 1: new ones first, then by prison and prisoner."""
        ordered = sorted(
            self.mismatches, key=lambda each: (each.standing != "new", each.prison_id or "~", each.offender_no)
        )
        return tuple(enumerate(ordered, start=1))

    @property
    def new(self) -> int:
        """Mismatches that the last complete run did not have."""
        return sum(each.standing == "new" for each in self.mismatches)

    @property
    def persisting(self) -> int:
        """Mismatches that the last complete run had already."""
        return len(self.mismatches) - self.new

    def counts(self) -> dict[str, int]:
        """The figures of the run, by plain names, for the ledger and for summaries."""
        return {
            "prisoners": self.total,
            "compared": self.compared,
            "mismatches": len(self.mismatches),
            "new": self.new,
            "persisting": self.persisting,
            "resolved": len(self.resolved),
            "in_flight": len(self.in_flight),
            "excluded": sum(each.still_differs for each in self.excluded),
            "released": len(self.released),
            "unconfirmed": len(self.unconfirmed),
            "unread_prisoners": len(self.unread),
            "unread_pages": len(self.unread_pages),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """The whole result as JSON, with camelCase names."""
        return self.model_dump_json(by_alias=True, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """A result from its JSON; raises `pydantic.ValidationError`."""
        return cls.model_validate_json(text)
