"""Why a visit differs, how urgent the difference is, and what fixes it.

Each of these is given as far as the records and the mapping show it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from reports.engine.causes import Cause, explained

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from reports.engine.causes import Difference, Explanation
    from reports.reconciliations.visits.result import Weight

#: A visit missing from NOMIS is urgent if it takes place within this time, since the prison will not be prepared.
_NEAR: Final = timedelta(days=3)
_RESYNC: Final = ("resync", "visit", "{reference}")


@dataclass(frozen=True, slots=True)
class VisitCause(Cause):
    """A cause of differences between visits. weight: how urgent a difference with this cause is."""

    weight: Weight = "high"


#: The cause of each kind of difference, unless the record shows a more specific one.
CAUSES: Final[Mapping[str, VisitCause]] = {
    "nomis-visit-missing": VisitCause.of_lost_message(
        "the event of the booking was lost, or failed", "Write the visit to NOMIS.", _RESYNC, weight="medium"
    ),
    "nomis-visit-gone": VisitCause(
        "the visit was deleted in NOMIS",
        "DPS",
        "Ask the mapping service team to delete the mapping. Then write the visit to NOMIS.",
        _RESYNC,
        "This visit is mapped to NOMIS visit {visit_id}, which does not exist.",
    ),
    "not-cancelled-in-nomis": VisitCause.of_lost_message(
        "the event of the cancellation was lost, or failed", "Cancel the visit in NOMIS too.", _RESYNC
    ),
    "cancelled-in-nomis-only": VisitCause(
        "the visit was cancelled on the NOMIS screen",
        "NOMIS",
        "Ask the prison to cancel the visit in DPS, or to book it again.",
        confidence="medium",
        who="the prison",
    ),
    "details-differ": VisitCause.of_lost_message(
        "the event of the change was lost, or failed", "Write the visit to NOMIS again.", _RESYNC, weight="medium"
    ),
    "nomis-duplicate": VisitCause(
        "the visit was created twice",
        "DPS",
        "Cancel the NOMIS visit that has no mapping.",
        ("duplicates", "remove", "visit", "{visit_id}", "--of", "{duplicate_of}"),
        "The comment on NOMIS visit {visit_id} names {reference}, which already belongs to NOMIS visit {duplicate_of}.",
    ),
    "mapping-missing": VisitCause(
        "the mapping was never saved",
        "DPS",
        "Save the mapping.",
        _RESYNC,
        "The comment on NOMIS visit {visit_id} names {reference}, and neither visit has a mapping.",
    ),
    "dps-visit-gone": VisitCause(
        "the visit was removed from DPS",
        "unknown",
        "There is nothing to do.",
        (),
        "DPS cancels visits but does not delete them, so its data must have been corrected or refreshed.",
        weight="low",
        who="nobody",
    ),
    "outcome-differs": VisitCause(
        "the visit was cancelled with different outcomes in NOMIS and in DPS",
        "unknown",
        "There is nothing to do: the visit is cancelled on both sides.",
        confidence="medium",
        weight="low",
        who="nobody",
    ),
    "reference-differs": VisitCause(
        "the comment in NOMIS names another visit",
        "unknown",
        "There is nothing to do if only the comment differs.",
        (),
        "The comment on NOMIS visit {visit_id} names {nomis_reference}.",
        weight="low",
        who="nobody",
    ),
}
_CANCELLED_AND_GONE: Final = replace(
    CAUSES["nomis-visit-gone"],
    action="There is nothing to do: the visit is cancelled in DPS.",
    command=(),
    weight="low",
    who="nobody",
)
_CANCELLED_AND_UNMAPPED: Final = replace(
    CAUSES["mapping-missing"],
    name="the visit was cancelled before its mapping was saved",
    action="Ask the prison to cancel the visit in NOMIS: this program cannot cancel a visit that has no mapping.",
    command=(),
    who="the prison",
)
_MERGED: Final = VisitCause(
    "the prisoner was merged in NOMIS",
    "NOMIS",
    "Ask the DPS team to correct the prisoner number of the visit.",
    (),
    "NOMIS no longer knows the prisoner number {dps_prisoner}.",
    weight="medium",
    who="the DPS team",
)
_OTHER_PRISONER: Final = VisitCause(
    "the visit belongs to another prisoner in NOMIS",
    "unknown",
    "Compare the two visits by hand, and inform the prison.",
    confidence="medium",
    weight="medium",
)
_ENDED: Final = VisitCause(
    "NOMIS recorded how the visit ended",
    "NOMIS",
    "If the record in NOMIS is wrong, inform the prison.",
    (),
    "A visit that is no longer scheduled cannot be cancelled in NOMIS.",
    weight="medium",
    who="the prison",
)
_CHANGED_ON_SCREEN: Final = VisitCause(
    "the visit was changed on the NOMIS screen",
    "unknown",
    "Ask the prison which side is right. If DPS is right, write the visit to NOMIS again.",
    _RESYNC,
    weight="medium",
)
_OUTCOME_ON_SCREEN: Final = replace(
    CAUSES["outcome-differs"], name="the outcome was changed on the NOMIS screen", right_side="NOMIS"
)
#: Causes that are certain if the visit was changed in NOMIS by someone other than its creator.
_ON_SCREEN: Final = (CAUSES["cancelled-in-nomis-only"], _CHANGED_ON_SCREEN, _OUTCOME_ON_SCREEN)


def explain(difference: Difference, today: date, *, merged: bool) -> Explanation:
    """The explanation of a difference: its cause and weight, how to fix it, and the evidence that was read.

    merged: whether NOMIS no longer knows the prisoner number that DPS has.
    """
    row, cause = difference.row, _cause_of(difference, merged=merged)
    certain = {}
    if cause in _ON_SCREEN and _changed_on_screen(row):
        who = f"{row['created_by']} created the NOMIS visit, and {row['changed_by']} changed it."
        certain = {"explanation": who, "confidence": "high"}
    near = difference.kind == "nomis-visit-missing" and row["dps_start"].date() <= today + _NEAR
    return explained(
        difference,
        cause,
        mapping=f"links visit {row['reference']} to NOMIS visit {row['visit_id']}" if row["mapped"] else None,
        notes={"NOMIS": row["changed_by"]},
        values={"weight": "high" if near else cause.weight, "reference": row["reference"], "visit_id": row["visit_id"]},
        **certain,
    )


def _cause_of(difference: Difference, *, merged: bool) -> VisitCause:
    row, kind = difference.row, difference.kind
    if kind == "nomis-visit-gone" and row["dps_state"] == "CANCELLED":
        return _CANCELLED_AND_GONE
    if kind == "mapping-missing" and row["dps_state"] == "CANCELLED":
        return _CANCELLED_AND_UNMAPPED
    if kind == "outcome-differs" and _changed_on_screen(row):
        return _OUTCOME_ON_SCREEN
    if kind != "details-differ":
        return CAUSES[kind]
    if "prisoner" in difference.differs:
        return _MERGED if merged else _OTHER_PRISONER
    if "state" in difference.differs:
        return _ENDED
    return _CHANGED_ON_SCREEN if _changed_on_screen(row) else CAUSES[kind]


def _changed_on_screen(row: Mapping[str, Any]) -> bool:
    """Whether the NOMIS visit was last changed by a user other than its creator.

    This program is always the same NOMIS user, so such a change counts as one made on the screen.
    """
    return None not in (row["created_by"], row["changed_by"]) and row["changed_by"] != row["created_by"]
