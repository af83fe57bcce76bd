"""Registers the reconciliations, with an entry for each.

Commands, jobs, settings and documents are derived from the entries. Importing this module does not import the
reconciliations: they need pandas, which takes a long time to import, and most commands do not need them. Nor does it
import the settings, which the commands' help does not need.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.engine.reconciliation import Reconciliation
    from reports.engine.result import ReconciliationResult
    from reports.presentation.view import View
    from sync.settings.declaration import Settings

#: Which days can be chosen: none, one (`--date`), a first and a last day (`--from`, `--to`), or only a first day
#: (`--since`).
Days = Literal["none", "one", "range", "since"]


@dataclass(frozen=True, slots=True)
class Entry:
    """The entry of a reconciliation.

    name, title: as in the reconciliation's class. implementation: where that class is, as `module:name`. cron: when the
    reconciliation runs by default, in the time zone of the schedules. days: which days can be chosen. of_bookings:
    whether a booking id alone identifies its records, so that the list of exclusions has booking ids. by_prisoner:
    whether prisoners can be chosen. own_folder: whether its files are archived in a folder named after it; the files of
    incentives are at the root, where they were before there were other reconciliations. result, view: where the class
    of its results and the class of their view are; by default, these are the general classes.
    """

    name: str
    title: str
    implementation: str
    cron: str
    days: Days = "none"
    of_bookings: bool = False
    by_prisoner: bool = True
    own_folder: bool = True
    result: str = "reports.engine.result:ReconciliationResult"
    view: str = "reports.presentation.view:View"

    @property
    def job(self) -> str:
        """The name of the reconciliation's job."""
        return f"reconcile-{self.name}"

    @property
    def not_run(self) -> str:
        """The name of the alert for a run without a result."""
        return f"{self.name}-reports-reconciliation-not-run"

    @property
    def schedule_setting(self) -> str:
        """The variable that holds the reconciliation's schedule."""
        from sync.settings.variables import reconciliation_variable

        return reconciliation_variable(self.name, "SCHEDULE")

    @property
    def switch_setting(self) -> str:
        """The variable that says whether the scheduler runs the reconciliation."""
        from sync.settings.variables import reconciliation_switch

        return reconciliation_switch(self.name)

    def cron_of(self, settings: Settings) -> str:
        """The reconciliation's schedule as a cron line: the one in the settings, or else the default."""
        return settings.reconciliation_variable(self.schedule_setting) or self.cron

    def is_on(self, settings: Settings) -> bool:
        """Whether the scheduler runs the reconciliation: as its own switch says, or else the switch for all of them."""
        from sync.settings.parsing import parse_flag

        switch = settings.reconciliation_variable(self.switch_setting)
        return settings.scheduler_reconciliation if switch is None else parse_flag(switch)

    def load(self) -> type[Reconciliation]:
        """Imports and returns the reconciliation's class, which takes the services, settings and scope of a run."""
        found: type[Reconciliation] = _import(self.implementation)
        return found

    def load_result(self) -> type[ReconciliationResult]:
        """Imports and returns the class of the reconciliation's results. This does not import pandas."""
        found: type[ReconciliationResult] = _import(self.result)
        return found

    def load_view(self) -> type[View]:
        """Imports and returns the view class for the reconciliation's results. This does not import pandas."""
        found: type[View] = _import(self.view)
        return found


def _import(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


_HERE = "reports.reconciliations"
_LISTED = (
    Entry(
        "incentives",
        "Incentive levels",
        f"{_HERE}.incentives.reconciliation:Incentives",
        "0 4 * * 1",
        of_bookings=True,
        own_folder=False,
        result=f"{_HERE}.incentives.result:IncentiveResult",
        view=f"{_HERE}.incentives.view:IncentiveView",
    ),
    Entry("allocations", "Allocations", f"{_HERE}.activities.allocations:Allocations", "5 7 * * *", by_prisoner=False),
    Entry(
        "suspended-allocations",
        "Suspended allocations",
        f"{_HERE}.activities.allocations:SuspendedAllocations",
        "35 7 * * *",
        by_prisoner=False,
    ),
    Entry(
        "attendances",
        "Attendances with pay",
        f"{_HERE}.activities.attendances:Attendances",
        "5 1 * * *",
        "one",
        by_prisoner=False,
    ),
    Entry("appointments", "Appointments", f"{_HERE}.appointments.reconciliation:Appointments", "5 0 * * *", "range"),
    Entry(
        "adjustments",
        "Sentencing adjustments",
        f"{_HERE}.adjustments.reconciliation:Adjustments",
        "50 1 * * *",
        "since",
        of_bookings=True,
        view=f"{_HERE}.adjustments.view:AdjustmentView",
    ),
    Entry(
        "visits",
        "Visits",
        f"{_HERE}.visits.reconciliation:Visits",
        "20 5 * * *",
        "range",
        result=f"{_HERE}.visits.result:VisitResult",
        view=f"{_HERE}.visits.view:VisitView",
    ),
)
#: The reconciliations by name.
RECONCILIATIONS: Mapping[str, Entry] = {each.name: each for each in _LISTED}


def entry_of_job(job: str) -> Entry | None:
    """The entry of the reconciliation that the job named `job` runs, or None if that job does not run one."""
    return next((each for each in _LISTED if each.job == job), None)
