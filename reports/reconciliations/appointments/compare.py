"""What is compared of an appointment, and when two of them are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from reports.engine.compare import differing
from reports.engine.contract import Field
from reports.engine.frame import side_columns, side_frame

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime, time

    from sync.domains.appointments.dps import Attendee
    from sync.domains.appointments.nomis import NomisAppointment

#: In this order the replaced service looked for the first difference; whether an appointment is cancelled it did not
#: compare. Dates are ISO, times of day `HH:MM`.
FIELDS: Final = (
    Field("offender_no", "Prisoner number", "string"),
    Field("booking_id", "Booking", "Int64"),
    Field("category", "Category", "string"),
    Field("date", "Date", "string"),
    Field("start_time", "Start", "string"),
    Field("end_time", "End", "string"),
    Field("location", "Location", "Int64"),
    Field("prison", "Prison", "string"),
    Field("cancelled", "Cancelled", "boolean"),
    Field("in_cell", "In a cell", "boolean", compared=False),
    # The mapped NOMIS record of which an unmapped one is a second copy.
    Field("duplicate_of", "Duplicate of", "Int64", compared=False),
)
#: like: for an appointment that only one side has, one that only the other side has and that is the same but for the
#: mapping.
EXTRA: Final[Mapping[str, str]] = {"like": "Int64"}

NOMIS_ONLY, DPS_ONLY, DIFFERENT, DUPLICATE = "nomis-only", "dps-only", "different", "duplicate"
#: The mapping is there, and one of the records it ties together is not.
WITHOUT_NOMIS, WITHOUT_DPS = "mapping-without-nomis", "mapping-without-dps"
KINDS: Final[Mapping[str, str]] = {
    NOMIS_ONLY: "not in DPS",
    DPS_ONLY: "not in NOMIS",
    DIFFERENT: "different",
    DUPLICATE: "twice in NOMIS",
    WITHOUT_NOMIS: "mapped to one that is not in NOMIS",
    WITHOUT_DPS: "mapped to one that is not in DPS",
}

#: A NOMIS record with the same values is a copy of the other one.
_SAME_RECORD: Final = ["nomis_booking_id", "nomis_location", "nomis_date", "nomis_start_time", "nomis_category"]
#: An appointment of one side is like one of the other with the same values.
_ALIKE: Final = ("booking_id", "date", "start_time", "location", "category")
_CANCELLED = "CANC"
#: What each side says of itself; the second copy of a record is found by joining them.
_OF_NOMIS: Final = tuple(each for each in FIELDS if each.name not in ("in_cell", "duplicate_of"))
_OF_DPS: Final = tuple(each for each in FIELDS if each.name != "duplicate_of")


def nomis_columns(records: Mapping[int, NomisAppointment]) -> pd.DataFrame:
    """NOMIS records by event id as the NOMIS columns of the frame; `nomis_changed_at` in UTC."""
    rows = (
        {
            "nomis_id": number,
            "in_nomis": True,
            "nomis_offender_no": each.offender_no,
            "nomis_booking_id": each.booking_id,
            "nomis_category": each.subtype,
            "nomis_date": _iso(each.start_date_time),
            "nomis_start_time": _hours(each.start_date_time),
            "nomis_end_time": _hours(each.end_date_time),
            "nomis_location": each.internal_location,
            "nomis_prison": each.prison_id,
            "nomis_cancelled": None if each.status is None else each.status == _CANCELLED,
            "nomis_changed_at": each.modified_date or each.created_date,
        }
        for number, each in records.items()
    )
    return side_frame(rows, {"nomis_id": "Int64", "in_nomis": "boolean", **side_columns(_OF_NOMIS, "nomis")})


def dps_columns(attendees: Mapping[int, Attendee]) -> pd.DataFrame:
    """DPS appointments by instance id as the DPS columns of the frame; `dps_changed_at` in UTC."""
    rows = (
        {
            "dps_id": number,
            "in_dps": True,
            "dps_offender_no": each.prisoner_number,
            "dps_booking_id": each.booking_id,
            "dps_category": each.category_code,
            "dps_date": each.appointment_date.isoformat(),
            "dps_start_time": _hours(each.start_time),
            "dps_end_time": _hours(each.end_time),
            "dps_location": each.internal_location_id,
            "dps_prison": each.prison_code,
            "dps_cancelled": each.cancelled,
            "dps_in_cell": each.in_cell,
            "dps_changed_at": each.changed_at,
        }
        for number, each in attendees.items()
    )
    return side_frame(rows, {"dps_id": "Int64", "in_dps": "boolean", **side_columns(_OF_DPS, "dps")})


def join(pairs: pd.DataFrame, nomis: pd.DataFrame, dps: pd.DataFrame) -> pd.DataFrame:
    """The frame of `pairs` (`nomis_id`, `dps_id`, NA for a side that nothing ties to the other), copies marked.

    Pairs of which neither side has the record are left out.
    """
    frame = pairs.merge(nomis, how="left", on="nomis_id").merge(dps, how="left", on="dps_id")
    there = frame["in_nomis"].fillna(value=False) | frame["in_dps"].fillna(value=False)
    frame = frame[there].reset_index(drop=True)
    for name in ("offender_no", "booking_id"):
        frame[name] = frame[f"nomis_{name}"].combine_first(frame[f"dps_{name}"])
    frame["nomis_duplicate_of"] = _duplicates(frame)
    frame["like"] = _likenesses(frame)
    return frame


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that differ, with `kind` and `differs`.

    NOMIS without an end agrees with DPS without one, or with an end an hour after the start; DPS without an end also
    agrees with NOMIS that ends as it starts, which is how an end is written that NOMIS must have. In a cell NOMIS holds
    the living unit of the prisoner, so the location is not compared; nor is the cancellation where a side does not say,
    nor the prison where NOMIS does not.
    """
    agreed = frame.copy()
    for name, same in (
        ("end_time", _same_end(frame)),
        ("location", frame["dps_in_cell"].fillna(value=False)),
        ("cancelled", frame["dps_cancelled"].isna() | frame["nomis_cancelled"].isna()),
        ("prison", frame["nomis_prison"].isna()),
    ):
        agreed[f"dps_{name}"] = frame[f"dps_{name}"].mask(
            frame["in_nomis"] & frame["in_dps"] & same, frame[f"nomis_{name}"]
        )
    rows = differing(agreed, FIELDS, (NOMIS_ONLY, DPS_ONLY, DIFFERENT))
    rows[frame.columns] = frame.loc[rows.index]
    mapped = (rows["nomis_id"].notna() & rows["dps_id"].notna()).to_numpy()
    in_nomis, in_dps = (rows[side].to_numpy(dtype=bool) for side in ("in_nomis", "in_dps"))
    rows["kind"] = pd.array(
        np.select(
            [mapped & ~in_nomis, mapped & ~in_dps, rows["nomis_duplicate_of"].notna().to_numpy()],
            [WITHOUT_NOMIS, WITHOUT_DPS, DUPLICATE],
            rows["kind"],
        ),
        dtype="string",
    )
    return rows


def _same_end(frame: pd.DataFrame) -> pd.Series[bool]:
    nomis, dps = frame["nomis_end_time"], frame["dps_end_time"]
    hour_later = pd.to_datetime(frame["dps_start_time"], format="%H:%M") + pd.Timedelta(hours=1)
    without_nomis = nomis.isna() & (dps.isna() | dps.eq(hour_later.dt.strftime("%H:%M").astype("string")))
    without_dps = dps.isna() & nomis.eq(frame["nomis_start_time"])
    return (without_nomis | without_dps).fillna(value=False)


def _duplicates(frame: pd.DataFrame) -> pd.Series[Any]:
    """For each unmapped NOMIS record the mapped one that it copies; of copies with nothing in common there is none.

    Two records without a location or a start are not known to be copies, as for the replaced service.
    """
    mapped = frame[frame["nomis_id"].notna() & frame["dps_id"].notna()].dropna(subset=_SAME_RECORD)
    originals = mapped.drop_duplicates(_SAME_RECORD)[[*_SAME_RECORD, "nomis_id"]]
    found = frame[_SAME_RECORD].merge(originals, how="left", on=_SAME_RECORD)["nomis_id"]
    return found.where(frame["dps_id"].isna().to_numpy())


def _likenesses(frame: pd.DataFrame) -> pd.Series[Any]:
    """For each appointment of one side alone an appointment of the other side alone that is like it."""
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
    """Whether both sides have the appointment and it starts a year or more after `today` in NOMIS."""
    limit = (pd.Timestamp(today) + pd.DateOffset(years=1)).date().isoformat()
    later = (frame["nomis_date"] >= limit).to_numpy(dtype=bool, na_value=False)
    return frame["in_nomis"] & frame["in_dps"] & later
