"""The view of a result: how the result is worded, and how its records are shown.

A reconciliation may override parts of the view. All text that a view returns is plain; the page, the CSV and the
messages escape it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from reports.engine.causes import TOO_MANY
from reports.engine.result import Unread
from reports.presentation.counts import Count, code, counts, query, slug
from reports.presentation.masking import UNMASKED, Masking
from reports.presentation.text import count, exact_moment, thousands
from reports.presentation.view_parts import Codes, Row, ShownValue, Table, column_words, value_text
from reports.reconciliations.registry import RECONCILIATIONS
from sync.alerting import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.engine.result import (
        Diagnosis,
        FieldValues,
        Mismatch,
        ReconciliationResult,
        Record,
        Resolved,
        Unconfirmed,
    )

SideKey = Literal["nomis", "dps"]
SIDES: tuple[SideKey, SideKey] = ("nomis", "dps")
#: The cause of a difference that has no diagnosis.
NOT_INVESTIGATED = "not investigated"
#: Key columns that give the prisoner, the place or the day of a record, but do not identify it.
_NOT_OF_THE_RECORD = frozenset({"prison_id", "booking_id", "offender_no", "date"})
#: `TOO_MANY` as people read it; the text in results is part of their JSON and stays as it is.
_TOO_MANY_WORDS = TOO_MANY.replace("mismatches", "differences")
#: The most fields shown in the row of a record that only one side has; the evidence has all of them.
_MOST_OF_ONE_SIDE = 3
#: The call at the beginning of the text of an `UpstreamError`, after the name of the service.
_CALL = re.compile(r"(?<=: )[A-Z]+ .*?: (?=status \d|no response)")


class View:
    """The general view of a result. A reconciliation may override parts of it in a subclass."""

    #: The template of the part of the page that is next to the prisons.
    part: ClassVar[str] = "report/kinds.html.j2"
    #: Whether each difference is shown with its kind; false if the values show the kind.
    shows_kind: ClassVar[bool] = True
    #: What can be typed into the filter of the differences.
    filter_hint: ClassVar[str] = "number, prison, difference, value, cause or “new”"
    #: Which prison a difference is counted for.
    prison_caption: ClassVar[str] = "By the prison of the record; “unknown” means that the record has no prison"

    def __init__(self, result: ReconciliationResult) -> None:
        self.result = result
        self._labels = {each.name: each.label for each in result.fields}
        self._kinds = {each.code: each.label for each in result.kinds}
        self._own_key = tuple(name for name in result.key_columns if name not in _NOT_OF_THE_RECORD)

    # Words

    @property
    def noun(self) -> str:
        """The noun for a compared record, in the singular."""
        # Results of earlier versions have only the plural, which was always regular.
        return self.result.counted_singular or self.result.counted.removesuffix("s")

    def count(self, number: int) -> str:
        """A number with the noun for compared records: `1 entry`, `2,000 entries`."""
        return count(number, self.noun, self.result.counted)

    @property
    def facts(self) -> tuple[str, ...]:
        """The words to search for in Slack to find the report."""
        return (f"reconciliation {self.result.reconciliation}",)

    @property
    def csv_name(self) -> str:
        """The name of the CSV when it is sent or saved as a file; unique to the run."""
        return f"{self.result.reconciliation}-mismatches-{self.result.run_id}.csv"

    def title(self) -> str:
        """The title of the messages about a run that did not fail."""
        if self.result.mismatches:
            return f"{self.result.title}: NOMIS and DPS differ in {self.result.environment}"
        return f"{self.result.title}: reconciliation in {self.result.environment}"

    def failure_title(self) -> str:
        """The title of the messages about a run that failed."""
        return f"{self.result.title}: the reconciliation failed in {self.result.environment}"

    def differ(self) -> str:
        """A clause, in the past tense, saying how many of the compared records differed, and how."""
        different, compared = len(self.result.mismatches), self.result.compared
        who = f"{thousands(different)} of {self.count(compared)}"
        kinds = self.kinds()
        if len(kinds) == 1 and kinds[0].name in self._kinds.values():
            return f"{who} {'was' if different == 1 else 'were'} {kinds[0].name}"
        return f"{who} differed between NOMIS and DPS"

    def agree(self) -> str:
        """A clause, in the past tense, saying that NOMIS and DPS agreed on all compared records."""
        if self.result.compared == 1:
            return f"NOMIS and DPS agreed on the {self.noun}"
        return f"NOMIS and DPS agreed on all {thousands(self.result.compared)} {self.result.counted}"

    def everything_agrees(self) -> str:
        """A sentence saying that NOMIS and DPS agree on every record."""
        return f"NOMIS and DPS agree on every {self.noun}."

    def gaps(self, number: int) -> str:
        """How many parts of the population could not be listed, in words: `2 parts of the list of visits`."""
        return f"{count(number, 'part')} of the list of {self.result.counted}"

    def not_found(self, number: int) -> str:
        """A clause saying how many requested records were not found."""
        requested = count(number, f"requested {self.noun}", f"requested {self.result.counted}")
        return f"{requested} {'was' if number == 1 else 'were'} not found"

    def none_at(self, prisons: Sequence[str]) -> str:
        """A clause saying that no records were found at `prisons`, and asking whether the ids are right."""
        right = "is the prison id right?" if len(prisons) == 1 else "are the prison ids right?"
        return f"{self.nobody()} was found at {', '.join(prisons)} ({right})"

    def nobody(self) -> str:
        """The subject of a clause saying that no records were found."""
        return f"no {self.noun}"

    def population(self) -> str:
        """A sentence saying how many records there are, and how many were compared.

        It also says how many no longer existed, and how many agreed, when they were read again.
        """
        result = self.result
        everything = self.count(result.everything)
        sides = ""
        if result.compared and result.in_nomis is not None and result.in_dps is not None:
            sides = f" ({thousands(result.in_nomis)} in NOMIS, {thousands(result.in_dps)} in DPS)"
        compared = f"{thousands(result.compared) if result.compared else 'none'} compared{sides}"
        return f"{everything}, {compared}{self._left_out('no longer existed when read again')}."

    def _left_out(self, gone: str) -> str:
        result = self.result
        parts = [f"; {thousands(len(result.released))} {gone}"] if result.released else []
        if result.settled_on_recheck:
            parts.append(f"; {thousands(result.settled_on_recheck)} agreed when read again")
        return "".join(parts)

    def how_resolved(self, resolved: Resolved) -> str:
        """Why an earlier difference no longer exists, in a few words."""
        return "both sides now agree" if resolved.how == "equal" else f"no longer among the {self.result.counted}"

    # Records

    @property
    def heading(self) -> str:
        """The heading of the column that identifies records."""
        return self.noun.capitalize() if self._own_key else "Prisoner"

    def name(self, record: Record | Unread, masking: Masking = UNMASKED) -> str:
        """The name of a record in reports: its key, or else its prisoner number, or else its booking id.

        For a whole unit that could not be read, such as a prison, it is the name of the unit.
        """
        own = [(column, record.key[column]) for column in self._own_key if column in record.key]
        if own and len(self._own_key) == 1:
            return masking.text(str(own[0][1]))
        if own:
            return masking.text(", ".join(f"{column_words(column)} {value}" for column, value in own))
        if isinstance(record, Unread) and record.unit is not None and not record.key:
            return record.unit
        if record.offender_no is not None:
            return masking.offender(record.offender_no)
        return f"booking {masking.booking(record.booking_id)}" if record.booking_id is not None else "unknown"

    def details(self, record: Record | Unread, masking: Masking = UNMASKED) -> str:
        """The prisoner, the booking and the day of a record, without what its name already says."""
        parts = [masking.offender(record.offender_no)] if record.offender_no is not None and self._own_key else []
        named_by_booking = not self._own_key and record.offender_no is None
        if record.booking_id is not None and not named_by_booking:
            parts.append(f"booking {masking.booking(record.booking_id)}")
        if "date" in record.key:
            parts.append(value_text(str(record.key["date"])))
        return ", ".join(parts)

    def severity(self, mismatch: Mismatch) -> Severity:  # noqa: ARG002 - a special view may distinguish them
        """How serious a difference is."""
        return Severity.MEDIUM

    def kind(self, record: Record) -> str:
        """How a record differs, in words that can follow "is": `not in NOMIS`."""
        return self._kinds.get(record.kind, column_words(record.kind))

    def side(self, record: Record, side: SideKey) -> tuple[ShownValue, ...]:
        """The values that one side has in the fields that differ; empty if that side lacks the record.

        If only that side has the record, the values are those of the record's first few fields, apart from the prisoner
        number, the booking and the prison. If no field is left, the only value is `present`.
        """
        if record.missing_in == side.upper():
            return ()
        if record.missing_in is None:
            both = (ShownValue(self._label(each.field), value_text(getattr(each, side))) for each in record.differences)
            return tuple(both) or (ShownValue("", "present"),)
        said = {record.offender_no, record.booking_id, record.prison_id, None}
        found = ((each.field, getattr(each, side)) for each in record.differences or record.other_fields)
        alone = [ShownValue(self._label(field), value_text(value)) for field, value in found if value not in said]
        return tuple(alone[:_MOST_OF_ONE_SIDE]) or (ShownValue("", "present"),)

    def side_text(self, record: Record, side: SideKey) -> str:
        """The values of one side on one line; `none` if that side lacks the record."""
        return "; ".join(map(str, self.side(record, side))) or "none"

    def fields_table(self, record: Record) -> Table | None:
        """A table of the fields with the values of both sides; None if the record has fewer than two fields.

        The fields that differ come first and are marked. The others are left out if they have no value, or if both
        sides have 0.
        """
        if len(record.differences) + len(record.other_fields) < 2:
            return None
        rows = [self._field_row(each, marked=True) for each in record.differences]
        rows += [self._field_row(each, marked=False) for each in record.other_fields if _says_anything(each)]
        return Table("Field by field", ("Field", "NOMIS", "DPS"), tuple(rows))

    def evidence_table(self, mismatch: Mismatch) -> Table | None:
        """A table of the evidence about a difference, or None if there is none."""
        rows = tuple(
            Row((exact_moment(each.at) if each.at else "–", each.side, each.text, each.note))
            for each in mismatch.evidence
        )
        return Table("Evidence", ("When", "Where", "What", "Remarks"), rows) if rows else None

    # Counts

    def kinds(self) -> list[Count]:
        """The number of mismatches of each kind, the most frequent first."""
        return counts((self.kind(each), query(kind=code(each.kind)), each) for each in self.result.mismatches)

    def differing_fields(self) -> list[Count]:
        """The number of mismatches in each field, among records that both sides have; the most frequent first.

        Empty if only one field is compared.
        """
        both = [each for each in self.result.mismatches if each.missing_in is None]
        named = (
            (self._labels.get(field.field, field.field), query(field=code(field.field)), each)
            for each in both
            for field in each.differences
        )
        return counts(named) if len(self._labels) > 1 else []

    def filter_values(self, mismatch: Mismatch) -> dict[str, str]:
        """The values of a difference that links filter by, in addition to those that `page_rows` sets."""
        values = {"kind": code(mismatch.kind)}
        if mismatch.missing_in is None and len(self._labels) > 1:
            values["field"] = " ".join(code(each.field) for each in mismatch.differences)
        return values

    def codes(self) -> list[Codes]:
        """The codes to list at the end of the report, with their meanings where these are known."""
        prisons = sorted({each.prison_id for each in self.result.mismatches if each.prison_id})
        note = "The codes are those of NOMIS. This report has no prison names."
        return [Codes("Prisons", tuple((prison, "") for prison in prisons), note)] if prisons else []

    def cause(self, diagnosis: Diagnosis) -> str:
        """The name of the cause in a diagnosis, as lists show it."""
        return diagnosis.cause

    def missing_cause(self, mismatch: Mismatch) -> str:
        """Why a mismatch has no diagnosis; lists show this instead of a cause."""
        missing = mismatch.evidence_missing
        if missing is None:
            return NOT_INVESTIGATED
        if missing == TOO_MANY:
            return _TOO_MANY_WORDS
        return f"cause not found: {_CALL.sub('', missing, count=1)}"

    def look_up_failed(self, mismatch: Mismatch) -> bool:
        """Whether a mismatch has no diagnosis because its evidence could not be read; a later attempt may succeed."""
        return mismatch.diagnosis is None and mismatch.evidence_missing not in (None, TOO_MANY)

    def advice(self, diagnosis: Diagnosis) -> str:
        """What to do about a difference; the words are the same for all differences that are fixed in the same way."""
        return diagnosis.action

    def causes(self) -> list[Count]:
        """The number of mismatches of each known cause, the most frequent first."""
        known = ((self.cause(each.diagnosis), each) for each in self.result.mismatches if each.diagnosis is not None)
        return counts((cause, query(cause=slug(cause)), each) for cause, each in known)

    # The CSV

    def csv_columns(self) -> tuple[str, ...]:
        """The column names of the CSV, in order."""
        keys = tuple(each for each in self.result.key_columns if each not in ("offender_no", "booking_id", "prison_id"))
        sides = tuple(f"{side}_{each.name}" for each in self.result.fields for side in ("nomis", "dps"))
        common = ("offender_no", "booking_id", "prison_id", "kind", "standing", "since")
        return ("run_id", *keys, *common, *sides, "cause", "right_side", "fix", "row", "evidence_missing")

    def csv_row(self, record: Mismatch | Unconfirmed) -> dict[str, Any]:
        """The values of a difference by column, without the columns that `csv.render_csv` sets in every CSV."""
        values: dict[str, Any] = {name: value for name, value in record.key.items() if name in self._own_key_and_date}
        values["kind"] = record.kind
        for each in record.by_field.values():
            values[f"nomis_{each.field}"], values[f"dps_{each.field}"] = each.nomis, each.dps
        found = getattr(record, "diagnosis", None)
        if found is not None:
            values |= {"cause": found.cause, "right_side": found.right_side}
            values["fix"] = "; ".join(found.commands) or found.request or found.action
        return values

    @property
    def _own_key_and_date(self) -> frozenset[str]:
        return frozenset((*self._own_key, "date"))

    def _label(self, field: str) -> str:
        return self._labels.get(field, column_words(field)) if len(self._labels) > 1 else ""

    def _field_row(self, values: FieldValues, *, marked: bool) -> Row:
        label = self._labels.get(values.field, column_words(values.field))
        return Row((label, value_text(values.nomis), value_text(values.dps)), marked)


def view_of(result: ReconciliationResult) -> View:
    """The view of a result: the view that the registry gives for its reconciliation, or else the general view."""
    entry = RECONCILIATIONS.get(result.reconciliation)
    return (View if entry is None else entry.load_view())(result)


def _says_anything(values: FieldValues) -> bool:
    nothing_counted = type(values.nomis) is int and values.nomis == values.dps == 0
    return not nothing_counted and (values.nomis, values.dps) != (None, None)
