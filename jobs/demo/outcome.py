"""The outcome of a demo: its figures, whether they match the planted differences, and the table that shows them."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from jobs.demo.earlier_runs import EarlierRuns
from reports.engine.result import ReconciliationResult, Record
from reports.engine.units import key_text
from reports.presentation.text import count
from reports.reconciliations.incentives.result import IncentiveResult

#: Identifies a record: the values of the key columns, None for a column that it lacks.
Key = tuple[str | int | None, ...]
#: How many keys and how many bookings a problem names.
_MOST_KEYS, _MOST_BOOKINGS = 5, 10
#: The width of the table in columns.
_WIDTH = 80
#: The number of the cause "its message is waiting".
_WAITS_ON_A_QUEUE = 1


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of a reconciliation, and every difference that the sandbox planted for it.

    planted: the `key`, `kind` and `outcome` of each planted difference. The outcome is `reported` or `in flight`; any
    other outcome means that the difference must not be reported. earlier: the earlier runs, with which the result must
    agree.
    """

    result: ReconciliationResult
    planted: Sequence[Mapping[str, Any]]
    earlier: EarlierRuns

    @property
    def expected(self) -> dict[Key, str]:
        """The kinds of the differences that should be reported, by key."""
        return {tuple(each["key"]): each["kind"] for each in self.planted if each["outcome"] == "reported"}

    @property
    def found(self) -> dict[Key, str]:
        """The kinds of the reported differences, by key."""
        return {self._key(each): each.kind for each in self.result.mismatches}

    @property
    def in_flight(self) -> tuple[set[Key], set[Key]]:
        """The keys of the differences planted as in flight, and of those found in flight."""
        planted = {tuple(each["key"]) for each in self.planted if each["outcome"] == "in flight"}
        return planted, {self._key(each) for each in self.result.in_flight}

    def _key(self, record: Record) -> Key:
        return tuple(record.key.get(column) for column in self.result.key_columns)

    def text(self) -> str:
        """How many planted differences were found, and the other counts of the run, as the table shows them."""
        expected, found = self.expected, self.found
        right = sum(found.get(key) == kind for key, kind in expected.items())
        planted, in_flight = self.in_flight
        passing = f", {len(planted & in_flight):,} of {len(planted):,} in flight" if planted or in_flight else ""
        others = len(self.planted) - len(expected) - len(planted)
        left_out = f", {others:,} rightly not reported" if others and not found.keys() - expected.keys() else ""
        result = self.result
        since = f"{result.new:,} new, {result.persisting:,} persisting, {len(result.resolved):,} resolved"
        what = f"{result.compared:,} {result.counted} compared"
        return f"{right:,} of {len(expected):,} planted found{passing}{left_out}; {since}; {what}"

    def problems(self) -> list[str]:
        """A line for each problem; empty if the run was complete and found exactly what was planted."""
        expected, found = self.expected, self.found
        planted, in_flight = self.in_flight
        both = expected.keys() & found.keys()
        wrong = {
            "planted and not found": expected.keys() - found.keys(),
            "found and not planted": found.keys() - expected.keys(),
            "found as another kind": {key for key in both if expected[key] != found[key]},
            "planted as in flight, but not found in flight": planted - in_flight,
            "found in flight, but not planted as in flight": in_flight - planted,
        }
        name = self.result.reconciliation
        lines = [f"{name}: {what}: {_keys_text(keys)}" for what, keys in wrong.items() if keys]
        lines += [f"{name}: {what}" for what in against_earlier_runs(self.result, self.earlier)]
        if self.result.status != "complete":
            lines.append(f"{name}: the reconciliation is {self.result.status}")
        return lines


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """The figures of a demo.

    traffic: what the sandbox planned and published. drained: the number of messages with each outcome. planted: the
    differences planted for the incentives reconciliation. bulk_differs: the number of bookings for which both sides
    have the same level, although the bulk call returns another. truth: the sandbox's own verification of NOMIS after
    the drains. result: the result of the incentives reconciliation. earlier: the earlier runs of that reconciliation,
    with which the result must agree. others: the results of the other reconciliations, each with what was planted for
    it. tracked: the number of telemetry events by name. accepted: how many of these events Application Insights has, by
    name. slack: how many messages were posted to Slack. slack_file: the file that shows them. report: the report of the
    incentives run. overview: the page that lists all runs.
    """

    traffic: Mapping[str, Any]
    drained: Mapping[str, int]
    planted: Sequence[Mapping[str, Any]]
    bulk_differs: int
    truth: Mapping[str, Any]
    result: IncentiveResult
    earlier: EarlierRuns
    others: Sequence[Findings]
    tracked: Mapping[str, int]
    accepted: Mapping[str, int]
    slack: int
    slack_file: str
    report: str
    overview: str
    seconds: float

    @property
    def planted_bookings(self) -> dict[int, int]:
        """The bookings whose planted difference should be found, each with the number of the planted cause."""
        return {each["bookingId"]: each["cause"] for each in self.planted if isinstance(each["cause"], int)}

    @property
    def found_bookings(self) -> dict[int, int | None]:
        """The bookings whose difference was found, each with the number of the cause that the report names.

        A planted difference that has a message waiting on a queue (cause 1) is reported as in flight. It counts as
        found, with that cause.
        """
        found = {each.booking_id: each.diagnosis.number if each.diagnosis else None for each in self.result.mismatches}
        return found | dict.fromkeys(self.planted_in_flight, _WAITS_ON_A_QUEUE)

    @property
    def planted_in_flight(self) -> set[int]:
        """The bookings with a planted difference that the report rightly counts as in flight, not as a mismatch."""
        waiting = {booking for booking, cause in self.planted_bookings.items() if cause == _WAITS_ON_A_QUEUE}
        return waiting & {each.booking_id for each in self.result.in_flight}

    @property
    def once(self) -> int:
        """How many of the verified records are in NOMIS exactly once, correctly mapped and in the right state."""
        wrong = {(problem["domain"], str(problem["dps_id"])) for problem in self.truth["problems"]}
        return int(self.truth["entities"]) - len(wrong)

    def problems(self) -> list[str]:
        """A line for each problem; empty if the demo succeeded."""
        planted, found = self.planted_bookings, self.found_bookings
        missed, invented = planted.keys() - found.keys(), found.keys() - planted.keys()
        lines = []
        if missed:
            lines.append(f"planted differences that were not found: {_bookings_text(missed)}")
        if invented:
            lines.append(f"reported differences that were not planted: {_bookings_text(invented)}")
        lines += against_earlier_runs(self.result, self.earlier)
        if self.result.status != "complete":
            lines.append(f"the reconciliation is {self.result.status}")
        lines += [problem for findings in self.others for problem in findings.problems()]
        lines += [f"{each['domain']} {each['dps_id']}: {each['problem']}" for each in self.truth["problems"]]
        if self.accepted != self.tracked:
            lines.append("Application Insights does not have exactly the events that were tracked")
        if self.truth["surplus"]:
            lines.append(f"NOMIS has {count(len(self.truth['surplus']), 'record')} without a DPS record")
        return lines

    def _found_text(self, found: int, causes: int) -> str:
        """The number of differences found, and for how many of them the planted cause is named.

        The first number is split as in the report, so that the number in the report's headline is among the figures.
        """
        planted_in_flight = len(self.planted_in_flight)
        split = (
            f": {found - planted_in_flight:,} in the report, {planted_in_flight:,} in flight;"
            if planted_in_flight
            else ","
        )
        return f"{found:,}{split} the planted cause named for {causes:,}"

    def _gone_text(self) -> str:
        """The number of differences that were gone when read again, and how many were planted to be gone by then."""
        gone, in_flight = self.result.settled_on_recheck, sum(each["cause"] == "in_flight" for each in self.planted)
        planted = f"{in_flight:,} in flight, {self.bulk_differs:,} only in the bulk call"
        late = len(self.result.in_flight) - len(self.planted_in_flight)
        if gone == in_flight + self.bulk_differs:
            text = f"{gone:,}, as planted: {planted}"
        else:
            text = f"{gone:,} (planted: {planted})"
        return f"{text}; {late:,} still in flight" if late else text

    def rows(self) -> list[tuple[str, str]]:
        """The rows of the table, each a label and its figure."""
        drained, traffic, result = self.drained, self.traffic, self.result
        planted, found = self.planted_bookings, self.found_bookings
        causes = sum(found.get(booking) == cause for booking, cause in planted.items())
        duplicates = traffic["duplicates"]
        twice = sum(len(each) for each in duplicates.values())
        events = sum(traffic["published"].values()) - len(duplicates["published_twice"])
        return [
            ("events published", f"{events:,}"),
            ("messages delivered", f"{traffic['messages']:,}, of which {twice} a second time"),
            ("  out of order", f"{len(traffic['out_of_order']):,}"),
            ("  applied to NOMIS", f"{drained.get('applied', 0) + drained.get('retry_queued', 0):,}"),
            ("  superseded by a later message", f"{drained.get('coalesced', 0):,}"),
            ("  already created", f"{drained.get('duplicate', 0):,}"),
            ("  not for NOMIS", f"{drained.get('ignored', 0):,}"),
            ("  tried again after a failure", f"{drained.get('failed', 0) + drained.get('deferred', 0):,}"),
            ("records in NOMIS exactly once", f"{self.once:,} of {self.truth['entities']:,}"),
            ("prisoners compared", f"{result.compared:,} of {result.total:,}"),
            ("differences planted", f"{len(planted):,}"),
            ("differences found", self._found_text(len(found.keys() & planted.keys()), causes)),
            (
                "since the last of eight weekly runs",
                f"{result.new:,} new, {result.persisting:,} persisting, {len(result.resolved):,} resolved",
            ),
            ("differences excluded", f"{sum(each.still_differs for each in result.excluded):,}"),
            ("differences that were gone when read again", self._gone_text()),
            *((findings.result.title.lower(), findings.text()) for findings in self.others),
            ("events in Application Insights", f"{sum(self.accepted.values()):,} of {sum(self.tracked.values()):,}"),
            ("messages to Slack", f"{self.slack:,}"),
            ("seconds", f"{self.seconds:.0f}"),
        ]

    def places(self) -> list[tuple[str, str]]:
        """What to look at next, and where it is."""
        return [
            ("report", self.report),
            ("all reports", self.overview),
            ("Slack", self.slack_file),
        ]


def table_lines(rows: Sequence[tuple[str, str]]) -> list[str]:
    """The lines of a table of labels and figures, at most 80 columns wide. A long figure continues below its start."""
    indent = max(len(label) for label, _ in rows) + 2
    lines = []
    for label, figure in rows:
        parts = textwrap.wrap(figure, _WIDTH - indent, break_on_hyphens=False) or [""]
        lines += [f"{start:<{indent}}{part}".rstrip() for start, part in zip_longest([label], parts, fillvalue="")]
    return lines


def against_earlier_runs(result: ReconciliationResult, earlier: EarlierRuns) -> list[str]:
    """Lines that name, by key, the persisting and resolved differences that do not match the earlier runs."""
    persisting = {key_text(each.key) for each in result.mismatches if each.standing == "persisting"}
    resolved = {key_text(each.key) for each in result.resolved}
    wrong = {
        "wrongly reported, or wrongly not reported, as persisting": persisting ^ earlier.persisting,
        "wrongly reported, or wrongly not reported, as resolved": resolved ^ earlier.resolved,
    }
    return [f"{what}: {_listed(sorted(keys), _MOST_KEYS)}" for what, keys in wrong.items() if keys]


def _keys_text(keys: set[Key]) -> str:
    texts = (" ".join(str(value) for value in key if value is not None) for key in sorted(keys, key=str))
    return _listed(texts, _MOST_KEYS)


def _bookings_text(bookings: set[int]) -> str:
    return f"bookings {_listed(map(str, sorted(bookings)), _MOST_BOOKINGS)}"


def _listed(names: Iterable[str], most: int) -> str:
    """The first `most` names, and how many more there are."""
    first = list(names)
    more = f" and {len(first) - most} more" if len(first) > most else ""
    return ", ".join(first[:most]) + more
