"""Builds the result of a run from what the run has read.

The differences are found, rechecked, explained, and compared with those of earlier runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import structlog

from reports.engine import result as results
from reports.engine.causes import MOST_EXPLAINED, TOO_MANY, Explanation
from reports.engine.excluded_records import excluded_records, unneeded_exclusions
from reports.engine.frame import concatenated, keys_of, records, rows_of
from reports.engine.parallel_reader import FailedRead, failed_read
from reports.engine.plausibility import why_suspicious
from reports.engine.recheck import Recheck, Rechecked
from reports.engine.result_parts import ResultParts, prison_counts
from reports.engine.runs import Coverage
from reports.engine.units import UnreadRecord, key_text
from sync.errors import SyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from reports.engine.causes import Difference
    from reports.engine.checkpoints import ReadUnits
    from reports.engine.exclusions import Exclusion, Exclusions
    from reports.engine.history import EarlierRuns
    from reports.engine.reconciliation import Reads, Reconciliation
    from reports.engine.result import ReconciliationResult, RunStatus, TrendPoint
    from reports.engine.runs import RunRecord
    from reports.engine.units import Population, UnlistedPart
    from sync.settings.declaration import Settings


@dataclass(frozen=True, slots=True)
class RunContext:
    """What is known about a run apart from what it read.

    record: the run as recorded. population: what the run listed. failure: why the run failed, as a clause, or None if
    it did not. earlier: the earlier runs with which the run is compared. exclusions: the list of exclusions; its
    records are not reported as mismatches. implausible: whether the run failed because the data that it read is
    implausible.
    """

    record: RunRecord
    settings: Settings
    population: Population
    failure: str | None
    earlier: EarlierRuns[ReconciliationResult]
    exclusions: Exclusions
    implausible: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """The result of a run. gaps: the parts of the population that could not be listed, with details for events."""

    result: ReconciliationResult
    gaps: tuple[UnlistedPart, ...]


class ResultBuilder:
    """Builds the result of one run: finds, rechecks and explains the differences, and counts the records."""

    def __init__(
        self,
        reconciliation: Reconciliation,
        reads: Reads,
        recheck: Recheck,
        context: RunContext,
        clock: Callable[[], datetime],
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._reconciliation = reconciliation
        self._reads = reads
        self._recheck = recheck
        self._context = context
        self._clock = clock
        self._progress = progress
        self._scope = context.record.scope
        self._parts = ResultParts(reconciliation)

    def build(self, read: ReadUnits, wait: Callable[[], None]) -> Built:
        """The result of the run, built from the units in `read`.

        wait: called before the recheck, and only if something differs, to give messages time to arrive.
        """
        context, reconciliation = self._context, self._reconciliation
        frame = self._at_prisons(read.frame, unknown_too=True)
        first = reconciliation.differing(frame)
        rechecked = self._rechecked(first, wait)
        final = self._final(frame, first, rechecked)
        gaps = (*context.population.gaps, *read.gaps)
        all_unread = self._unread(read, rechecked)
        # An excluded record that cannot be read does not make the run incomplete.
        unread = [each for each in all_unread if context.exclusions.find(each.key) is None]
        empty = self._empty_prisons(frame, rechecked, all_unread, gaps)
        confirmed = {key: each for key, each in rechecked.confirmed.items() if self._excluded(each) is None}
        mismatches = self._mismatches(confirmed)
        excluded = excluded_records(self._parts, context.exclusions, final, rechecked, all_unread, first)
        counts = prison_counts(final, mismatches)
        status = self._status(unread, empty, gaps)
        resolved = tuple(self._resolved(final, rechecked, all_unread, gaps))
        listed = sum(unit.size for unit in context.population.units)
        values: dict[str, Any] = {
            "reconciliation": reconciliation.name,
            "title": reconciliation.title,
            "counted": reconciliation.counted,
            "counted_singular": reconciliation.counted_singular,
            "key_columns": tuple(reconciliation.key),
            "fields": tuple(results.FieldName(name=each.name, label=each.label) for each in reconciliation.fields),
            "kinds": tuple(results.KindName(code=code, label=label) for code, label in reconciliation.kinds.items()),
            "run_id": context.record.id,
            "status": status,
            "environment": context.settings.environment_name,
            "started_at": context.record.started_at,
            "finished_at": self._clock(),
            "parameters": dict(context.record.parameters),
            "failure": context.failure,
            "implausible": context.implausible,
            "suspicious": why_suspicious(len(confirmed), len(final), context.settings),
            "total": context.population.total,
            "listed": len(final) + len(unread) if context.population.total is None else listed,
            "compared": len(final),
            "in_nomis": int(final["in_nomis"].sum()),
            "in_dps": int(final["in_dps"].sum()),
            "settled_on_recheck": len(rechecked.agreed),
            "released": self._released(first, rechecked),
            "mismatches": tuple(mismatches),
            "in_flight": tuple(self._in_flight(rechecked)),
            "excluded": tuple(excluded),
            "unneeded_exclusions": self._unneeded(excluded, frame, rechecked, all_unread, gaps),
            "resolved": resolved,
            "unread": tuple(self._parts.unread(each) for each in unread),
            "gaps": tuple(results.Gap(what=each.what, reason=each.reason) for each in gaps),
            "unconfirmed": tuple(self._unconfirmed(first, rechecked)),
            "empty_prisons": empty,
            "prisons": counts,
            "trend": self._trend(status, len(final), mismatches, len(unread), len(resolved), gaps),
            "compared_with": context.earlier.baseline.run_id,
        }
        values |= reconciliation.result_values(final, gaps)
        return Built(self._parts.part(results.ReconciliationResult, values), gaps)

    def _at_prisons(self, frame: pd.DataFrame, *, unknown_too: bool) -> pd.DataFrame:
        """The rows of `frame` at the chosen prisons, or all its rows if no prisons are chosen.

        unknown_too: whether rows with an unknown prison are included.
        """
        if not self._scope.prisons:
            return frame
        chosen = frame["prison_id"].isin(self._scope.prisons)
        return frame[chosen | frame["prison_id"].isna() if unknown_too else chosen]

    def _rechecked(self, first: pd.DataFrame, wait: Callable[[], None]) -> Rechecked:
        if not len(first):
            nothing: frozenset[str] = frozenset()
            return Rechecked(first, {}, {}, nothing, {}, nothing, {})
        wait()
        self._progress("rechecking", 0, len(first))
        found = self._recheck(first)
        self._progress("rechecking", len(first), len(first))
        if not self._scope.prisons:
            return found
        return found.only(self._at_prisons(found.rows, unknown_too=False), self._reconciliation.key)

    def _final(self, frame: pd.DataFrame, first: pd.DataFrame, rechecked: Rechecked) -> pd.DataFrame:
        """The rows of all compared records: those that agreed in the first reading, and those that were read again."""
        reconciliation = self._reconciliation
        agreed = self._at_prisons(frame.drop(index=first.index), unknown_too=False)
        if not len(rechecked.rows):
            return agreed.reset_index(drop=True)
        prisons = dict(zip(keys_of(first, reconciliation.key), first["prison_id"], strict=True))
        again = rechecked.rows.copy()
        # A record is counted at the prison of its first reading; its mismatch shows the prison where it is now.
        again["prison_id"] = pd.array([prisons[key] for key in keys_of(again, reconciliation.key)], dtype="string")
        return concatenated(reconciliation, [agreed, again])

    def _status(self, unread: Sequence[UnreadRecord], empty: Sequence[str], gaps: Sequence[UnlistedPart]) -> RunStatus:
        if self._context.failure is not None:
            return "failed"
        return "incomplete" if unread or empty or gaps else "complete"

    def _empty_prisons(
        self, frame: pd.DataFrame, rechecked: Rechecked, unread: Sequence[UnreadRecord], gaps: Sequence[UnlistedPart]
    ) -> tuple[str, ...]:
        """The requested prisons that have no records.

        Empty if the run failed, or if anything could not be read or listed, because what is missing may be at one of
        these prisons.
        """
        if self._context.failure is not None or unread or gaps:
            return ()
        found = {*frame["prison_id"].dropna(), *rechecked.rows["prison_id"].dropna()}
        return tuple(prison for prison in self._scope.prisons if prison not in found)

    def _unread(self, read: ReadUnits, rechecked: Rechecked) -> list[UnreadRecord]:
        """Everything that could not be read, including records on the list of exclusions, sorted by booking id."""
        population, reconciliation = self._context.population, self._reconciliation
        unread = list(read.unread)
        if self._context.failure is None:
            # A unit that was listed but never read, for example after a crash, is unread.
            never = FailedRead("listed, but not read by this run", network=False)
            left = [unit for unit in population.units if unit.id not in read.ids]
            unread += [each for unit in left for each in reconciliation.unread_unit(unit, never)]
        keys = {key_text(each.key) for each in unread if each.key}
        read_later = set(keys_of(rows_of(read.frame, reconciliation, keys), reconciliation.key)) if keys else set()
        unread = [each for each in unread if not each.key or key_text(each.key) not in read_later]
        unread += [*population.unread, *rechecked.unread.values()]
        return sorted(unread, key=lambda each: each.key.get("booking_id") or 0)

    def _mismatches(self, confirmed: Mapping[str, Difference]) -> list[results.Mismatch]:
        explanations = self._explanations(list(confirmed.values()))
        found = []
        for (key, difference), explanation in zip(confirmed.items(), explanations, strict=True):
            standing, since = self._context.earlier.baseline.classify(key, self._context.record.started_at)
            values = self._parts.record(difference.row, difference.kind, difference.differs)
            values |= {"standing": standing, "since": since}
            if isinstance(explanation, FailedRead):
                values["evidence_missing"] = explanation.reason
            elif explanation is not None:
                diagnosis = explanation.diagnosis
                if diagnosis is not None and self._context.implausible:
                    # The difference may come from the wrong data, and a fix would write that data to the other side.
                    diagnosis = diagnosis.without_fix()
                values |= {
                    "diagnosis": diagnosis,
                    "evidence": explanation.evidence,
                    "evidence_missing": explanation.evidence_missing,
                    **explanation.values,
                }
            if difference.doubt is not None and not self._reconciliation.explains_doubt:
                doubt = f"a message about it may be pending: {difference.doubt}"
                values["evidence"] = (*values.get("evidence", ()), results.EvidenceRow(side="queue", text=doubt))
            found.append(self._parts.part(results.Mismatch, values))
        return found

    def _explanations(self, differences: list[Difference]) -> Sequence[Explanation | FailedRead | None]:
        """For each difference, in the same order, its explanation, or None if the cause is not known.

        A difference beyond the first `MOST_EXPLAINED`, or one that could not be explained because of an error, has a
        `FailedRead` instead of an explanation, so that it is still reported.
        """
        explained = differences[:MOST_EXPLAINED]
        if not explained:
            return []
        self._progress("finding causes", 0, len(explained))
        try:
            found = list(self._reconciliation.explain(explained, self._reads))
        except Exception as error:
            if not isinstance(error, SyncError):
                structlog.get_logger().exception("differences-not-explained")
            found = [failed_read(error)] * len(explained)
        self._progress("finding causes", len(explained), len(explained))
        beyond = FailedRead(TOO_MANY, network=False)
        return [*found, *[beyond] * (len(differences) - len(explained))]

    def _excluded(self, difference: Difference) -> Exclusion | None:
        return self._context.exclusions.find({name: difference.row[name] for name in self._reconciliation.key})

    def _in_flight(self, rechecked: Rechecked) -> Iterable[results.InFlight]:
        for difference, why in rechecked.in_flight.values():
            if self._excluded(difference) is None:
                values = self._parts.record(difference.row, difference.kind, difference.differs)
                yield self._parts.part(results.InFlight, {**values, "why": why})

    def _unconfirmed(self, first: pd.DataFrame, rechecked: Rechecked) -> Iterable[results.Unconfirmed]:
        """Yields the records that differed, could not be read again, and are not on the list of exclusions."""
        if not rechecked.unread:
            return
        for key, row in zip(keys_of(first, self._reconciliation.key), records(first), strict=True):
            unread = rechecked.unread.get(key)
            if unread is None or self._context.exclusions.find(unread.key) is not None:
                continue
            standing, since = self._context.earlier.baseline.classify(key, self._context.record.started_at)
            values = self._parts.record(row, row["kind"], row["differs"])
            values |= {"standing": standing, "since": since, "reason": unread.reason}
            yield self._parts.part(results.Unconfirmed, values)

    def _released(self, first: pd.DataFrame, rechecked: Rechecked) -> tuple[str, ...]:
        """The records that differed, but no longer existed when they were read again.

        Each is given by its prisoner number, or by the text of its key if the number is unknown.
        """
        named = zip(keys_of(first, self._reconciliation.key), records(first), strict=True)
        return tuple(row["offender_no"] or key for key, row in named if key in rechecked.gone)

    def _unneeded(
        self,
        excluded: Sequence[results.Excluded],
        frame: pd.DataFrame,
        rechecked: Rechecked,
        unread: Sequence[UnreadRecord],
        gaps: Sequence[UnlistedPart],
    ) -> tuple[str, ...]:
        """The entries that can be removed from the list of exclusions, in words."""
        listed = frame if self._whole_population_known(unread, gaps) else None
        return unneeded_exclusions(self._reconciliation, self._context.exclusions, excluded, listed, rechecked, unread)

    def _whole_population_known(self, unread: Sequence[UnreadRecord], gaps: Sequence[UnlistedPart]) -> bool:
        """Whether a record that was not read, and is not among `unread`, certainly does not exist."""
        if self._context.failure is not None or gaps or not self._context.record.covers_everyone:
            return False
        return all(each.key for each in unread)

    def _resolved(
        self, final: pd.DataFrame, rechecked: Rechecked, unread: Sequence[UnreadRecord], gaps: Sequence[UnlistedPart]
    ) -> Iterable[results.Resolved]:
        context, reconciliation = self._context, self._reconciliation
        baseline = context.earlier.baseline
        if not baseline.mismatches:
            return
        read = set(keys_of(rows_of(final, reconciliation, baseline.mismatches), reconciliation.key))
        unread_keys = {key_text(each.key) for each in unread if each.key}
        still = {*rechecked.confirmed, *rechecked.in_flight, *rechecked.ignored, *unread_keys}
        whole = self._whole_population_known(unread, gaps)
        resolved = baseline.resolved(
            equal=lambda key: key in read and key not in still,
            gone=lambda key: (
                # A record that differs but is no longer reported does not count as equal.
                key in rechecked.gone
                or key in rechecked.ignored
                or (whole and key not in read and key not in unread_keys)
            ),
            examined=lambda earlier: (
                self._scope.covers(earlier.values["key"]) and (context.record.covers_everyone or earlier.key in read)
            ),
        )
        for earlier, how in resolved:
            shown = reconciliation.gone if how == "gone" else how
            yield self._parts.part(results.Resolved, {**earlier.values, "since": earlier.since, "how": shown})

    def _trend(
        self,
        status: RunStatus,
        compared: int,
        mismatches: Sequence[results.Mismatch],
        unread: int,
        resolved: int,
        gaps: Sequence[UnlistedPart],
    ) -> tuple[TrendPoint, ...]:
        context = self._context
        # A run is comparable with others even if some of its records are unread.
        comparable = status == "complete" or (status == "incomplete" and not gaps)
        if not comparable or Coverage.of(context.record.parameters) is not Coverage.EVERYONE:
            return context.earlier.trend
        point = results.TrendPoint(
            run_id=context.record.id,
            started_at=context.record.started_at,
            compared=compared,
            mismatches=len(mismatches),
            unread=unread,
            new=sum(each.standing == "new" for each in mismatches),
            resolved=resolved,
        )
        return (*context.earlier.trend, point)
