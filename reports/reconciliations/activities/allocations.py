"""Active and suspended allocations to activities: how many each booking has in NOMIS and in DPS.

Unlock lists and pay depend on the allocations in NOMIS. Without an allocation there, no attendance of the prisoner can
be written. A suspended allocation must be suspended in NOMIS too; otherwise, it leads to attendances with pay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from reports.engine.causes import Cause
from reports.reconciliations.activities.counting import (
    CountReconciliation,
    kinds_of,
    not_synchronised,
)
from sync.domains import nomis_sql
from sync.domains.activities import counts
from sync.domains.activities import dps as activities_api
from sync.domains.repair_declaration import SUPPORT_CHANNEL
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pandas as pd

    from reports.engine.causes import Difference
    from reports.engine.result import Diagnosis


_END_LOST = not_synchronised("the end of the allocation did not reach NOMIS", "allocation")
_SUSPENSION_LOST = not_synchronised("the suspension of the allocation did not reach NOMIS", "allocation")
_IN_NOMIS_ALONE = Cause(
    "NOMIS has an allocation that DPS does not have",
    "unknown",
    "Check in NOMIS who made the allocation, and ask the prison whether it is correct.",
    sentence="NOMIS counts {nomis_count}. DPS has no further allocation that has begun for the booking at this prison, "
    "not even one that has ended.",
    confidence="medium",
)
#: The booking is no longer at the prison, so one of the two sides did not end the allocation.
_LEFT_IN_DPS = Cause(
    "the prisoner moved or was released, and DPS still has the allocation",
    "NOMIS",
    "Check again tomorrow, because DPS ends the allocation overnight. If DPS still has it then, ask the DPS team why.",
    sentence="The booking is at {nomis_location}, not at {prison_id}.",
)
_LEFT_IN_NOMIS = replace(
    _LEFT_IN_DPS,
    name="the prisoner moved or was released, and NOMIS did not end the allocation",
    right_side="DPS",
    action="Write the allocation to NOMIS again; if NOMIS refuses it, ask NOMIS support to end it.",
)
#: The request to NOMIS support.
_END_ALLOCATION = (
    f"To {SUPPORT_CHANNEL}: please end the allocation of prisoner {{offender_no}}, booking {{booking_id}}, at "
    "{prison_id}. The booking is now at {nomis_location}, and DPS does not count the allocation as active."
)


class Allocations(CountReconciliation):
    """Active allocations.

    Those of bookings that are no longer at the prison count too: the prison's schedules show them.
    """

    name = "allocations"
    title = "Allocations"
    kinds = kinds_of("allocated")
    nouns = {"NOMIS": "NOMIS allocations", "DPS": "DPS allocations"}
    record = "allocation"
    events_begin = "activity-allocation-reconciliation-report"
    elsewhere_ignored = False
    suspended: ClassVar[bool] = False
    #: The statuses in DPS that are counted.
    statuses: ClassVar[Collection[str]] = frozenset({"ACTIVE"})
    #: Why a booking at the prison has more allocations in DPS, why it has more in NOMIS, and why it has more in NOMIS
    #: although DPS has an open allocation with another status.
    causes: ClassVar[tuple[Cause, Cause, Cause]] = (
        not_synchronised("the allocation did not reach NOMIS", "allocation"),
        _END_LOST,
        _SUSPENSION_LOST,
    )

    def read_nomis(self, prison_id: str) -> dict[int, int]:
        """The number of allocations in NOMIS to the prison's activities, by booking."""
        return counts.nomis_allocations(self.services.nomis, prison_id, suspended=self.suspended)

    def read_dps(self, prison_id: str) -> dict[int, int]:
        """The number of allocations in DPS to the prison's activities, by booking."""
        return counts.dps_allocations(self.services[UpstreamName.ACTIVITIES], prison_id, suspended=self.suspended)

    def read_records(self, prison_id: str, rows: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
        """Every allocation at the prison, ended or not, of the prisoners in `rows`, by booking.

        Each has its `id`, `status`, `schedule`, `start` and `end`.
        """
        found: dict[int, list[dict[str, Any]]] = {}
        numbers = sorted(set(rows["offender_no"]))
        allocations = activities_api.prisoner_allocations(self.services[UpstreamName.ACTIVITIES], prison_id, numbers)
        for each in (allocation for of_prisoner in allocations.values() for allocation in of_prisoner):
            record = {"id": each.id, "status": each.status, "schedule": each.schedule_id}
            record |= {"start": each.start_date.isoformat(), "end": each.end_date and each.end_date.isoformat()}
            found.setdefault(each.booking_id, []).append(record)
        return found

    def evidence(self, record: Mapping[str, Any]) -> str:
        """An allocation in words, with its schedule, status and dates."""
        until = f" until {record['end']}" if record["end"] else ""
        dates = f"from {record['start']}{until}"
        return f"allocation {record['id']} to schedule {record['schedule']}: {record['status']}, {dates}"

    def diagnose(self, difference: Difference, records: Sequence[Mapping[str, Any]]) -> Diagnosis:
        """The diagnosis of a difference.

        It is based on where the booking is, which side has more allocations, and the statuses of the DPS allocations.
        """
        row = difference.row
        others = [each for each in records if each["status"] not in self.statuses]
        more_in_dps = (row["dps_count"] or 0) > (row["nomis_count"] or 0)
        if row["nomis_location"] != row["prison_id"]:
            if more_in_dps:
                return _LEFT_IN_DPS.diagnosis(difference)
            return _LEFT_IN_NOMIS.diagnosis(
                difference,
                commands=self.commands(row, others),
                request=_END_ALLOCATION.format_map(row),
                lookup=_open_allocations(row["booking_id"]),
            )
        if not more_in_dps and row["dps_unread"] is None and all(each["status"] == "PENDING" for each in others):
            return _IN_NOMIS_ALONE.diagnosis(difference)
        lacking, over, other_status = self.causes
        if more_in_dps:
            return self.to_synchronise(
                difference, lacking, [each for each in records if each["status"] in self.statuses]
            )
        is_open = any(each["status"] not in ("ENDED", "PENDING") for each in others)
        return self.to_synchronise(difference, other_status if is_open else over, others or list(records))


class SuspendedAllocations(Allocations):
    """Suspended allocations. Bookings now at another prison are left out: that prison often ends their allocations."""

    name = "suspended-allocations"
    title = "Suspended allocations"
    kinds = kinds_of("suspended")
    nouns = {"NOMIS": "suspended NOMIS allocations", "DPS": "suspended DPS allocations"}
    events_begin = "activity-suspended-allocation-reconciliation-report"
    elsewhere_ignored = True
    suspended = True
    statuses = frozenset({"SUSPENDED", "AUTO_SUSPENDED", "SUSPENDED_WITH_PAY"})
    causes = (
        _SUSPENSION_LOST,
        _END_LOST,
        not_synchronised("the end of the suspension did not reach NOMIS", "allocation"),
    )


def _open_allocations(booking_id: object) -> str:
    """The SQL that finds the open allocations of a booking; it is needed because no service lists their NOMIS ids."""
    conditions = {
        "OFFENDER_BOOK_ID": nomis_sql.number(booking_id),
        "OFFENDER_PROGRAM_STATUS": nomis_sql.code("ALLOC"),
    }
    return nomis_sql.select("OFFENDER_PROGRAM_PROFILES", "OFF_PRGREF_ID", conditions)
