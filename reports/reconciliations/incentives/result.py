"""What the incentive reconciliation adds to the general result: both sides' levels and records, and the matrix."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import model_validator

from reports.engine.result import (
    ColumnName,
    Diagnosis,
    EvidenceRow,
    Excluded,
    FieldName,
    Gap,
    InFlight,
    KindName,
    Mismatch,
    Part,
    ReconciliationResult,
    Resolved,
    Unconfirmed,
    Unread,
)

NAME = "incentives"
TITLE = "Incentive levels"
COUNTED = "prisoners"
LEVEL = FieldName(name="level", label="Level")
KINDS = (
    KindName(code="NOMIS_only", label="without a level in DPS"),
    KindName(code="DPS_only", label="without a level in NOMIS"),
    KindName(code="different", label="on different levels"),
)


class Side(Part):
    """The current level on one side.

    `at` is in London time; `origin` is the audit module in NOMIS, or the kind of review in DPS.
    """

    level: str
    at: datetime | None = None
    prison_id: str | None = None
    origin: str | None = None
    user_id: str | None = None
    #: The sequence of the IEP record in NOMIS, or the id of the review in DPS.
    record: int


class IncentiveEvidenceRow(EvidenceRow):
    """One record from the NOMIS or the DPS history, with remarks in `note`."""

    side: Literal["NOMIS", "DPS"]
    at: datetime
    level: str
    prison_id: str | None = None
    origin: str | None = None
    user_id: str | None = None
    record: int
    current: bool = False


class Arrival(Part):
    """A received event that DPS missed, to be published again; `occurred_at` is in London time."""

    prison_id: str
    reason: str
    occurred_at: datetime


class IncentiveDiagnosis(Diagnosis):
    """Why a prisoner's levels differ.

    number: the row of the decision table, 1 to 10. arrival: the received event to publish again, or None if that would
    not fix the difference.
    """

    number: int
    arrival: Arrival | None = None

    @property
    def known_as(self) -> str:
        """The number of the row in the decision table, as text."""
        return str(self.number)


class IncentiveMismatch(Mismatch):
    """A prisoner whose levels differ."""

    offender_no: str
    booking_id: int
    nomis: Side | None = None
    dps: Side | None = None
    diagnosis: IncentiveDiagnosis | None = None
    evidence: tuple[IncentiveEvidenceRow, ...] = ()

    @property
    def nomis_level(self) -> str | None:
        """The level in NOMIS, or None if there is none."""
        return self.nomis.level if self.nomis else None

    @property
    def dps_level(self) -> str | None:
        """The level in DPS, or None if there is none."""
        return self.dps.level if self.dps else None

    @model_validator(mode="before")
    @classmethod
    def _with_general_fields(cls, values: Any) -> Any:
        return _general(values, *(_level_of(values.get(side)) for side in ("nomis", "dps")))


class _Levels(Part):
    """The levels of both sides, with None for no level."""

    offender_no: str
    booking_id: int
    nomis_level: str | None = None
    dps_level: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_general_fields(cls, values: Any) -> Any:
        return _general(values, _value(values, "nomis_level", "nomisLevel"), _value(values, "dps_level", "dpsLevel"))


class IncentiveInFlight(_Levels, InFlight):
    """A difference in levels that is expected to disappear."""


class IncentiveExcluded(_Levels, Excluded):
    """A booking on the list of exclusions."""


class IncentiveResolved(_Levels, Resolved):
    """A prisoner whose levels no longer differ."""


class IncentiveUnconfirmed(_Levels, Unconfirmed):
    """A difference in levels that is not confirmed: the levels could not be read again."""


class IncentiveUnread(Unread):
    """A prisoner whose levels could not be read.

    page, row: the place of an unusable row on the list of active prisoners; None if the list has no unusable row for
    the prisoner. Pages are counted from 0, and rows from 1. A missing prisoner number is `unknown`, and a missing
    booking is None.
    """

    offender_no: str
    page: int | None = None
    row: int | None = None

    @property
    def listed(self) -> bool:
        """Whether the prisoner is on the list of active prisoners: if so, a resumed run can read the levels."""
        return self.booking_id is not None or self.page is not None

    @model_validator(mode="before")
    @classmethod
    def _with_key(cls, values: Any) -> Any:
        booking_id = _value(values, "booking_id", "bookingId")
        return values if booking_id is None else {"key": {"booking_id": booking_id}, **values}


class UnreadPage(Part):
    """A page of the list of active prisoners that could not be read; the prisoners on it were not checked."""

    page: int
    reason: str


class MatrixCell(Part):
    """How many prisoners have this pair of levels, with None for no level."""

    nomis_level: str | None
    dps_level: str | None
    count: int


class IncentiveResult(ReconciliationResult):
    """Everything that a run found. The defaults are for results saved when this was the only reconciliation."""

    reconciliation: str = NAME
    title: str = TITLE
    counted: str = COUNTED
    key_columns: tuple[ColumnName, ...] = ("booking_id",)
    fields: tuple[FieldName, ...] = (LEVEL,)
    kinds: tuple[KindName, ...] = KINDS
    total: int
    mismatches: tuple[IncentiveMismatch, ...] = ()
    in_flight: tuple[IncentiveInFlight, ...] = ()
    excluded: tuple[IncentiveExcluded, ...] = ()
    resolved: tuple[IncentiveResolved, ...] = ()
    unread: tuple[IncentiveUnread, ...] = ()
    unread_pages: tuple[UnreadPage, ...] = ()
    unconfirmed: tuple[IncentiveUnconfirmed, ...] = ()
    matrix: tuple[MatrixCell, ...] = ()

    @property
    def rows(self) -> tuple[tuple[int, IncentiveMismatch], ...]:
        """The mismatches as every view lists them, numbered from 1: new ones first, then by prison and prisoner."""
        return tuple((number, each) for number, each in super().rows if isinstance(each, IncentiveMismatch))

    def counts(self) -> dict[str, int]:
        """The figures of the run, with `unread_pages` instead of `gaps`: the missing parts of the list are pages."""
        counts = super().counts()
        return {("unread_pages" if name == "gaps" else name): count for name, count in counts.items()}

    @model_validator(mode="before")
    @classmethod
    def _with_gaps(cls, values: Any) -> Any:
        pages = _value(values, "unread_pages", "unreadPages") or ()
        if "gaps" in values or not pages:
            return values
        read = (page if isinstance(page, UnreadPage) else UnreadPage.model_validate(page) for page in pages)
        return {**values, "gaps": [Gap(what=f"page {each.page} of the prisoners", reason=each.reason) for each in read]}


def _general(values: Mapping[str, Any], nomis: str | None, dps: str | None) -> Mapping[str, Any]:
    """The values of a record, with those general fields added that follow from its levels and that `values` lacks."""
    differs = nomis != dps
    found = {
        "key": {"booking_id": _value(values, "booking_id", "bookingId")},
        "kind": _kind(nomis, dps) if differs else "",
        "missing_in": None if not differs else "NOMIS" if nomis is None else "DPS" if dps is None else None,
        "differences": [{"field": LEVEL.name, "nomis": nomis, "dps": dps}] if differs else [],
    }
    return {**found, **values}


def _kind(nomis: str | None, dps: str | None) -> str:
    if nomis is None:
        return "DPS_only"
    return "NOMIS_only" if dps is None else "different"


def _level_of(side: Side | Mapping[str, Any] | None) -> str | None:
    if side is None:
        return None
    return side.level if isinstance(side, Side) else side.get("level")


def _value(values: Mapping[str, Any], name: str, alias: str) -> Any:
    return values.get(name, values.get(alias))
