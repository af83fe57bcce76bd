"""When a visit differs, and how: the records of both sides as frames, joined and compared.

A row is a visit of visit-scheduler with the NOMIS visit that it is mapped to. A further NOMIS visit whose comment names
the same reference is a separate row (`surplus`), and so is a NOMIS visit made on its screen, which has no reference.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from reports.engine.compare import differing as unequal_rows
from reports.engine.contract import Field
from reports.engine.frame import side_columns, side_frame
from sync.domains.visits.nomis import ROOM_RESTRICTIONS
from sync.domains.visits.rules import DEFAULT_OUTCOME, NOMIS_OUTCOMES, NOMIS_VISIT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime

    from sync.domains.visits.dps import BookedVisit
    from sync.domains.visits.nomis import VisitDetails

KEY: Final = {"visit": "string"}
FIELDS: Final = (
    Field("start", "Start", "datetime64[s]"),
    Field("end", "End", "datetime64[s]"),
    Field("visitors", "Visitors", "string"),
    Field("restriction", "Restriction", "string"),
    Field("prisoner", "Prisoner", "string"),
    Field("prison", "Prison", "string"),
    Field("type", "Type", "string"),
    Field("state", "State", "string"),
    Field("outcome", "Outcome", "string"),
    Field("reference", "Reference", "string"),
)
EXTRA: Final = {
    "reference": "string",
    "visit_id": "Int64",
    "duplicate_of": "Int64",
    "mapped": "boolean",
    "surplus": "boolean",
    "created_by": "string",
    "changed_by": "string",
}
KINDS: Final = {
    "nomis-visit-missing": "not in NOMIS",
    "nomis-visit-gone": "mapped to a NOMIS visit that is not there",
    "not-cancelled-in-nomis": "cancelled in DPS, still scheduled in NOMIS",
    "cancelled-in-nomis-only": "cancelled in NOMIS, still booked in DPS",
    "details-differ": "different in details",
    "nomis-duplicate": "in NOMIS twice",
    "mapping-missing": "in NOMIS without a mapping",
    "dps-visit-gone": "in NOMIS, but no longer in DPS",
    "outcome-differs": "cancelled with another outcome",
    "reference-differs": "in NOMIS with a comment that names another visit",
}
BOOKED, CANCELLED = "BOOKED", "CANCELLED"
NOMIS_SCHEDULED, NOMIS_CANCELLED = "SCH", "CANC"
#: How a visit may have ended in NOMIS, on its day or later, when DPS still has it as booked.
NOMIS_ENDED: Final = ("NORM", "EXP", "HMPOP", "OFFEND", "VISITOR", "VDE")
DETAILS: Final = frozenset({"start", "end", "visitors", "restriction", "prisoner", "prison", "type", "state"})

#: Both generations of the comment; staff may have written on behind the reference. A reference of another form is taken
#: too, and the mapping decides; a word that staff wrote is not, since it may be personal.
_WELL_FORMED: Final = r"[a-z0-9]{2}(?:-[a-z0-9]{2}){3}"
_REFERENCE: Final = rf"eference: ({_WELL_FORMED}(?![\w-])|[a-z0-9]+(?:-[a-z0-9]+)+)"


def dps_frame(visits: Iterable[BookedVisit]) -> pd.DataFrame:
    """Visits of visit-scheduler: `reference` (unique), `dps_…` for each field, `dps_changed_at` in UTC."""
    rows = [
        {
            "reference": visit.reference,
            "dps_prisoner": visit.prisoner_id,
            "dps_prison": visit.prison_id,
            "dps_start": visit.start_timestamp,
            "dps_end": visit.end_timestamp,
            "dps_state": visit.visit_status,
            "dps_outcome": visit.outcome_status,
            "dps_visitors": _listed(each.nomis_person_id for each in visit.visitors),
            "dps_restriction": visit.visit_restriction,
            "dps_type": visit.visit_type,
            "dps_changed_at": _latest(visit.created_timestamp, visit.modified_timestamp),
        }
        for visit in visits
    ]
    frame = side_frame(rows, {"reference": "string", **side_columns(FIELDS, "dps")})
    cancelled = frame["dps_state"] == CANCELLED
    frame["dps_outcome"] = frame["dps_outcome"].map(NOMIS_OUTCOMES).fillna(DEFAULT_OUTCOME).where(cancelled)
    # An unknown restriction may be either.
    frame["dps_restriction"] = frame["dps_restriction"].where(frame["dps_restriction"].isin(ROOM_RESTRICTIONS.values()))
    frame["dps_type"] = frame["dps_type"].map(NOMIS_VISIT_TYPES).fillna(frame["dps_type"])
    frame["dps_reference"] = frame["reference"]
    return _to_the_minute(frame, "dps")


def nomis_frame(visits: Iterable[VisitDetails]) -> pd.DataFrame:
    """Visits of NOMIS: `visit_id` (unique), `nomis_…` for each field, `nomis_changed_at` in UTC, and who made them.

    `nomis_reference` is what the comment names, NA if it names nothing.
    """
    rows = [
        {
            "visit_id": visit.visit_id,
            "nomis_prisoner": visit.offender_no,
            "nomis_prison": visit.prison_id,
            "nomis_start": visit.start_date_time,
            "nomis_end": visit.end_date_time,
            "nomis_state": visit.visit_status.code,
            "nomis_outcome": None if visit.visit_outcome is None else visit.visit_outcome.code,
            "nomis_visitors": _listed(each.person_id for each in visit.visitors),
            "nomis_restriction": visit.restriction,
            "nomis_type": visit.visit_type.code,
            "nomis_reference": visit.comment_text,
            "created_by": visit.create_user_id,
            "changed_by": visit.modify_user_id,
            "nomis_changed_at": _latest(visit.when_created, visit.when_updated),
        }
        for visit in visits
    ]
    who = {"created_by": "string", "changed_by": "string"}
    frame = side_frame(rows, {"visit_id": "Int64", **side_columns(FIELDS, "nomis"), **who})
    frame["nomis_reference"] = frame["nomis_reference"].str.extract(_REFERENCE, expand=False)
    return _to_the_minute(frame, "nomis")


def pairs(references: Iterable[tuple[str, int]]) -> pd.DataFrame:
    """References with NOMIS visits: `reference` (NA where it is empty) and `visit_id`."""
    rows = ({"reference": name or None, "visit_id": visit_id} for name, visit_id in references)
    return side_frame(rows, {"reference": "string", "visit_id": "Int64"})


def is_reference(text: str) -> bool:
    """Whether a text can only be the reference of a visit: four pairs of letters or digits."""
    return re.fullmatch(_WELL_FORMED, text) is not None


def join(dps: pd.DataFrame, nomis: pd.DataFrame, mappings: pd.DataFrame, unmapped: pd.DataFrame) -> pd.DataFrame:
    """The rows to compare, one for each visit and one for each surplus NOMIS visit.

    dps, nomis: as `dps_frame` and `nomis_frame`. mappings: `reference` and `visit_id` of the mappings. unmapped: the
    same of NOMIS visits that no mapping names, with the reference in their comment, NA if there is none.
    A reference without a mapping has the first NOMIS visit that names it, a cancelled one only if all are.
    """
    state = nomis.set_index("visit_id")["nomis_state"].reindex(unmapped["visit_id"])
    unmapped = unmapped.assign(cancelled=(state == NOMIS_CANCELLED).to_numpy()).sort_values(["cancelled", "visit_id"])
    named = unmapped.dropna(subset="reference")
    first = named[~named["reference"].isin(mappings["reference"])].drop_duplicates("reference")
    tied = pd.concat([mappings.assign(mapped=True), first.assign(mapped=False)])
    owners = tied[["reference", "visit_id"]].rename(columns={"visit_id": "duplicate_of"})
    surplus = named.drop(first.index).assign(surplus=True).merge(owners, how="left", on="reference")
    surplus = surplus.merge(dps, how="left", on="reference")
    on_screen = unmapped[unmapped["reference"].isna()]
    rows = pd.concat([dps.merge(tied, how="outer", on="reference"), surplus, on_screen])
    rows = rows.astype({"visit_id": "Int64", "reference": "string"}).merge(nomis, how="left", on="visit_id")
    for name in ("mapped", "surplus"):
        rows[name] = _is_true(rows.get(name, pd.Series(index=rows.index, dtype="boolean")))
    visit_id = rows["visit_id"].astype("string")
    rows["visit"] = rows["reference"].mask(rows["surplus"], rows["reference"] + " " + visit_id).fillna(visit_id)
    rows["in_dps"], rows["in_nomis"] = rows["dps_state"].notna(), rows["nomis_state"].notna()
    rows["prison_id"] = rows["dps_prison"].fillna(rows["nomis_prison"])
    rows["offender_no"] = rows["dps_prisoner"].fillna(rows["nomis_prisoner"])
    return rows.drop(columns="cancelled").reset_index(drop=True)


def differing(frame: pd.DataFrame, today: date) -> pd.DataFrame:
    """The rows that differ, with `kind` (`string`, of `KINDS`) and `differs` (a tuple of field names).

    A visit that was cancelled before it was ever in NOMIS needs nothing there, and a cancelled NOMIS visit is not
    a duplicate.
    """
    unequal = unequal_rows(_comparable(frame, today), FIELDS, ("", "", ""))["differs"]
    both = _is_true(frame["in_dps"]) & _is_true(frame["in_nomis"])
    surplus, mapped = _is_true(frame["surplus"]), _is_true(frame["mapped"])
    rows = frame[frame.index.isin(unequal.index) | surplus | (both & ~mapped)].copy()
    both, surplus, mapped = both[rows.index], surplus[rows.index], mapped[rows.index]
    in_dps, in_nomis = _is_true(rows["in_dps"]), _is_true(rows["in_nomis"])
    rows["differs"] = [
        names if pair and isinstance(names, tuple) else ()
        for pair, names in zip(both, unequal.reindex(rows.index), strict=True)
    ]
    booked, cancelled = rows["dps_state"].eq(BOOKED), rows["dps_state"].eq(CANCELLED)
    scheduled, nomis_cancelled = rows["nomis_state"].eq(NOMIS_SCHEDULED), rows["nomis_state"].eq(NOMIS_CANCELLED)
    differs = {name: rows["differs"].map(lambda names, name=name: name in names) for name in ("outcome", "reference")}
    choices: list[tuple[str, Any]] = [
        ("", surplus & nomis_cancelled),
        ("nomis-duplicate", surplus),
        ("dps-visit-gone", in_nomis & ~in_dps & rows["reference"].notna()),
        ("nomis-visit-gone", in_dps & ~in_nomis & mapped),
        ("nomis-visit-missing", in_dps & ~in_nomis & booked),
        ("", ~both | (~mapped & cancelled & nomis_cancelled)),
        ("mapping-missing", ~mapped),
        ("not-cancelled-in-nomis", cancelled & scheduled),
        ("cancelled-in-nomis-only", booked & nomis_cancelled),
        ("details-differ", rows["differs"].map(lambda names: not DETAILS.isdisjoint(names))),
        ("outcome-differs", differs["outcome"]),
        ("reference-differs", differs["reference"]),
    ]
    conditions = [_is_true(condition).to_numpy(dtype=bool) for _, condition in choices]
    rows["kind"] = pd.array(np.select(conditions, [kind for kind, _ in choices], ""), dtype="string")
    return rows[rows["kind"] != ""]


def _comparable(frame: pd.DataFrame, today: date) -> pd.DataFrame:
    """The frame with the same values on both sides wherever they count as the same."""
    found = frame.copy()
    begun = frame["dps_start"] < pd.Timestamp(today) + pd.Timedelta(days=1)
    as_booked = frame["dps_state"].eq(BOOKED) & (
        frame["nomis_state"].eq(NOMIS_SCHEDULED) | (frame["nomis_state"].isin(NOMIS_ENDED) & begun)
    )
    cancelled = frame["dps_state"].eq(CANCELLED) & frame["nomis_state"].eq(NOMIS_CANCELLED)
    found["nomis_state"] = frame["nomis_state"].mask(_is_true(as_booked | cancelled), frame["dps_state"])
    ignored = {
        "outcome": ~_is_true(cancelled),
        "restriction": frame["nomis_restriction"].isna() | frame["dps_restriction"].isna(),
        "reference": frame["nomis_reference"].isna(),
    }
    for name, rows in ignored.items():
        found[f"nomis_{name}"] = frame[f"nomis_{name}"].mask(rows, frame[f"dps_{name}"])
    return found


def _listed(person_ids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(person_ids))))


def _latest(*moments: datetime | None) -> datetime | None:
    return max((each for each in moments if each is not None), default=None)


def _to_the_minute(frame: pd.DataFrame, side: str) -> pd.DataFrame:
    """The frame of a side with start and end to the minute."""
    for name in (f"{side}_start", f"{side}_end"):
        frame[name] = frame[name].dt.floor("min")
    return frame


def _is_true(column: pd.Series[Any]) -> pd.Series[bool]:
    """A column of truth values with NA as false."""
    return column.astype("boolean").fillna(value=False).astype(bool)
