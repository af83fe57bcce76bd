"""The rules that decide whether and how a visit differs.

The records of both sides are made into frames, joined and compared. A row is a visit of visit-scheduler with the NOMIS
visit that it is mapped to. A further NOMIS visit with the same reference in its comment is a separate row (`surplus`).
A visit made on the NOMIS screen has no reference, and is also a separate row.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from reports.engine import compare
from reports.engine.compare import is_true, with_kinds
from reports.engine.fields import Field, side_frame
from sync.domains.visits.nomis import ROOM_RESTRICTIONS
from sync.domains.visits.rules import NOMIS_VISIT_TYPES, nomis_outcome

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime

    from sync.domains.visits.dps import BookedVisit
    from sync.domains.visits.nomis import VisitDetails

BOOKED, CANCELLED = "BOOKED", "CANCELLED"
NOMIS_SCHEDULED, NOMIS_CANCELLED = "SCH", "CANC"
#: How a visit may have ended in NOMIS, on its day or later, while it is still booked in DPS.
NOMIS_ENDED: Final = ("NORM", "EXP", "HMPOP", "OFFEND", "VISITOR", "VDE")
#: Matches both generations of the comment; staff may have added text after the reference. A reference of another form
#: is also accepted, and the mapping decides. A word that staff wrote is not accepted, because it may be personal.
_WELL_FORMED: Final = r"[a-z0-9]{2}(?:-[a-z0-9]{2}){3}"
_REFERENCE: Final = rf"eference: ({_WELL_FORMED}(?![\w-])|[a-z0-9]+(?:-[a-z0-9]+)+)"


def _minute(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(second=0, microsecond=0)


def _listed(person_ids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(person_ids))))


def _dps_restriction(visit: BookedVisit) -> str | None:
    """The restriction of a visit, or None if DPS does not know it: NOMIS may then have either restriction."""
    return visit.visit_restriction if visit.visit_restriction in ROOM_RESTRICTIONS.values() else None


def _named_reference(visit: VisitDetails) -> str | None:
    """The reference that the comment names, or None if it names no reference."""
    found = re.search(_REFERENCE, visit.comment_text or "")
    return None if found is None else found[1]


KEY: Final = {"visit": "string"}
FIELDS: Final = (
    Field(
        "start",
        "Start",
        "datetime64[s]",
        nomis=lambda visit: _minute(visit.start_date_time),
        dps=lambda visit: _minute(visit.start_timestamp),
    ),
    Field(
        "end",
        "End",
        "datetime64[s]",
        nomis=lambda visit: _minute(visit.end_date_time),
        dps=lambda visit: _minute(visit.end_timestamp),
    ),
    Field(
        "visitors",
        "Visitors",
        "string",
        nomis=lambda visit: _listed(each.person_id for each in visit.visitors),
        dps=lambda visit: _listed(each.nomis_person_id for each in visit.visitors),
    ),
    Field("restriction", "Restriction", "string", nomis="restriction", dps=_dps_restriction),
    Field("prisoner", "Prisoner", "string", nomis="offender_no", dps="prisoner_id"),
    Field("prison", "Prison", "string", nomis="prison_id", dps="prison_id"),
    Field(
        "type",
        "Type",
        "string",
        nomis="visit_type.code",
        dps=lambda visit: NOMIS_VISIT_TYPES.get(visit.visit_type, visit.visit_type),
    ),
    Field("state", "State", "string", nomis="visit_status.code", dps="visit_status"),
    Field(
        "outcome",
        "Outcome",
        "string",
        nomis=lambda visit: None if visit.visit_outcome is None else visit.visit_outcome.code,
        dps=lambda visit: nomis_outcome(visit.outcome_status) if visit.visit_status == CANCELLED else None,
    ),
    Field("reference", "Reference", "string", nomis=_named_reference, dps="reference"),
)
_DETAILS: Final = frozenset({"start", "end", "visitors", "restriction", "prisoner", "prison", "type", "state"})
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
    "nomis-visit-gone": "mapped to a NOMIS visit that does not exist",
    "not-cancelled-in-nomis": "cancelled in DPS, still scheduled in NOMIS",
    "cancelled-in-nomis-only": "cancelled in NOMIS, still booked in DPS",
    "details-differ": "different in details",
    "nomis-duplicate": "in NOMIS twice",
    "mapping-missing": "in NOMIS without a mapping",
    "dps-visit-gone": "in NOMIS, but no longer in DPS",
    "outcome-differs": "cancelled with another outcome",
    "reference-differs": "in NOMIS with a comment that names another visit",
}


def dps_frame(visits: Iterable[BookedVisit]) -> pd.DataFrame:
    """Visits of visit-scheduler, as `side_frame` returns them; `reference` (`string`) identifies them."""
    return side_frame(
        "dps",
        FIELDS,
        {each.reference: each for each in visits},
        ("reference", "string"),
        lambda visit: _latest(visit.created_timestamp, visit.modified_timestamp),
    )


def nomis_frame(visits: Iterable[VisitDetails]) -> pd.DataFrame:
    """Visits of NOMIS, as `side_frame` returns them; `visit_id` (`Int64`) identifies them.

    `created_by` and `changed_by` (`string`) are the users who created and last changed them.
    """
    return side_frame(
        "nomis",
        FIELDS,
        {each.visit_id: each for each in visits},
        ("visit_id", "Int64"),
        lambda visit: _latest(visit.when_created, visit.when_updated),
        {"created_by": ("string", "create_user_id"), "changed_by": ("string", "modify_user_id")},
    )


def pairs(references: Iterable[tuple[str, int]]) -> pd.DataFrame:
    """A frame of `references`, with the columns `reference` (`string`, NA if it is empty) and `visit_id` (`Int64`)."""
    listed = [(name or None, visit_id) for name, visit_id in references]
    return pd.DataFrame(listed, columns=["reference", "visit_id"], dtype=object).astype(
        {"reference": "string", "visit_id": "Int64"}
    )


def is_reference(text: str) -> bool:
    """Whether a string is formed like a visit reference: four hyphenated pairs of lower-case letters or digits."""
    return re.fullmatch(_WELL_FORMED, text) is not None


def join(dps: pd.DataFrame, nomis: pd.DataFrame, mappings: pd.DataFrame, unmapped: pd.DataFrame) -> pd.DataFrame:
    """The rows to compare: one for each visit, and a further one for each duplicate of it in NOMIS.

    dps, nomis: the frames of `dps_frame` and `nomis_frame`. mappings: the `reference` and `visit_id` of each mapping.
    unmapped: the same columns for NOMIS visits without a mapping; the reference is the one in the comment, or NA. A
    reference without a mapping is joined to the first NOMIS visit whose comment names it. A cancelled visit is used
    only if all visits that name the reference are cancelled. Returns the columns of `KEY` and `EXTRA`, those of
    `FIELDS` on both sides, `prison_id`, `offender_no`, and `in_nomis` and `in_dps` (`bool`).
    """
    state = nomis.set_index("visit_id")["nomis_state"].reindex(unmapped["visit_id"])
    unmapped = unmapped.assign(cancelled=(state == NOMIS_CANCELLED).to_numpy()).sort_values(["cancelled", "visit_id"])
    named = unmapped.dropna(subset="reference")
    first = named[~named["reference"].isin(mappings["reference"])].drop_duplicates("reference")
    linked = pd.concat([mappings.assign(mapped=True), first.assign(mapped=False)])
    owners = linked[["reference", "visit_id"]].rename(columns={"visit_id": "duplicate_of"})
    duplicates = named.drop(first.index).assign(surplus=True).merge(owners, how="left", on="reference")
    duplicates = duplicates.merge(dps, how="left", on="reference")
    on_screen = unmapped[unmapped["reference"].isna()]
    rows = pd.concat([dps.merge(linked, how="outer", on="reference"), duplicates, on_screen])
    rows = rows.astype({"visit_id": "Int64", "reference": "string"}).merge(nomis, how="left", on="visit_id")
    for name in ("in_dps", "in_nomis", "mapped", "surplus"):
        rows[name] = is_true(rows.get(name, pd.Series(index=rows.index, dtype="boolean")))
    visit_id = rows["visit_id"].astype("string")
    rows["visit"] = rows["reference"].mask(rows["surplus"], rows["reference"] + " " + visit_id).fillna(visit_id)
    rows["prison_id"] = rows["dps_prison"].fillna(rows["nomis_prison"])
    rows["offender_no"] = rows["dps_prisoner"].fillna(rows["nomis_prisoner"])
    return rows.drop(columns="cancelled").reset_index(drop=True)


def differing(frame: pd.DataFrame, today: date) -> pd.DataFrame:
    """The rows that differ, with `kind` (`string`, one of `KINDS`) and `differs` (a tuple of field names).

    A visit that was cancelled before it was ever in NOMIS does not differ, and a cancelled NOMIS visit does not count
    as a duplicate. today: visits on later days cannot have ended.
    """
    unequal = compare.differing(frame, FIELDS, ("", "", ""), _same(frame, today))["differs"]
    both = is_true(frame["in_dps"]) & is_true(frame["in_nomis"])
    duplicate, mapped = is_true(frame["surplus"]), is_true(frame["mapped"])
    rows = frame[frame.index.isin(unequal.index) | duplicate | (both & ~mapped)].copy()
    both, duplicate, mapped = both[rows.index], duplicate[rows.index], mapped[rows.index]
    in_dps, in_nomis = is_true(rows["in_dps"]), is_true(rows["in_nomis"])
    rows["differs"] = [
        names if pair and isinstance(names, tuple) else ()
        for pair, names in zip(both, unequal.reindex(rows.index), strict=True)
    ]
    booked, cancelled = rows["dps_state"].eq(BOOKED), rows["dps_state"].eq(CANCELLED)
    scheduled, nomis_cancelled = rows["nomis_state"].eq(NOMIS_SCHEDULED), rows["nomis_state"].eq(NOMIS_CANCELLED)
    return with_kinds(
        rows,
        [
            ("", duplicate & nomis_cancelled),
            ("nomis-duplicate", duplicate),
            ("dps-visit-gone", in_nomis & ~in_dps & rows["reference"].notna()),
            ("nomis-visit-gone", in_dps & ~in_nomis & mapped),
            ("nomis-visit-missing", in_dps & ~in_nomis & booked),
            ("", ~both | (~mapped & cancelled & nomis_cancelled)),
            ("mapping-missing", ~mapped),
            ("not-cancelled-in-nomis", cancelled & scheduled),
            ("cancelled-in-nomis-only", booked & nomis_cancelled),
            ("details-differ", rows["differs"].map(lambda names: not _DETAILS.isdisjoint(names))),
            ("outcome-differs", rows["differs"].map(lambda names: "outcome" in names)),
            ("reference-differs", rows["differs"].map(lambda names: "reference" in names)),
        ],
    )


def _same(frame: pd.DataFrame, today: date) -> dict[str, pd.Series[Any]]:
    """By field, whether the values of each row count as the same, even if they are unequal.

    A visit that is booked in DPS may already have ended in NOMIS.
    """
    state = frame["nomis_state"]
    begun = frame["dps_start"] < pd.Timestamp(today) + pd.Timedelta(days=1)
    as_booked = frame["dps_state"].eq(BOOKED) & (state.eq(NOMIS_SCHEDULED) | (state.isin(NOMIS_ENDED) & begun))
    cancelled = frame["dps_state"].eq(CANCELLED) & state.eq(NOMIS_CANCELLED)
    return {
        "state": as_booked | cancelled,
        "outcome": ~is_true(cancelled),
        "restriction": frame["nomis_restriction"].isna() | frame["dps_restriction"].isna(),
        "reference": frame["nomis_reference"].isna(),
    }


def _latest(*moments: datetime | None) -> datetime | None:
    return max((each for each in moments if each is not None), default=None)
