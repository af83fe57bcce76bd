"""What a run covers, the units that it reads, the reading of each unit, and the key of a record as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    import pandas as pd

SideName = Literal["NOMIS", "DPS", "mapping"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a run covers.

    prisons: prison codes; offender_nos: prisoner numbers; both are empty if the run covers all prisoners. from_date,
    to_date: the first and the last day (London), or None for a reconciliation without days. days_chosen: whether an
    operator chose the days; if not, they are the days of the reconciliation's window on the day that the run began,
    even if the run is resumed later.
    """

    prisons: tuple[str, ...] = ()
    offender_nos: tuple[str, ...] = ()
    from_date: date | None = None
    to_date: date | None = None
    days_chosen: bool = False

    def covers(self, key: Mapping[str, Any]) -> bool:
        """Whether a record with these key columns belongs to a day in the scope.

        True if the record has no date, or if the scope has no days.
        """
        day = key.get("date")
        if day is None or self.from_date is None or self.to_date is None:
            return True
        return self.from_date <= date.fromisoformat(day) <= self.to_date


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the population, such as a prison or a page of bookings, that is read and recorded as a whole.

    id: unique in a run, and the same when the run is resumed. content: what the unit consists of, as plain JSON. size:
    how many records it has, for the progress report and for the share of unread records; 1 if unknown.
    """

    id: str
    content: Mapping[str, Any] = field(default_factory=dict)
    size: int = 1


@dataclass(frozen=True, slots=True)
class UnlistedPart:
    """A gap: a part of the population that could not be listed, such as a page or a prison.

    what: the part, in words. reason: why it could not be listed, as a clause. detail: values for events, such as the
    page number, as plain JSON.
    """

    what: str
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnreadRecord:
    """A record, or a whole unit, that could not be read on at least one side.

    It counts as neither equal nor different. key: the key columns as far as they are known; empty for a unit.
    offender_no: the prisoner number, or None if unknown. side: the side that could not be read, or None if neither
    could be read or the side is unknown. reason: why it could not be read, as a clause. network: whether no response
    was received. detail: further fields for the result, as plain JSON.
    """

    key: Mapping[str, Any]
    offender_no: str | None
    side: SideName | None
    reason: str
    network: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Population:
    """The units that a run reads.

    total: how many records (`Reconciliation.counted`) there are according to the services, or None if no service gives
    a number. gaps: the parts that could not be listed. unread: records that are already known to be unreadable, for
    example because their rows are invalid. moving: whether units may be missing because the list changed while it was
    read; if so, `Reconciliation.listed_again` is called.
    """

    units: tuple[Unit, ...]
    total: int | None
    gaps: tuple[UnlistedPart, ...] = ()
    unread: tuple[UnreadRecord, ...] = ()
    moving: bool = False
    #: What the reconciliation needs when the run is resumed or listed again, as plain JSON.
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a unit.

    rows: a frame made by `reports.engine.frame.typed`: the key columns; `prison_id` and `offender_no` (`string`) and
    `booking_id` (`Int64`), NA where unknown; `in_nomis` and `in_dps` (`boolean`), whether the side has the record;
    `nomis_changed_at` and `dps_changed_at` (`datetime64[us, UTC]`), when the side's record was last changed, NaT where
    unknown; `nomis_<field>` and `dps_<field>` for each field, NA if the side does not have the record; and the further
    columns that the reconciliation names in `extra`. unread: records that could not be read. gaps: parts that could not
    be listed.
    """

    rows: pd.DataFrame
    unread: tuple[UnreadRecord, ...] = ()
    gaps: tuple[UnlistedPart, ...] = ()


def key_text(key: Mapping[str, Any]) -> str:
    """The key of a record as text: JSON with camelCase names in column order, without the columns that are None."""
    return orjson.dumps({to_camel(name): value for name, value in key.items() if value is not None}).decode()
