"""Allocations and attendances of which NOMIS has two rows: the surplus row deleted, and recorded."""

from dataclasses import dataclass
from typing import Any

from jobs.composition import Program
from jobs.duplicates import closing, finding_as_dict
from jobs.endings import UsageError
from sync.non_unique import CANDIDATES, NonUnique, What, known_rows, read_non_unique
from sync.store import findings
from sync.store.actions import was_done
from sync.store.findings import Finding, FindingKind
from sync.upstream import nomis_activities

_DELETED = "deleted"
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


def examine_rows(program: Program, finding: Finding) -> TwoRows:
    """The rows of the pair that are known now, by the finding and by our telemetry since."""
    non_unique = read_non_unique(finding)
    told = {int(each) for each in finding.properties.get(CANDIDATES, "").split(", ") if each.isdigit()}
    with program.database.read() as connection:
        known = told.union(known_rows(connection, non_unique))
        left = [row for row in sorted(known) if not was_done(connection, *_done(non_unique.what, row))]
    return TwoRows(finding, non_unique, tuple(left))


def resolve_rows(program: Program, found: TwoRows, who: str) -> str:
    """Deletes the surplus row and closes the finding. Raises `UsageError` when it is not known, and `SyncError`."""
    if found.surplus is None:
        raise UsageError(f"finding {found.finding.id}: {found.proposal}")
    return delete_row(program, found.non_unique.what, found.surplus, who, found.finding)


def delete_row(program: Program, what: What, row: int, who: str, finding: Finding | None = None) -> str:
    """Deletes one row of NOMIS and closes `finding`, or else the finding that names the row. Raises `SyncError`.

    NOMIS answers the same whether the row was there; the next delivery of the message that failed tells whether it
    helped.
    """
    finding = finding or _finding_of(program, what, row)
    delete = nomis_activities.delete_allocation if what == "allocation" else nomis_activities.delete_attendance

    def act() -> str:
        delete(program.services.nomis, row)
        return _DELETED

    action, target = _done(what, row)
    return closing(program, finding, action, target, {"finding": finding and finding.id}, who, act)


def _done(what: What, row: int) -> tuple[str, str]:
    """Action and target of a deletion as they are recorded."""
    return f"activities delete-{what}", f"{what} {row}"


def _finding_of(program: Program, what: What, row: int) -> Finding | None:
    with program.database.read() as connection:
        every = findings.list_findings(connection, kind=FindingKind.NON_UNIQUE)
    for finding in every:
        if read_non_unique(finding).what == what and row in examine_rows(program, finding).rows:
            return finding
    return None
