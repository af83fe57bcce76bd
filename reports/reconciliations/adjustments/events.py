"""The telemetry events of the reconciliation of adjustments, as the replaced service has them.

It did not compare days: differences of days have a separate event and count, so that alerts on the others stay
what they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.engine.events import Event, Events
from reports.reconciliations.adjustments.counting import DIFFERENT_COUNTS, NAMES, differences_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.engine.result import Mismatch, ReconciliationResult, Unread
    from reports.engine.units import Population, Unit, UnlistedPart

PREFIX = "sentencing-reports-reconciliation"
#: Bookings that the summary names at most: a larger event is refused.
_MOST_NAMED = 100


class AdjustmentEvents(Events):
    """The events of a run."""

    report = f"{PREFIX}-report"
    not_run = f"{PREFIX}-not-run"
    more = f"{PREFIX}-more-mismatches"

    def requested(self, population: Population) -> Event:
        """A run over everyone begins."""
        return Event(f"{PREFIX}-requested", {})

    def mismatch(self, mismatch: Mismatch) -> Event:
        """A booking that differs; `differences` are DPS less NOMIS."""
        nomis, dps = _totals(mismatch)
        values = {each.field: (_number(each.nomis), _number(each.dps)) for each in mismatch.differences}
        if mismatch.kind == DIFFERENT_COUNTS:
            values = {name: value for name, value in values.items() if name in NAMES}
        return Event(
            f"{PREFIX}-mismatch" if mismatch.kind == DIFFERENT_COUNTS else f"{PREFIX}-days-mismatch",
            {
                "offenderNo": mismatch.offender_no,
                "bookingId": mismatch.booking_id,
                "nomisAdjustmentsCount": nomis,
                "dpsAdjustmentsCount": dps,
                "differences": differences_text(values),
            },
        )

    def unread(self, unread: Unread) -> Event:
        """A booking that could not be read on one side."""
        return Event(f"{PREFIX}-mismatch-error", {"offenderNo": unread.offender_no, "bookingId": unread.booking_id})

    def gap(self, gap: UnlistedPart) -> Event:
        """Bookings that could not be listed; `booking` is the key of their page."""
        return Event(f"{PREFIX}-mismatch-page-error", {"booking": gap.detail["booking"]})

    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """The end of a run, with how many adjustments each side has of each booking that differs in number."""
        if result.status == "failed":
            return [Event(self.report, {"success": False})]
        counted = [each for each in result.mismatches if each.kind == DIFFERENT_COUNTS]
        properties: dict[str, object] = {"mismatch-count": len(counted), "success": result.status == "complete"}
        properties["days-mismatch-count"] = len(result.mismatches) - len(counted)
        if result.status == "incomplete":
            properties |= {
                "incomplete": True,
                "bookings-checked": result.compared,
                "bookings-failed": len(result.unread),
                "pages-failed": len(result.gaps),
            }
        if len(counted) > _MOST_NAMED:
            properties["not-listed"] = len(counted) - _MOST_NAMED
        for each in counted[:_MOST_NAMED]:
            nomis, dps = _totals(each)
            properties[str(each.offender_no)] = f"{nomis}:{dps}"
        return [Event(self.report, properties)]

    def crashed(self) -> Event:
        """The end of a run without a result."""
        return Event(self.report, {"success": False})


def _totals(mismatch: Mismatch) -> tuple[int, int]:
    """How many adjustments each side counts."""
    fields = [each for name, each in mismatch.by_field.items() if name in NAMES]
    return sum(_number(each.nomis) for each in fields), sum(_number(each.dps) for each in fields)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
