"""Why an appointment differs, and what fixes the difference, as far as both records and the mapping show this."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from reports.engine.causes import Cause, explained
from reports.reconciliations.appointments.compare import (
    DPS_ONLY,
    DUPLICATE,
    NOMIS_ONLY,
    WITHOUT_DPS,
    WITHOUT_NOMIS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.engine.causes import Difference, Explanation

#: NOMIS is updated within this time after a change in DPS, unless something is wrong.
_SYNCHRONISED_WITHIN: Final = timedelta(hours=1)
_RESYNC: Final = ("resync", "appointment", "{dps_id}")

#: The other side has an appointment like this one, and neither of the two is mapped.
_MAPPING_LOST_IN_NOMIS: Final = Cause(
    "the mapping is missing",
    "DPS",
    "Write the appointment to NOMIS again: this finds the existing appointment and maps it.",
    _RESYNC,
    "Appointment {like} in NOMIS has the same booking, location, start and category, and is not mapped.",
    "medium",
)
_MAPPING_LOST_IN_DPS: Final = replace(
    _MAPPING_LOST_IN_NOMIS,
    command=("resync", "appointment", "{like}"),
    sentence="Appointment {like} in DPS has the same booking, location, start and category, and is not mapped.",
)
_IN_CELL: Final = Cause(
    "the appointment takes place in a cell",
    "DPS",
    "If NOMIS is a version from before 2024, inform the prison. Otherwise, write the appointment to NOMIS.",
    _RESYNC,
    "The appointment is written without a location, and versions of NOMIS from before 2024 refuse that.",
    "medium",
)
_CREATION_LOST: Final = Cause.of_lost_message(
    "the event of the creation was lost, or failed", "Write the appointment to NOMIS.", _RESYNC
)
_MADE_ON_SCREEN: Final = Cause(
    "the appointment was made on the NOMIS screen",
    "unknown",
    "Ask the prison to make the appointment in DPS or to delete it in NOMIS. Until then, exclude it.",
    sentence="A prison that uses DPS for appointments can make appointments in NOMIS, but must not do so.",
    confidence="medium",
    who="the prison",
)
_CREATED_TWICE: Final = Cause(
    "the appointment was created twice",
    "DPS",
    "Delete the NOMIS appointment that has no mapping.",
    ("duplicates", "remove", "appointment", "{nomis_id}", "--of", "{nomis_duplicate_of}"),
    "Appointment {nomis_duplicate_of} has the same booking, location, start and category, and is mapped.",
)
_DELETED_IN_NOMIS: Final = Cause(
    "the appointment was deleted in NOMIS",
    "DPS",
    "Write the appointment to NOMIS again (this replaces the mapping), or exclude it until it is past.",
    _RESYNC,
    "This appointment is mapped to {nomis_id}, which NOMIS does not have.",
)
_CANCELLED_AND_DELETED: Final = replace(
    _DELETED_IN_NOMIS,
    action=(
        "There is nothing to do: the appointment is cancelled in DPS. To keep it out of reports, exclude it until it "
        "is past."
    ),
    command=(),
    who="nobody",
)
_DELETION_LOST: Final = Cause.of_lost_message(
    "the event of the deletion was lost, or failed",
    "Delete the NOMIS appointment and its mapping.",
    _RESYNC,
    "This appointment is mapped to {dps_id}, which DPS does not have.",
    confidence="high",
)
_OTHER_BOOKING: Final = Cause(
    "the prisoner has another booking",
    "unknown",
    "There is nothing to do. To keep the appointment out of reports, exclude it until it is past.",
    sentence="A record stays with its booking, even if the prisoner gets another booking.",
    confidence="medium",
    who="nobody",
)
_OTHER_NUMBER: Final = Cause(
    "the prisoner has another number in NOMIS",
    "unknown",
    "If the prisoner was merged in NOMIS, there is nothing to do. Otherwise, compare both appointments by hand.",
    sentence="Both appointments belong to the same booking.",
    confidence="medium",
)
_OTHER_PRISON: Final = Cause(
    "the appointment is at another prison in NOMIS",
    "DPS",
    "Ask the prison to cancel the appointment in DPS, and to create it again at the right prison.",
    sentence="NOMIS keeps an appointment at the prison where it was created, and an update does not change the prison.",
    confidence="medium",
    who="the prison",
)
_CANCELLATION_LOST: Final = Cause.of_lost_message(
    "the event of the cancellation was lost, or failed",
    "Cancel the appointment in NOMIS too.",
    _RESYNC,
    confidence="high",
)
_CANCELLED_IN_NOMIS: Final = Cause(
    "the appointment is cancelled only in NOMIS",
    "unknown",
    "Ask the prison to cancel the appointment in DPS. If the appointment is to take place, the prison must also create "
    "it again: a cancelled appointment is never rescheduled in NOMIS.",
    sentence="The appointment was cancelled on the NOMIS screen, or the cancellation was reversed in DPS.",
    confidence="medium",
    who="the prison",
)
_CHANGED_IN_NOMIS: Final = Cause(
    "the appointment was changed in NOMIS",
    "DPS",
    "If the change is needed, ask the prison to make it in DPS. Then write the appointment to NOMIS again.",
    _RESYNC,
    "The appointment was changed in NOMIS more than an hour after it was changed in DPS.",
    "low",
)
_CHANGE_LOST: Final = replace(_CREATION_LOST, name="the event of the change was lost, or failed")
#: By kind, if the row does not decide.
_CAUSES: Final = {
    DPS_ONLY: _MAPPING_LOST_IN_NOMIS,
    NOMIS_ONLY: _MAPPING_LOST_IN_DPS,
    DUPLICATE: _CREATED_TWICE,
    WITHOUT_NOMIS: _DELETED_IN_NOMIS,
    WITHOUT_DPS: _DELETION_LOST,
}


def explain(difference: Difference) -> Explanation:
    """The cause of a difference, and its fix. The evidence says when the record on each side was last changed."""
    nomis_id, dps_id = difference.row["nomis_id"], difference.row["dps_id"]
    mapped = nomis_id is not None and dps_id is not None
    mapping = f"links appointment {nomis_id} in NOMIS to appointment {dps_id} in DPS" if mapped else None
    return explained(difference, _cause_of(difference), mapping=mapping)


def _cause_of(difference: Difference) -> Cause:
    row, kind = difference.row, difference.kind
    if kind == DPS_ONLY and row["like"] is None:
        return _IN_CELL if row["dps_in_cell"] else _CREATION_LOST
    if kind == NOMIS_ONLY and row["like"] is None:
        return _MADE_ON_SCREEN
    if kind == WITHOUT_NOMIS and row["dps_cancelled"]:
        return _CANCELLED_AND_DELETED
    return _CAUSES.get(kind) or _cause_of_fields(difference)


def _cause_of_fields(difference: Difference) -> Cause:
    """The cause of different values, for an appointment that both sides have."""
    row, differs = difference.row, difference.differs
    if "booking_id" in differs:
        return _OTHER_BOOKING
    if "offender_no" in differs:
        return _OTHER_NUMBER
    if "prison" in differs:
        return _OTHER_PRISON
    if differs == ("cancelled",) and row["dps_cancelled"]:
        return _CANCELLATION_LOST
    if "cancelled" in differs and row["nomis_cancelled"]:
        return _CANCELLED_IN_NOMIS
    return _CHANGED_IN_NOMIS if _nomis_changed_last(row) else _CHANGE_LOST


def _nomis_changed_last(row: Mapping[str, Any]) -> bool:
    nomis, dps = row["nomis_changed_at"], row["dps_changed_at"]
    return nomis is not None and dps is not None and nomis > dps + _SYNCHRONISED_WITHIN
