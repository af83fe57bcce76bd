"""Attendances with pay: how many each booking has on one day in NOMIS and in DPS. The pay itself is not compared."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.engine.causes import Cause
from reports.engine.fields import Field
from reports.reconciliations.activities.counting import (
    DPS_ONLY,
    NOMIS_ONLY,
    CountEvents,
    CountReconciliation,
    kinds_of,
    not_synchronised,
)
from sync.domains.activities import counts
from sync.domains.activities import dps as activities_api
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reports.engine.causes import Difference
    from reports.engine.reconciliation import Reads
    from reports.engine.result import Diagnosis, Mismatch, ReconciliationResult
    from reports.engine.telemetry import Event, Events
    from reports.engine.units import Unit
    from sync.settings.declaration import Settings

#: The words in a refusal by NOMIS that say that payroll has already paid for the attendance.
_PAID = re.compile(r"already (been )?paid", re.IGNORECASE)


_OTHER_BOOKING = Cause(
    "the prisoner was put back on another booking, and NOMIS paid on the first booking",
    "unknown",
    "There is nothing to do: the prisoner was paid once.",
    sentence=(
        "NOMIS paid on booking {nomis_other_booking}, and DPS counts the same number of attendances on booking "
        "{booking_id}."
    ),
    who="nobody",
)
_PAID_BEFORE = Cause(
    "payroll had paid in NOMIS before DPS changed the pay",
    "DPS",
    "There is nothing to do in NOMIS, which will not accept the change. Inform the DPS team, and purge the message.",
    who="the DPS team",
)
_PAY_LOST = not_synchronised("the attendance with pay did not reach NOMIS", "attendance")
_PAY_TAKEN_BACK = not_synchronised(
    "DPS withdrew the pay, and NOMIS did not get the change or had already paid", "attendance"
)
_IN_NOMIS_ALONE = Cause(
    "NOMIS has an attendance with pay that DPS does not have",
    "unknown",
    "Check in NOMIS who recorded the attendance, and ask the prison whether it is correct.",
    sentence="NOMIS counts {nomis_count}. DPS has no further attendance of the prisoner on that day, not even one "
    "without pay.",
    confidence="medium",
)


#: The field with the prisoner's other booking, on which NOMIS paid.
OTHER_BOOKING = "other_booking"


class Attendances(CountReconciliation):
    """Yesterday's attendances, or those of a chosen day, as the services have them now."""

    name = "attendances"
    title = "Attendances with pay"
    kinds = kinds_of("paid")
    key = {**CountReconciliation.key, "date": "string"}
    fields = (
        *CountReconciliation.fields,
        Field(OTHER_BOOKING, "Paid on another booking", "Int64", compared=False),
    )
    nouns = {"NOMIS": "NOMIS attendances", "DPS": "DPS attendances"}
    record = "attendance"
    events_begin = "activity-attendance-reconciliation-report"

    @classmethod
    def window(cls, settings: Settings, today: date) -> tuple[date, date]:
        """Yesterday only, because the pay for that day is settled."""
        return today - timedelta(days=1), today - timedelta(days=1)

    @property
    def day(self) -> date:
        """The day that is compared."""
        return self.days[0]

    @property
    def further_key(self) -> Mapping[str, str]:
        """The day that is compared, as `date` (ISO): a booking has different counts on different days."""
        return {"date": self.day.isoformat()}

    def read_nomis(self, prison_id: str) -> dict[int, int]:
        """How many attendances with pay NOMIS has at the prison on the day, by booking."""
        return counts.nomis_attendances(self.services.nomis, prison_id, self.day)

    def read_dps(self, prison_id: str) -> dict[int, int]:
        """How many attendances with pay DPS has at the prison on the day, by booking."""
        return counts.dps_attendances(self.services[UpstreamName.ACTIVITIES], prison_id, self.day)

    def read_records(self, prison_id: str, rows: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
        """Every attendance at the prison on the day, paid or not, of the prisoners in `rows`, by booking.

        Each has its `id`, `status`, `reason` and `paid`.
        """
        attendances = activities_api.attendances_of_day(self.services[UpstreamName.ACTIVITIES], prison_id, self.day)
        of_prisoner: dict[str, list[dict[str, Any]]] = {}
        for each in attendances:
            record = {"id": each.attendance_id, "status": each.status, "reason": each.attendance_reason_code}
            of_prisoner.setdefault(each.prisoner_number, []).append({**record, "paid": bool(each.issue_payment)})
        numbers = zip(rows["booking_id"].tolist(), rows["offender_no"].tolist(), strict=True)
        return {booking_id: of_prisoner.get(number, []) for booking_id, number in numbers}

    def describe(self, rows: pd.DataFrame, reads: Reads) -> pd.DataFrame:
        """Adds what `CountReconciliation` adds, and joins the two differences of a prisoner paid on another booking.

        NOMIS paid such a prisoner on one booking, and DPS counts the attendances on another. The two differences are
        joined even if only one of the bookings is still at the prison, because NOMIS may have closed the other.
        """
        found = super().describe(rows, reads)
        here = found["ignored"].isna()
        pairs = _pairs(found)
        pairs = pairs[here[pairs["dps"]].to_numpy() | here[pairs["nomis"]].to_numpy()]
        dps, nomis = pairs["dps"], pairs["nomis"]
        found.loc[dps, f"nomis_{OTHER_BOOKING}"] = found.loc[nomis, "booking_id"].to_numpy()
        found.loc[dps, "ignored"] = pd.NA
        found.loc[nomis, "ignored"] = "shown with the prisoner's other booking"
        return found

    def events(self) -> Events:
        """The events of a run, as the replaced service sent them; each has the property `date`."""
        return _AttendanceEvents(self.events_begin, self.further_key)

    def evidence(self, record: Mapping[str, Any]) -> str:
        """An attendance in words, with its status, its reason, and whether it is paid."""
        paid = "with pay" if record["paid"] else "without pay"
        return f"attendance {record['id']}: {record['status']}, {record['reason'] or 'no reason'}, {paid}"

    def diagnose(self, difference: Difference, records: Sequence[Mapping[str, Any]]) -> Diagnosis:
        """The diagnosis of a difference.

        It is based on the prisoner's other booking, on a refusal by NOMIS, or on which side has more attendances.
        """
        row = difference.row
        if row[f"nomis_{OTHER_BOOKING}"] is not None:
            return _OTHER_BOOKING.diagnosis(difference)
        if difference.given_up is not None and _PAID.search(difference.given_up):
            return _PAID_BEFORE.diagnosis(difference, explanation=difference.given_up_text)
        if (row["dps_count"] or 0) > (row["nomis_count"] or 0):
            paid = [each for each in records if each["paid"]]
            return self.to_synchronise(difference, _PAY_LOST, paid)
        unpaid = [each for each in records if not each["paid"]]
        if not unpaid and row["dps_unread"] is None:
            return _IN_NOMIS_ALONE.diagnosis(difference)
        return self.to_synchronise(difference, _PAY_TAKEN_BACK, unpaid)


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Pairs of rows with the same prisoner, prison and count: one row is `DPS_ONLY`, the other `NOMIS_ONLY`.

    The columns `dps` and `nomis` hold the index of the row of that kind.
    """
    sides = []
    for name, kind, count in (("dps", DPS_ONLY, "dps_count"), ("nomis", NOMIS_ONLY, "nomis_count")):
        side = rows.loc[(rows["kind"] == kind) & rows["offender_no"].notna(), ["prison_id", "offender_no", count]]
        side = side.rename(columns={count: "count"})
        # Several rows of one prisoner are paired one by one.
        side["place"] = side.groupby(["prison_id", "offender_no", "count"]).cumcount()
        sides.append(side.reset_index(names=name))
    return sides[0].merge(sides[1], on=["prison_id", "offender_no", "count", "place"])[["dps", "nomis"]]


class _AttendanceEvents(CountEvents):
    def __init__(self, prefix: str, about: Mapping[str, str]) -> None:
        super().__init__(prefix, about)
        #: The events for the other bookings of prisoners who have already had an event.
        self._others: list[Event] = []

    def mismatch(self, mismatch: Mismatch) -> Event:
        other = next((each.nomis for each in mismatch.other_fields if each.field == OTHER_BOOKING), None)
        if other is not None:
            self._others.append(self.failed(mismatch, NOMIS_ONLY, other))
        return super().mismatch(mismatch)

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """The events of the run, preceded by the second event of each difference that involves two bookings."""
        yield from self._others
        yield from super().summary(result, units)
