"""Allocations and attendances of which NOMIS has two rows: the surplus row deleted, and recorded."""

from dataclasses import dataclass
from typing import Any

from jobs.errors import UsageError, WorkError
from jobs.operations.duplicates import closing, finding_as_dict
from jobs.runtime.application import Application
from sync.domains.activities import nomis as nomis_activities
from sync.domains.activities.duplicate_rows import CANDIDATES, NonUnique, What, known_rows, read_non_unique
from sync.store import findings
from sync.store.actions import ActionState, actions_on, was_done
from sync.store.findings import Finding, FindingKind

_ACCEPTED = "NOMIS accepted the deletion"
#: What the support team of NOMIS can look up, since no service lists these rows.
_TABLES = {
    "allocation": "OFFENDER_PROGRAM_PROFILES by CRS_ACTY_ID and OFFENDER_BOOK_ID, status ALLOC; its OFF_PRGREF_ID",
    "attendance": "OFFENDER_COURSE_ATTENDANCES by CRS_ACTY_ID, OFFENDER_BOOK_ID, EVENT_DATE and times; its EVENT_ID",
}


@dataclass(frozen=True, slots=True)
class TwoRows:
    """A pair of which NOMIS has two rows. `rows` are the numbers that are known and not deleted, the oldest first."""

    finding: Finding
    non_unique: NonUnique
    rows: tuple[int, ...]

    @property
    def surplus(self) -> int | None:
        """The row to delete: the newer of two, unless it alone has children; None when it is not known which two."""
        return self.rows[1] if len(self.rows) == 2 else None

    @property
    def command(self) -> str:
        """What deletes a row whose number a person found."""
        return f"prisoner-to-nomis activities delete-{self.non_unique.what} ID"

    @property
    def proposal(self) -> str:
        """What resolving it would do, in one line."""
        what = self.non_unique.what
        if self.surplus is not None:
            return f"delete {what} {self.surplus} and keep the older {what} {self.rows[0]}"
        known = ", ".join(map(str, self.rows)) or "none"
        return (
            f"nothing, since the two rows are not both known (known: {known}): have them looked up in NOMIS in "
            f"{_TABLES[what]}; then {self.command}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The pair as JSON shows it."""
        return {
            **finding_as_dict(self.finding),
            "what": self.non_unique.what,
            "pair": dict(self.non_unique.pair),
            "rows": list(self.rows),
            "surplus": self.surplus,
            "proposal": self.proposal,
        }


def examine_rows(application: Application, finding: Finding) -> TwoRows:
    """The rows of the pair that are known now, by the finding and by our telemetry since."""
    non_unique = read_non_unique(finding)
    told = {int(each) for each in finding.properties.get(CANDIDATES, "").split(", ") if each.isdigit()}
    with application.database.read() as connection:
        known = told.union(known_rows(connection, non_unique))
        left = [row for row in sorted(known) if not was_done(connection, *_done(non_unique.what, row))]
    return TwoRows(finding, non_unique, tuple(left))


def resolve_rows(application: Application, seen: TwoRows, who: str) -> str:
    """Deletes the surplus row and closes the finding; what was done.

    Raises `UsageError` when it is not known, `WorkError` when it is another one by now, `LeaseBusy` when another
    operator is at it, and `SyncError`.
    """
    if seen.surplus is None:
        raise UsageError(f"finding {seen.finding.id}: {seen.proposal}")
    plan = plan_row(application, seen.non_unique.what, seen.surplus)
    check_row(plan)
    if plan.pair is None or plan.pair.as_dict() != seen.as_dict():
        raise WorkError(f"finding {seen.finding.id} changed while you were asked: nothing was sent, look again")
    return delete_row(application, plan, who)


@dataclass(frozen=True, slots=True)
class RowPlan:
    """What deleting a row by its number would do.

    pair: the open finding whose rows it is one of, None where nothing here knows the row. deleted: that it was deleted
    before, and by whom, as a sentence.
    """

    what: What
    row: int
    pair: TwoRows | None
    deleted: str | None

    @property
    def unchecked(self) -> str | None:
        """What nobody checked, as a sentence; None where both rows of the pair are known."""
        if self.pair is not None and len(self.pair.rows) == 2:
            return None
        return (
            f"NOMIS has no read of {self.what}s: nobody checked that {self.what} {self.row} exists, or that it is one "
            "of two"
        )


def plan_row(application: Application, what: What, row: int) -> RowPlan:
    """What is known of a row that is to be deleted."""
    action, target = _done(what, row)
    with application.database.read() as connection:
        earlier = [each for each in actions_on(connection, action, target) if each.state is ActionState.DONE]
    deleted = (
        f"{target} was deleted by {earlier[0].who} at {earlier[0].time:%d/%m/%Y %H:%M:%S} UTC" if earlier else None
    )
    return RowPlan(what, row, _pair_of(application, what, row), deleted)


def check_row(plan: RowPlan) -> None:
    """Raises `WorkError` when the row was deleted before."""
    if plan.deleted is not None:
        raise WorkError(f"nothing was sent: {plan.deleted}")


def delete_row(application: Application, plan: RowPlan, who: str) -> str:
    """Deletes one row of NOMIS and closes the finding that names it; what NOMIS said. Raises as `resolve_rows` does."""
    what, row = plan.what, plan.row
    delete = nomis_activities.delete_allocation if what == "allocation" else nomis_activities.delete_attendance
    with application.leases.held(f"write:{what}-row:{row}"):
        again = plan_row(application, what, row)
        check_row(again)
        if again != plan:
            raise WorkError(f"what is known of {what} {row} changed while you were asked: nothing was sent, look again")
        finding = None if plan.pair is None else plan.pair.finding

        def act() -> str:
            delete(application.services.nomis, row)
            return _ACCEPTED

        action, target = _done(what, row)
        details = {"finding": finding and finding.id, "unchecked": plan.unchecked}
        closing(application, finding, action, target, details, who, act)
    return (
        f"NOMIS accepted the deletion of {what} {row}, as it does of a number that it does not have: the retry of the "
        "message shows whether it helped, so leave the message"
    )


def _done(what: What, row: int) -> tuple[str, str]:
    """Action and target of a deletion as they are recorded."""
    return f"activities delete-{what}", f"{what} {row}"


def _pair_of(application: Application, what: What, row: int) -> TwoRows | None:
    with application.database.read() as connection:
        every = findings.list_findings(connection, kind=FindingKind.NON_UNIQUE)
    pairs = (examine_rows(application, finding) for finding in every if read_non_unique(finding).what == what)
    return next((pair for pair in pairs if row in pair.rows), None)
