"""What a run covers, the units that it reads, and what reading one gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import date

    import pandas as pd

SideName = Literal["NOMIS", "DPS", "mapping"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a run covers. Empty prisons and prisoners: everyone.

    from_date, to_date: both inclusive, London days. days_chosen: whether somebody chose them; otherwise they are those
    of the window when the run began, which may have been yesterday.
    """

    prisons: tuple[str, ...] = ()
    offender_nos: tuple[str, ...] = ()
    from_date: date | None = None
    to_date: date | None = None
    days_chosen: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """What is read as a whole, and is a checkpoint when it is read: a prison, a page of bookings.

    id: unique in a run and the same when the run is resumed. content: plain JSON, kept with the run. size: how many
    records it has, for the progress and for the share that could not be read; 1 where that is not known.
    """

    id: str
    content: Mapping[str, Any] = field(default_factory=dict)
    size: int = 1


@dataclass(frozen=True, slots=True)
class UnlistedPart:
    """A part of the population that could not be listed: a page, a prison, a range of bookings.

    detail: the same as plain JSON, for events, such as the number of the page.
    """

    what: str
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnreadRecord:
    """A record, or a whole unit (`key` empty), of which one side could not be read: it is neither equal nor different.

    key: the identifying columns as far as they are known. side: None where it is not known, or both. network: no
    response came at all. detail: what else reports say of it, as plain JSON.
    """

    key: Mapping[str, Any]
    offender_no: str | None
    side: SideName | None
    reason: str
    network: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Population:
    """What a run reads.

    total: how many the services say there are, in the things that `Reconciliation.counted` names; None where no
    service says. gaps: what could not be listed. unread: what is known not to be readable, such as an invalid row.
    moving: whether units may be missing because the list changed while it was read, so that `listed_again` is called.
    """

    units: tuple[Unit, ...]
    total: int | None
    gaps: tuple[UnlistedPart, ...] = ()
    unread: tuple[UnreadRecord, ...] = ()
    moving: bool = False
    #: What else the reconciliation wants to know of it when it is resumed or listed again, as plain JSON.
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a unit gave.

    rows: a frame of `reports.engine.frame.typed`: the key columns; `prison_id` and `offender_no` (`string`) and
    `booking_id` (`Int64`), NA where unknown; `in_nomis` and `in_dps` (`boolean`); `nomis_changed_at` and
    `dps_changed_at` (`datetime64[us, UTC]`), when the record of a side was last changed, NaT where unknown;
    `nomis_<field>` and `dps_<field>` for each field, NA throughout for a side without the record; and the further
    columns that the reconciliation names in `extra`.
    """

    rows: pd.DataFrame
    unread: tuple[UnreadRecord, ...] = ()
    gaps: tuple[UnlistedPart, ...] = ()
