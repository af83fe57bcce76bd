"""Deletes the duplicate row of an allocation or attendance that has two rows in NOMIS, and records the deletion."""

from dataclasses import dataclass
from typing import Any

from jobs.errors import UsageError, WorkError
from jobs.operations.duplicates import RESOLVE, close_finding, finding_as_dict
from jobs.runtime.application import Application
from sync.alerting import command
from sync.domains.duplicate_rows import CANDIDATES, DuplicateRows, known_rows
from sync.domains.registry import duplicate_rows_of, row_kinds
from sync.store import findings
from sync.store.actions import ActionState, actions_on, was_done
from sync.store.findings import Finding, FindingKind

_ACCEPTED = "NOMIS accepted the deletion"


@dataclass(frozen=True, slots=True)
class TwoRows:
    """A pair, such as a booking and an activity, with two rows in NOMIS.

    `rows`: the numbers of the known rows that have not been deleted, the oldest first.
    """

    finding: Finding
    duplicate_rows: DuplicateRows
    rows: tuple[int, ...]

    @property
    def row_to_delete(self) -> int | None:
        """The row to delete: the newer of the two, or None unless exactly two rows are known."""
        return self.rows[1] if len(self.rows) == 2 else None

    @property
    def command(self) -> str:
        """The command that deletes a row whose number a person found."""
        return command(*_delete_command(self.duplicate_rows.kind.what).split(), "ID")

    @property
    def proposal(self) -> str:
        """What to do about the pair, on one line that begins with a verb."""
        what = self.duplicate_rows.kind.what
        if self.row_to_delete is not None:
            return f"delete {what} {self.row_to_delete} and keep the older {what} {self.rows[0]}"
        known = ", ".join(map(str, self.rows)) or "none"
        return (
            f"look up both rows (known: {known}) in the NOMIS database with this SQL, or have the support team do so. "
            f"Then type {self.command}, where ID is the {self.duplicate_rows.kind.column} of the row to delete. If the "
            f"finding is open after that, type {closing_command(self.finding.id, 'ID')}"
        )

    @property
    def resolvable(self) -> bool:
        """Whether `duplicates resolve` can delete a row: the finding is open, and both rows are known."""
        return self.finding.status == "open" and self.row_to_delete is not None

    def as_dict(self) -> dict[str, Any]:
        """The pair as a JSON object."""
        return {
            **finding_as_dict(self.finding),
            "what": self.duplicate_rows.kind.what,
            "pair": dict(self.duplicate_rows.key),
            "rows": list(self.rows),
            "surplus": self.row_to_delete,
            "proposal": self.proposal,
            "sql": list(self.duplicate_rows.sql),
        }


def closing_command(finding: int | str, row: int | str) -> str:
    """The command that closes a finding about two rows after the deletion of a row that the finding does not name."""
    return command(*RESOLVE.split(), finding, "--by-hand", f"deleted {row}")


def examine_rows(application: Application, finding: Finding) -> TwoRows:
    """The pair that a finding is about, with the undeleted rows that the finding or the telemetry names."""
    duplicate_rows = duplicate_rows_of(finding)
    kind = duplicate_rows.kind
    recorded = {int(each) for each in finding.properties.get(CANDIDATES, "").split(", ") if each.isdigit()}
    with application.database.read() as connection:
        known = recorded.union(known_rows(connection, duplicate_rows))
        left = [
            row
            for row in sorted(known)
            if not any(was_done(connection, action, f"{kind.what} {row}") for action in _deletions(kind.what))
        ]
    return TwoRows(finding, duplicate_rows, tuple(left))


def resolve_rows(application: Application, seen: TwoRows, who: str) -> str:
    """Deletes the duplicate row and closes the finding in the name of `who`. Returns what was done.

    seen: the pair as the operator saw it. Raises `UsageError` if the row to delete is not known, `WorkError` if the
    pair has changed or the row has already been deleted, `LeaseBusy` if another operator is deleting the row, and
    `SyncError`.
    """
    if seen.row_to_delete is None:
        raise UsageError(f"finding {seen.finding.id}: {seen.proposal}")
    plan = plan_row(application, seen.duplicate_rows.kind.what, seen.row_to_delete)
    check_row(plan)
    if plan.pair is None or plan.pair.as_dict() != seen.as_dict():
        raise WorkError(
            f"finding {seen.finding.id} changed before you confirmed: nothing was sent; run the command again"
        )
    return delete_row(application, plan, who, RESOLVE)


@dataclass(frozen=True, slots=True)
class RowPlan:
    """The plan to delete a row by its number.

    pair: the pair of the open finding about the row, or None if no open finding is known to be about it. deleted: a
    sentence that says who has already deleted the row and when, or None.
    """

    what: str
    row: int
    pair: TwoRows | None
    deleted: str | None

    @property
    def unchecked(self) -> str | None:
        """A sentence that says what nobody has checked, or None if both rows of the pair are known."""
        if self.pair is not None and len(self.pair.rows) == 2:
            return None
        return (
            f"NOMIS cannot show {self.what}s: nobody has checked that {self.what} {self.row} exists, or that it "
            f"is one of two {self.what}s"
        )


def plan_row(application: Application, what: str, row: int) -> RowPlan:
    """Plans to delete the row with the number `row`: looks up its pair and any earlier deletion."""
    target = f"{what} {row}"
    with application.database.read() as connection:
        every = [each for action in _deletions(what) for each in actions_on(connection, action, target)]
    earlier = [each for each in every if each.state is ActionState.DONE]
    deleted = (
        f"{target} was deleted by {earlier[0].who} at {earlier[0].time:%d/%m/%Y %H:%M:%S} UTC" if earlier else None
    )
    return RowPlan(what, row, _pair_of(application, what, row), deleted)


def check_row(plan: RowPlan) -> None:
    """Raises `WorkError` if the row has already been deleted."""
    if plan.deleted is not None:
        raise WorkError(f"nothing was sent: {plan.deleted}")


def delete_row(application: Application, plan: RowPlan, who: str, action: str | None = None) -> str:
    """Deletes the row in NOMIS in the name of `who`, and closes the finding about it, if there is one.

    action: the command under which the deletion is recorded; by default, the command that deletes one row by its
    number. Returns what was done. Raises `WorkError` if the row has already been deleted or the plan has changed,
    `LeaseBusy` if another operator is deleting the row, and `SyncError`.
    """
    what, row = plan.what, plan.row
    delete = row_kinds()[what].delete
    with application.leases.held(f"write:{what}-row:{row}"):
        again = plan_row(application, what, row)
        check_row(again)
        if again != plan:
            raise WorkError(
                f"the facts about {what} {row} changed before you confirmed: nothing was sent; run the command again"
            )
        finding = None if plan.pair is None else plan.pair.finding

        def act() -> str:
            delete(application.services.nomis, row)
            return _ACCEPTED

        action = action or _delete_command(what)
        details = {"finding": finding and finding.id, "unchecked": plan.unchecked}
        close_finding(application, finding, action, f"{what} {row}", details, who, act)
    next_step = _next_step(application, plan)
    return f"{_ACCEPTED} of {what} {row}, but it accepts unknown numbers too. {next_step}"


def _next_step(application: Application, plan: RowPlan) -> str:
    """What to do once the row has been deleted. Housekeeping keeps the failed message while its finding is open."""
    what, row = plan.what, plan.row
    open_findings = _open_findings(application, what)
    if plan.pair is not None or not open_findings:
        return "Leave the failed message to housekeeping: a retry shows whether the deletion helped"
    kept = "housekeeping does not send a message back while its finding is open"
    if len(open_findings) == 1:
        number = open_findings[0].id
        return (
            f"Finding {number} about two {what}s is open, and {kept}. If {what} {row} was one of the two, "
            f"type: {closing_command(number, row)}"
        )
    return (
        f"{len(open_findings)} findings about {what}s are open, and {kept}. If {what} {row} belonged to one of them, "
        f"type: {closing_command('ID', row)}, with the id of its finding in `{command('duplicates', 'list')}`"
    )


def _delete_command(what: str) -> str:
    return f"activities delete-{what}"


def _deletions(what: str) -> tuple[str, str]:
    """The commands that delete a row, under the names that the recorded actions have."""
    return _delete_command(what), RESOLVE


def _pair_of(application: Application, what: str, row: int) -> TwoRows | None:
    pairs = (examine_rows(application, finding) for finding in _open_findings(application, what))
    return next((pair for pair in pairs if row in pair.rows), None)


def _open_findings(application: Application, what: str) -> list[Finding]:
    with application.database.read() as connection:
        every = findings.list_findings(connection, kind=FindingKind.NON_UNIQUE)
    return [finding for finding in every if finding.key.startswith(row_kinds()[what].key_prefix)]
