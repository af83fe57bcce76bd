"""The telemetry events of the reconciliations of allocations and attendances."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from reports.engine.events import Event, Events
from reports.reconciliations.activities.counting import NOMIS_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reports.engine.result import Mismatch, ReconciliationResult
    from reports.engine.units import Population, Unit, UnlistedPart

#: What events say instead of a prisoner number for a booking that NOMIS does not have.
NO_DETAILS = "Details not found in NOMIS"
#: The field with the other booking of a prisoner who was paid on two.
OTHER_BOOKING = "other_booking"


class CountEvents(Events):
    """The events of a run, named and with the properties of the replaced service; `about` are in every one.

    That service has no event of the whole run (`report`); here one says whether anything was left unread.
    """

    _prefix: ClassVar[str]

    def __init__(self, about: Mapping[str, str]) -> None:
        self._about = about

    def requested(self, population: Population) -> Event:
        prisons = ", ".join(sorted(unit.id for unit in population.units))
        return self._event("requested", {"prisons": f"[{prisons}]"})

    def gap(self, gap: UnlistedPart) -> Event:
        return self._event("error", {"prison": gap.detail["prison"]})

    def mismatch(self, mismatch: Mismatch) -> Event:
        return self._failed(mismatch, mismatch.kind, mismatch.booking_id)

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        failed = {each.unit or each.prison_id or "" for each in result.unread}
        differ = {each.prison_id for each in (*result.mismatches, *result.in_flight, *result.unconfirmed)}
        if result.status == "failed" and not units:
            yield self._event("error", {})
        for prison_id in sorted(failed):
            yield self._event("error", {"prison": prison_id})
        if result.status != "failed":
            for unit in units:
                if unit.id not in failed and unit.id not in differ:
                    yield self._event("success", {"prison": unit.id})
        yield Event(
            self.report,
            {
                **self._about,
                "mismatch-count": len(result.mismatches),
                "success": result.status == "complete",
                "incomplete": result.status == "incomplete",
                "prisons": len(units),
                "prisons-failed": len(failed),
                "bookings-checked": result.compared,
            },
        )

    def crashed(self) -> Event:
        return self._event("error", {})

    def _failed(self, mismatch: Mismatch, kind: str, booking_id: object) -> Event:
        known = next((each.nomis for each in mismatch.other_fields if each.field == "location"), None)
        return self._event(
            "failed",
            {
                "prison": mismatch.prison_id,
                "type": kind,
                "bookingId": booking_id,
                "offenderNo": mismatch.offender_no or NO_DETAILS,
                "location": known or mismatch.prison_id,
            },
        )

    def _event(self, what: str, properties: Mapping[str, object]) -> Event:
        return Event(f"{self._prefix}-{what}", {**properties, **self._about})


class AllocationEvents(CountEvents):
    """The events of the reconciliation of active allocations."""

    _prefix = "activity-allocation-reconciliation-report"
    report = _prefix
    more = f"{_prefix}-more"


class SuspendedAllocationEvents(CountEvents):
    """The events of the reconciliation of suspended allocations."""

    _prefix = "activity-suspended-allocation-reconciliation-report"
    report = _prefix
    more = f"{_prefix}-more"


class AttendanceEvents(CountEvents):
    """The events of the reconciliation of attendances; each has the `date`."""

    _prefix = "activity-attendance-reconciliation-report"
    report = _prefix
    more = f"{_prefix}-more"

    def __init__(self, about: Mapping[str, str]) -> None:
        super().__init__(about)
        #: The events of the other bookings of those that had an event.
        self._others: list[Event] = []

    def mismatch(self, mismatch: Mismatch) -> Event:
        other = next((each.nomis for each in mismatch.other_fields if each.field == OTHER_BOOKING), None)
        if other is not None:
            self._others.append(self._failed(mismatch, NOMIS_ONLY, other))
        return super().mismatch(mismatch)

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """A finding about two bookings of one prisoner has the event of the other booking here."""
        yield from self._others
        yield from super().summary(result, units)
