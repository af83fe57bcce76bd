"""Which fields of an appointment are compared, and when two appointments count as the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from reports.engine.compare import differing, is_true, with_kinds
from reports.engine.fields import Field, side_frame

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime, time

    from sync.domains.appointments.dps import Attendee
    from sync.domains.appointments.nomis import NomisAppointment

#: The fields in the order in which the replaced service searched for the first difference. It did not compare whether
#: an appointment is cancelled. Dates are ISO, times of day `HH:MM`.
FIELDS: Final = (
    Field("offender_no", "Prisoner number", "string", nomis="offender_no", dps="prisoner_number"),
    Field("booking_id", "Booking", "Int64", nomis="booking_id", dps="booking_id"),
    Field("category", "Category", "string", nomis="subtype", dps="category_code"),
    Field(
        "date",
        "Date",
        "string",
        nomis=lambda record: _iso(record.start_date_time),
        dps=lambda attendee: attendee.appointment_date.isoformat(),
    ),
    Field(
        "start_time",
        "Start",
        "string",
        nomis=lambda record: _hours(record.start_date_time),
        dps=lambda attendee: _hours(attendee.start_time),
    ),
    Field(
        "end_time",
        "End",
        "string",
        nomis=lambda record: _hours(record.end_date_time),
        dps=lambda attendee: _hours(attendee.end_time),
    ),
    Field("location", "Location", "Int64", nomis="internal_location", dps="internal_location_id"),
    Field("prison", "Prison", "string", nomis="prison_id", dps="prison_code"),
    Field(
        "cancelled",
        "Cancelled",
        "boolean",
        nomis=lambda record: None if record.status is None else record.status == _CANCELLED,
        dps="cancelled",
    ),
    Field("in_cell", "In a cell", "boolean", compared=False, dps="in_cell"),
    # The mapped NOMIS record that an unmapped record is a copy of, found by joining both sides.
    Field("duplicate_of", "Duplicate of", "Int64", compared=False),
)
#: like: for an unmapped appointment that only one side has, the id of an appointment with the same values that only the
#: other side has.
EXTRA: Final[Mapping[str, str]] = {"like": "Int64"}

NOMIS_ONLY, DPS_ONLY, DIFFERENT, DUPLICATE = "nomis-only", "dps-only", "different", "duplicate"
#: The mapping exists, but one of the records that it links does not.
WITHOUT_NOMIS, WITHOUT_DPS = "mapping-without-nomis", "mapping-without-dps"
KINDS: Final[Mapping[str, str]] = {
    NOMIS_ONLY: "not in DPS",
    DPS_ONLY: "not in NOMIS",
    DIFFERENT: "different",
    DUPLICATE: "twice in NOMIS",
    WITHOUT_NOMIS: "mapped to a NOMIS appointment that does not exist",
    WITHOUT_DPS: "mapped to a DPS appointment that does not exist",
}

#: NOMIS records with the same values in these columns are copies of each other.
_SAME_RECORD: Final = ["nomis_booking_id", "nomis_location", "nomis_date", "nomis_start_time", "nomis_category"]
#: Appointments of the two sides are alike if they have the same values in these columns.
_ALIKE: Final = ("booking_id", "date", "start_time", "location", "category")
_CANCELLED = "CANC"


def nomis_columns(records: Mapping[int, NomisAppointment | None]) -> pd.DataFrame:
    """The frame of NOMIS `records`, as `side_frame` returns it; `nomis_id` (`Int64`) has their event ids."""
    return side_frame(
        "nomis", FIELDS, records, ("nomis_id", "Int64"), lambda record: record.modified_date or record.created_date
    )


def dps_columns(attendees: Mapping[int, Attendee | None]) -> pd.DataFrame:
    """The frame of DPS `attendees`, as `side_frame` returns it; `dps_id` (`Int64`) has their instance ids."""
    return side_frame("dps", FIELDS, attendees, ("dps_id", "Int64"), lambda attendee: attendee.changed_at)


def join(pairs: pd.DataFrame, nomis: pd.DataFrame, dps: pd.DataFrame) -> pd.DataFrame:
    """The `pairs` with the columns of both sides; copies are marked.

    pairs: the columns `nomis_id` and `dps_id`; without a mapping, one of the two is NA. nomis, dps: from
    `nomis_columns` and `dps_columns`. Pairs with no record on either side are left out. Returns the ids (`Int64`), the
    columns of `FIELDS` for both sides, `like`, and `offender_no` (`string`) and `booking_id` (`Int64`), which are taken
    from NOMIS or else from DPS.
    """
    frame = pairs.merge(nomis, how="left", on="nomis_id").merge(dps, how="left", on="dps_id")
    frame = frame[is_true(frame["in_nomis"]) | is_true(frame["in_dps"])].reset_index(drop=True)
    for name in ("offender_no", "booking_id"):
        frame[name] = frame[f"nomis_{name}"].combine_first(frame[f"dps_{name}"])
    frame["nomis_duplicate_of"] = _duplicates(frame)
    frame["like"] = _likenesses(frame)
    return frame


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that differ, plus the columns `kind` (`string`, a key of `KINDS`) and `differs` (tuples of field names).

    Without an end in NOMIS, the ends agree if DPS has no end either, or if the DPS appointment ends an hour after its
    start. Without an end in DPS, they also agree if the NOMIS appointment ends at its start: NOMIS requires an end,
    so the start is written as the end. For an appointment in a cell, NOMIS has the living unit of the prisoner, so the
    location is not compared. The cancellation is compared only if both sides say whether there was one, and the prison
    only if NOMIS names it.
    """
    same = {
        "end_time": _same_end(frame),
        "location": frame["dps_in_cell"],
        "cancelled": frame["dps_cancelled"].isna() | frame["nomis_cancelled"].isna(),
        "prison": frame["nomis_prison"].isna(),
    }
    rows = differing(frame, FIELDS, (NOMIS_ONLY, DPS_ONLY, DIFFERENT), same)
    mapped = rows["nomis_id"].notna() & rows["dps_id"].notna()
    in_nomis, in_dps = is_true(rows["in_nomis"]), is_true(rows["in_dps"])
    return with_kinds(
        rows,
        [
            (WITHOUT_NOMIS, mapped & ~in_nomis),
            (WITHOUT_DPS, mapped & ~in_dps),
            (DUPLICATE, rows["nomis_duplicate_of"].notna()),
            *((kind, rows["kind"].eq(kind)) for kind in (NOMIS_ONLY, DPS_ONLY, DIFFERENT)),
        ],
    )


def _same_end(frame: pd.DataFrame) -> pd.Series[bool]:
    nomis, dps = frame["nomis_end_time"], frame["dps_end_time"]
    hour_later = pd.to_datetime(frame["dps_start_time"], format="%H:%M") + pd.Timedelta(hours=1)
    without_nomis = nomis.isna() & (dps.isna() | dps.eq(hour_later.dt.strftime("%H:%M").astype("string")))
    without_dps = dps.isna() & nomis.eq(frame["nomis_start_time"])
    return (without_nomis | without_dps).fillna(value=False)


def _duplicates(frame: pd.DataFrame) -> pd.Series[Any]:
    """For each unmapped NOMIS record, the id of the mapped record that it is a copy of, or NA.

    As in the replaced service, a record without a location or a start does not count as a copy.
    """
    mapped = frame[frame["nomis_id"].notna() & frame["dps_id"].notna()].dropna(subset=_SAME_RECORD)
    originals = mapped.drop_duplicates(_SAME_RECORD)[[*_SAME_RECORD, "nomis_id"]]
    found = frame[_SAME_RECORD].merge(originals, how="left", on=_SAME_RECORD)["nomis_id"]
    return found.where(frame["dps_id"].isna().to_numpy())


def _likenesses(frame: pd.DataFrame) -> pd.Series[Any]:
    """For each appointment that only one side has, the id of one like it that only the other side has, or NA."""
    nomis = frame[frame["dps_id"].isna() & frame["nomis_duplicate_of"].isna()]
    dps = frame[frame["nomis_id"].isna()]
    names = [f"nomis_{name}" for name in _ALIKE], [f"dps_{name}" for name in _ALIKE]
    nomis, dps = (side.dropna(subset=on).drop_duplicates(on) for side, on in zip((nomis, dps), names, strict=True))
    pairs = nomis[[*names[0], "nomis_id"]].merge(dps[[*names[1], "dps_id"]], left_on=names[0], right_on=names[1])
    of_nomis = frame["nomis_id"].map(pairs.set_index("nomis_id")["dps_id"])
    return of_nomis.astype("Int64").combine_first(
        frame["dps_id"].map(pairs.set_index("dps_id")["nomis_id"]).astype("Int64")
    )


def _hours(moment: datetime | time | None) -> str | None:
    return None if moment is None else moment.strftime("%H:%M")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.date().isoformat()


def year_ahead(frame: pd.DataFrame, today: date) -> pd.Series[bool]:
    """For each row: whether both sides have the appointment, and it starts a year or more after `today` in NOMIS."""
    limit = (pd.Timestamp(today) + pd.DateOffset(years=1)).date().isoformat()
    later = (frame["nomis_date"] >= limit).to_numpy(dtype=bool, na_value=False)
    return frame["in_nomis"] & frame["in_dps"] & later
