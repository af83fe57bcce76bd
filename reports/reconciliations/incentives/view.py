"""The view of incentive levels: their order and codes, both current records, which level is higher, and the matrix."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from reports.presentation.counts import Count, code, counts, query
from reports.presentation.text import count, day, exact_moment, thousands
from reports.presentation.view import View
from reports.presentation.view_parts import Codes, Row, ShownValue, Table, named_codes
from reports.reconciliations.incentives.causes import CAUSES
from reports.reconciliations.incentives.events import ALERTS, REPORT
from reports.reconciliations.incentives.result import IncentiveDiagnosis, IncentiveMismatch, IncentiveResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.engine.result import Diagnosis, Mismatch, ReconciliationResult, Record, Resolved, Unconfirmed
    from reports.presentation.view import SideKey
    from reports.reconciliations.incentives.result import Side


#: The levels from the lowest to the highest, as NOMIS orders them.
LEVELS: Mapping[str, str] = {
    "BAS": "Basic",
    "ENT": "Entry",
    "STD": "Standard",
    "ENH": "Enhanced",
    "EN2": "Enhanced 2",
    "EN3": "Enhanced 3",
}
#: What made a record: the audit module in NOMIS, or the kind of the review in DPS.
ORIGINS: Mapping[str, str] = {
    "JDBC Thin Client": "NOMIS record written by this program or by another service",
    "OIDOIEPS": "NOMIS record made by a user on the incentive screen",
    "OIDITRAN": "NOMIS record made by NOMIS itself on a transfer",
    "OIDADMIS": "NOMIS record made by NOMIS itself on an admission",
    "MERGE": "NOMIS record made by NOMIS itself on a merge of two prisoners",
    "OSIOSEAR": "NOMIS record made by another part of NOMIS",
    "OCUWARNG": "NOMIS record made by another part of NOMIS",
    "PRISON_API": "NOMIS record made through the prison API",
    "REVIEW": "DPS review made by staff",
    "INITIAL": "DPS review made by DPS itself on a new admission",
    "READMISSION": "DPS review made by DPS itself on a readmission",
    "TRANSFER": "DPS review made by DPS itself on a transfer",
    "MIGRATED": "DPS review copied from NOMIS when DPS took over",
}


#: The levels that DPS assigns, in its order. DPS no longer assigns Entry, so Standard is the level after Basic.
_STEPS = {level: step for step, level in enumerate(level for level in LEVELS if level != "ENT")}


def direction_of(mismatch: IncentiveMismatch) -> str:
    """The direction of a difference, as a key of `DIRECTIONS`: `nomis-1`, for example, if NOMIS is one level higher."""
    if mismatch.nomis_level is None:
        return "no-nomis-level"
    if mismatch.dps_level is None:
        return "no-dps-level"
    nomis, dps = _STEPS.get(mismatch.nomis_level), _STEPS.get(mismatch.dps_level)
    if nomis is None or dps is None:
        return "unknown"
    return f"nomis-{nomis - dps}" if nomis > dps else f"dps-{dps - nomis}"


def _higher(side: str, steps: int) -> tuple[str, str]:
    return f"{side.lower()}-{steps}", f"{side} is {steps} level{'' if steps == 1 else 's'} higher"


#: Every direction with its name: from much higher in NOMIS to much higher in DPS, then the directions without a
#: distance.
DIRECTIONS: Mapping[str, str] = {
    **dict(_higher("NOMIS", steps) for steps in range(len(_STEPS) - 1, 0, -1)),
    **dict(_higher("DPS", steps) for steps in range(1, len(_STEPS))),
    "no-nomis-level": "No level in NOMIS",
    "no-dps-level": "No level in DPS",
    "unknown": "Levels without a known order",
}


#: The columns of the CSV, in their order. Times are in London time, to the second, except `since`, which is UTC.
COLUMNS = (
    "run_id",
    "offender_no",
    "booking_id",
    "prison_id",
    "nomis_level",
    "dps_level",
    "standing",
    "since",
    "nomis_date_time",
    "nomis_prison_id",
    "nomis_audit_module",
    "nomis_user_id",
    "nomis_sequence",
    "dps_date_time",
    "dps_prison_id",
    "dps_review_type",
    "dps_user_id",
    "dps_review_id",
    "cause_number",
    "cause",
    "confidence",
    "right_side",
    "explanation",
    "action",
    "commands",
    "request",
    "row",
    "evidence_missing",
)


class IncentiveView(View):
    """The view of a result for incentive levels."""

    part: ClassVar[str] = "report/levels.html.j2"
    shows_kind: ClassVar[bool] = False
    filter_hint: ClassVar[str] = "prisoner, prison, level, cause or “new”"
    prison_caption: ClassVar[str] = (
        "Compared prisoners are counted by the prison of the NOMIS record, and differences by that of the newer "
        "record; “unknown” means that no such record names a prison"
    )

    result: IncentiveResult

    def __init__(self, result: ReconciliationResult) -> None:
        assert isinstance(result, IncentiveResult)
        super().__init__(result)
        self._matrix = result.matrix

    # Words

    @property
    def facts(self) -> tuple[str, ...]:
        """The name of the summary event and the name of the domain, to search for in Slack."""
        return (REPORT, "domain incentives")

    @property
    def csv_name(self) -> str:
        """The file name of the CSV, unchanged since the incentive reconciliation was the only one."""
        return f"incentive-mismatches-{self.result.run_id}.csv"

    def title(self) -> str:
        """The title of the messages about a run that did not fail; operators and dashboards rely on this text."""
        if self.result.mismatches:
            return ALERTS[REPORT].format(environment=self.result.environment)
        return f"Incentive reconciliation in {self.result.environment}"

    def failure_title(self) -> str:
        """The title of the messages about a run that failed."""
        return f"The incentive reconciliation failed in {self.result.environment}"

    def differ(self) -> str:
        """A clause, in the past tense, saying how many prisoners' levels differed."""
        different, compared = len(self.result.mismatches), self.result.compared
        if compared == 1:
            return "the prisoner had different levels in NOMIS and in DPS"
        who = f"{thousands(different)} of {thousands(compared)} prisoners"
        return f"{who} had different incentive levels in NOMIS and in DPS"

    def agree(self) -> str:
        """A clause, in the past tense, saying that every prisoner had the same level on both sides."""
        if self.result.compared == 1:
            return "the prisoner had the same level in NOMIS and in DPS"
        return f"all {thousands(self.result.compared)} prisoners had the same incentive level in NOMIS and in DPS"

    def everything_agrees(self) -> str:
        """A sentence saying that every prisoner has the same level on both sides."""
        return "Every prisoner has the same level in NOMIS and in DPS."

    def gaps(self, number: int) -> str:
        """A phrase saying how many pages of active prisoners could not be read: `2 pages of prisoners`."""
        return f"{count(number, 'page')} of prisoners"

    def not_found(self, number: int) -> str:
        """A clause saying that `number` requested prisoners are not active."""
        return f"{count(number, 'requested prisoner')} {'is' if number == 1 else 'are'} not among the active prisoners"

    def nobody(self) -> str:
        """The subject of a clause saying that no prisoners to compare were found."""
        return "none of the chosen prisoners" if self.result.parameters.get("offender_nos") else "no active prisoner"

    def population(self) -> str:
        """A sentence saying how many active prisoners NOMIS counts, and how many were listed and compared.

        It also says how many were released during the run, and how many agreed when they were read again.
        """
        result = self.result
        compared = thousands(result.compared) if result.compared else "none"
        active = count(result.total or 0, "active prisoner")
        listed = f"{active} by NOMIS’s count, {thousands(result.listed)} listed"
        return f"{listed}, {compared} compared{self._left_out('released during the run')}."

    def how_resolved(self, resolved: Resolved) -> str:
        """In a few words, why a difference no longer exists: the levels agree, or the prisoner was released."""
        return "the levels now agree" if resolved.how == "equal" else "released: no longer on the list"

    # Records

    def side(self, record: Record, side: SideKey) -> tuple[ShownValue, ...]:
        """The level of one side, with the date and origin of its record if known; empty if there is no level."""
        if not isinstance(record, IncentiveMismatch):
            level = getattr(record, f"{side}_level")
            return (ShownValue("", level),) if level is not None else ()
        found: Side | None = getattr(record, side)
        if found is None:
            return ()
        remark = ", ".join(filter(None, (day(found.at), found.origin))) if found.at else ""
        return (ShownValue("", found.level, remark),)

    def evidence_table(self, mismatch: Mismatch) -> Table | None:
        """A table of the records in both histories, or None if there are none."""
        assert isinstance(mismatch, IncentiveMismatch)
        rows = tuple(
            Row(
                (
                    exact_moment(each.at),
                    each.side,
                    each.level,
                    each.prison_id or "–",
                    ", ".join(filter(None, (each.origin or "unknown", each.user_id))),
                    f"{'sequence' if each.side == 'NOMIS' else 'review'} {each.record}",
                    "; ".join(filter(None, ("current" if each.current else "", each.note))),
                ),
                marked=each.current,
            )
            for each in mismatch.evidence
        )
        heads = ("When", "Side", "Level", "Prison", "Made by", "Record", "Remarks")
        return Table("Both histories, newest first", heads, rows) if rows else None

    # Counts

    def advice(self, diagnosis: Diagnosis) -> str:
        """The general advice on the cause. The advice in the diagnosis may name the records of a single difference."""
        assert isinstance(diagnosis, IncentiveDiagnosis)
        return CAUSES[diagnosis.number].action

    def levels(self) -> list[str | None]:
        """The levels that occur: the known levels in the order of `LEVELS`, then the others by code, and None last."""
        found = {code for cell in self._matrix for code in (cell.nomis_level, cell.dps_level)}
        usual = [code for code in LEVELS if code in found]
        others = sorted(code for code in found if code is not None and code not in usual)
        return [*usual, *others, *([None] if None in found else [])]

    def matrix(self) -> dict[tuple[str | None, str | None], int]:
        """How many of the compared prisoners have each pair of levels: the level in NOMIS, then the level in DPS."""
        return {(cell.nomis_level, cell.dps_level): cell.count for cell in self._matrix}

    def pairs(self) -> dict[tuple[str | None, str | None], int]:
        """How many mismatches have each pair of levels; the matrix also counts excluded and in-flight differences."""
        return dict(Counter((each.nomis_level, each.dps_level) for each in self.result.mismatches))

    def level_query(self, **levels: str | None) -> str:
        """The filter that finds the differences with these levels: `nomis=STD&dps=ENH`."""
        return query(**{side: code(level, none="none") for side, level in levels.items()})

    def directions(self) -> list[Count]:
        """The number of mismatches in each direction, in the order of `DIRECTIONS`."""
        named = ((each, direction_of(each)) for each in self.result.mismatches)
        found = counts((DIRECTIONS[direction], query(direction=direction), each) for each, direction in named)
        order = [*DIRECTIONS.values()]
        return sorted(found, key=lambda each: order.index(each.name))

    def filter_values(self, mismatch: Mismatch) -> dict[str, str]:
        """The filter values for both levels, and for the direction of the difference."""
        assert isinstance(mismatch, IncentiveMismatch)
        levels = {"nomis": mismatch.nomis_level, "dps": mismatch.dps_level}
        values = {side: code(level, none="none") for side, level in levels.items()}
        return {**values, "direction": direction_of(mismatch)}

    def codes(self) -> list[Codes]:
        """The general codes, the levels, and the codes for what made the records; groups without codes are left out."""
        mismatches = self.result.mismatches
        records = [each for found in mismatches for each in (found.nomis, found.dps, *found.evidence) if each]
        of_levels = (*self.levels(), *(each.level for each in records))
        levels = named_codes("Incentive levels", LEVELS, of_levels)
        origins = named_codes("What made a record", ORIGINS, (each.origin for each in records))
        return [each for each in (*super().codes(), levels, origins) if each.rows]

    # The CSV

    def csv_columns(self) -> tuple[str, ...]:
        """The names of the columns of the CSV, in order; spreadsheets rely on them."""
        return COLUMNS

    def csv_row(self, record: Mismatch | Unconfirmed) -> dict[str, Any]:
        """The values of a difference by column: both levels and, for a mismatch, its current records and diagnosis."""
        values: dict[str, Any] = {side: getattr(record, side) for side in ("nomis_level", "dps_level")}
        if not isinstance(record, IncentiveMismatch):
            return values
        for prefix, side, origin, number in (
            ("nomis", record.nomis, "audit_module", "sequence"),
            ("dps", record.dps, "review_type", "review_id"),
        ):
            if side is not None:
                values |= {
                    f"{prefix}_date_time": side.at.isoformat(timespec="seconds") if side.at else None,
                    f"{prefix}_prison_id": side.prison_id,
                    f"{prefix}_{origin}": side.origin,
                    f"{prefix}_user_id": side.user_id,
                    f"{prefix}_{number}": side.record,
                }
        found = record.diagnosis
        if found is not None:
            values |= {
                "cause_number": found.number,
                "cause": found.cause,
                "confidence": found.confidence,
                "right_side": found.right_side,
                "explanation": found.explanation,
                "action": found.action,
                "commands": "; ".join(found.commands),
                "request": found.request,
            }
        return values
