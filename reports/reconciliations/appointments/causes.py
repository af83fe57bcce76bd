"""Why an appointment differs and what fixes it, as far as both records and the mapping show."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from reports.engine.contract import Explanation
from reports.engine.result import Diagnosis, EvidenceRow
from reports.reconciliations.appointments.compare import (
    DPS_ONLY,
    DUPLICATE,
    NOMIS_ONLY,
    WITHOUT_DPS,
    WITHOUT_NOMIS,
)
from sync.clock import LONDON
from sync.command_text import command

if TYPE_CHECKING:
    from reports.engine.contract import Difference

#: NOMIS is written within this time of a change in DPS, unless something is wrong.
_SYNCHRONISED_WITHIN: Final = timedelta(hours=1)


def explain(difference: Difference) -> Explanation:
    """The cause and the fix of a difference, with when each side was last changed as evidence."""
    row = difference.row
    diagnosis = _KINDS.get(difference.kind, _different)(difference)
    evidence = [
        EvidenceRow(side=side, at=row[column].astimezone(LONDON).replace(tzinfo=None), text="last changed")
        for side, column in (("NOMIS", "nomis_changed_at"), ("DPS", "dps_changed_at"))
        if row[column] is not None
    ]
    if row["nomis_id"] is not None and row["dps_id"] is not None:
        text = f"ties appointment {row['nomis_id']} in NOMIS to appointment {row['dps_id']} in DPS"
        evidence.append(EvidenceRow(side="mapping", text=text))
    return Explanation(diagnosis, tuple(evidence))


def _mapping_lost(side: str, like: int, instance_id: int) -> Diagnosis:
    return Diagnosis(
        cause="the mapping is missing",
        confidence="medium",
        right_side="DPS",
        explanation=f"Appointment {like} in {side} has the same booking, location, start and category, and no mapping.",
        action="Write the appointment to NOMIS again, which finds the one that is there and maps it.",
        commands=(_resync(instance_id),),
    )


def _dps_only(difference: Difference) -> Diagnosis:
    row = difference.row
    if row["like"] is not None:
        return _mapping_lost("NOMIS", row["like"], row["dps_id"])
    if row["dps_in_cell"]:
        return Diagnosis(
            cause="it takes place in a cell",
            confidence="medium",
            right_side="DPS",
            explanation="NOMIS before 2024 holds no appointment without a location and refuses it.",
            action="Tell the prison if NOMIS is that old; otherwise write it to NOMIS again.",
            commands=(_resync(row["dps_id"]),),
        )
    return Diagnosis(
        cause="the event of its creation was lost or failed",
        confidence="medium" if difference.given_up is None else "high",
        right_side="DPS",
        explanation=difference.given_up_text,
        action="Write the appointment to NOMIS again.",
        commands=(_resync(row["dps_id"]),),
    )


def _nomis_only(difference: Difference) -> Diagnosis:
    row = difference.row
    if row["like"] is not None:
        return _mapping_lost("DPS", row["like"], row["like"])
    return Diagnosis(
        cause="it was made on the NOMIS screen",
        confidence="medium",
        right_side="unknown",
        explanation="A prison whose appointments are in DPS must not make any in NOMIS, but can.",
        action="Tell the prison, which has to make it in DPS or delete it in NOMIS. Until then, exclude it.",
    )


def _duplicate(difference: Difference) -> Diagnosis:
    row = difference.row
    return Diagnosis(
        cause="it was created twice",
        confidence="high",
        right_side="DPS",
        explanation=f"Appointment {row['nomis_duplicate_of']} has the mapping, and the same booking, location, start "
        "and category.",
        action="Delete the one without a mapping.",
        commands=(command("duplicates", "remove", "appointment", row["nomis_id"], "--of", row["nomis_duplicate_of"]),),
    )


def _without_nomis(difference: Difference) -> Diagnosis:
    if difference.row["dps_cancelled"]:
        return Diagnosis(
            cause="the appointment was deleted in NOMIS",
            confidence="high",
            right_side="DPS",
            explanation=f"NOMIS has no appointment {difference.row['nomis_id']}, to which this one is mapped.",
            action="There is nothing to do: it is cancelled in DPS. Exclude it until it is past.",
        )
    return Diagnosis(
        cause="the appointment was deleted in NOMIS",
        confidence="high",
        right_side="DPS",
        explanation=f"NOMIS has no appointment {difference.row['nomis_id']}, to which this one is mapped.",
        action="Write the appointment to NOMIS again, which replaces the mapping; or exclude it until it is past.",
        commands=(_resync(difference.row["dps_id"]),),
    )


def _without_dps(difference: Difference) -> Diagnosis:
    return Diagnosis(
        cause="the event of its deletion was lost or failed",
        confidence="high",
        right_side="DPS",
        explanation=f"DPS has no appointment {difference.row['dps_id']}, to which this one is mapped. "
        + difference.given_up_text,
        action="Delete it in NOMIS too, with the mapping.",
        commands=(_resync(difference.row["dps_id"]),),
    )


def _different(difference: Difference) -> Diagnosis:
    row, differs = difference.row, difference.differs
    if "booking_id" in differs or "offender_no" in differs:
        return Diagnosis(
            cause="the prisoner has another booking",
            confidence="medium",
            right_side="unknown",
            explanation="A record stays with the booking it was made for, also when the prisoner gets another one.",
            action="There is little to do. Exclude it until it is past.",
        )
    if "prison" in differs:
        return Diagnosis(
            cause="it is at another prison in NOMIS",
            confidence="medium",
            right_side="DPS",
            explanation="NOMIS gives an appointment the prison of its creation, and an update does not change it.",
            action="Have it cancelled in DPS, and made anew at the right prison.",
        )
    if differs == ("cancelled",) and row["dps_cancelled"]:
        return Diagnosis(
            cause="the event of its cancellation was lost or failed",
            confidence="high",
            right_side="DPS",
            explanation=difference.given_up_text,
            action="Cancel it in NOMIS too.",
            commands=(_resync(row["dps_id"]),),
        )
    if "cancelled" in differs and row["nomis_cancelled"]:
        return Diagnosis(
            cause="it is cancelled in NOMIS alone",
            confidence="medium",
            right_side="unknown",
            explanation="It was cancelled on the NOMIS screen, or the cancellation was taken back in DPS.",
            action="Ask the prison whether it takes place. Have it cancelled in DPS, and made anew if it does: nothing "
            "schedules it again in NOMIS.",
        )
    nomis, dps = row["nomis_changed_at"], row["dps_changed_at"]
    if nomis is not None and dps is not None and nomis > dps + _SYNCHRONISED_WITHIN:
        return Diagnosis(
            cause="it was changed in NOMIS",
            confidence="low",
            right_side="DPS",
            explanation="NOMIS was changed last, and long after DPS.",
            action="Write the appointment to NOMIS again, after the prison has made the change in DPS if it is needed.",
            commands=(_resync(row["dps_id"]),),
        )
    return Diagnosis(
        cause="the event of a change was lost or failed",
        confidence="medium" if difference.given_up is None else "high",
        right_side="DPS",
        explanation=difference.given_up_text,
        action="Write the appointment to NOMIS again.",
        commands=(_resync(row["dps_id"]),),
    )


_KINDS: Final = {
    DPS_ONLY: _dps_only,
    NOMIS_ONLY: _nomis_only,
    DUPLICATE: _duplicate,
    WITHOUT_NOMIS: _without_nomis,
    WITHOUT_DPS: _without_dps,
}


def _resync(instance_id: int) -> str:
    return command("resync", "appointment", instance_id)
