"""What the engine does for every reconciliation, tested with a made-up reconciliation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

import pandas as pd
import pytest

from reports.engine.pending_messages import PendingMessages
from reports.engine.reconciliation import Reads
from reports.engine.result import Mismatch, ReconciliationResult
from reports.engine.run_start import ReconciliationParameters, UnknownRun
from reports.engine.units import Population, Reading, Unit, UnreadRecord
from reports.presentation.summary import Step, next_steps
from reports.presentation.view import view_of
from sandbox import Sandbox
from sync.clock import now
from sync.errors import RuleError, UpstreamError
from sync.settings import times
from sync.settings.declaration import Settings
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import read_events
from sync.upstream.breaker import set_breaker
from tests.harness.reconciliations import OpenApp, ReportsApp
from tests.harness.sample_reconciliation import Row, SampleReconciliation

DOWN = RuleError("the prison cannot be read")
TOO_OLD = UpstreamError("nomis", "GET", "/made-up/MDI", status=404, message="No static resource", no_route=True)


@pytest.fixture(autouse=True)
def no_records() -> Iterator[None]:
    """Removes the records of the made-up reconciliation before and after each test."""
    SampleReconciliation.units = {}
    yield
    SampleReconciliation.units = {}


def row(prison: str, booking: int, nomis: int | None, dps: int | None, **further: Any) -> Row:
    """A record with its count on each side. If a count is None, that side does not have the record."""
    sides = {"in_nomis": nomis is not None, "in_dps": dps is not None, "nomis_count": nomis, "dps_count": dps}
    return {"prison_id": prison, "booking_id": booking, **sides, **further}


def reconciled(
    app: ReportsApp, kind: type[SampleReconciliation] = SampleReconciliation, **arguments: Any
) -> ReconciliationResult:
    """Runs the reconciliation `kind`, and returns the result."""
    result = app.reconcile(kind=kind, **arguments).result
    assert result is not None
    return result


def tracked(app: ReportsApp, name: str) -> list[dict[str, str]]:
    """The properties of each tracked telemetry event with the name `name`."""
    app.telemetry.flush()
    return [dict(each["properties"]) for each in read_events(app.database, name)]


def kinds_by_booking(result: ReconciliationResult) -> dict[int | None, str]:
    """The kind of each mismatch, by booking id."""
    return {each.booking_id: each.kind for each in result.mismatches}


def test_each_kind_of_difference_is_found(open_app: OpenApp) -> None:
    """A run finds the records that only one side has, and those whose counts differ.

    For a record whose counts differ, the result has both counts.
    """
    SampleReconciliation.units = {
        "MDI": [row("MDI", 1, 2, 1), row("MDI", 2, 1, 1), row("MDI", 3, 1, None)],
        "LEI": [row("LEI", 4, None, 2)],
    }
    app = open_app()
    result = reconciled(app)
    assert (result.reconciliation, result.status, result.compared) == ("made-up", "complete", 4)
    assert kinds_by_booking(result) == {1: "different", 3: "nomis-only", 4: "dps-only"}
    first = next(each for each in result.mismatches if each.booking_id == 1)
    assert first.key == {"prison_id": "MDI", "booking_id": 1}
    assert [(each.field, each.nomis, each.dps) for each in first.differences] == [("count", 2, 1)]
    assert {each.prison_id: (each.compared, each.mismatches) for each in result.prisons} == {
        "MDI": (3, 2),
        "LEI": (1, 1),
    }
    assert sorted(each["bookingId"] for each in tracked(app, "made-up-mismatch")) == ["1", "3", "4"]
    assert tracked(app, "made-up-report") == [{"mismatches": "3", "units": "2"}]


def test_a_mismatch_persists_until_a_run_of_the_same_reconciliation_resolves_it(open_app: OpenApp) -> None:
    """A mismatch is resolved once a run finds that both sides agree or that the record is gone.

    Runs of other reconciliations do not affect the mismatch.
    """
    app = open_app()
    SampleReconciliation.units = {"MDI": [row("MDI", number, 1, 2) for number in (1, 2, 3)]}
    first = reconciled(app)
    assert app.reconcile().status == "complete"
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 2), row("MDI", 2, 1, 1), row("MDI", 4, 1, 2)]}
    second = reconciled(app)
    assert {each.booking_id: each.standing for each in second.mismatches} == {1: "persisting", 4: "new"}
    assert {each.booking_id: each.how for each in second.resolved} == {2: "equal", 3: "gone"}
    assert second.compared_with == first.run_id
    assert [each.run_id for each in second.trend] == [first.run_id, second.run_id]


def test_an_unread_unit_makes_the_run_incomplete(open_app: OpenApp) -> None:
    """If a unit cannot be read, the run names it, resolves no difference in it, and compares the other units.

    When the run is resumed, only that unit is read, apart from the recheck of the differences.
    """
    app = open_app()
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 2)], "LEI": [row("LEI", 2, 1, 2)]}
    reconciled(app)
    SampleReconciliation.units = {"MDI": DOWN, "LEI": [row("LEI", 2, 1, 2)]}
    broken = reconciled(app, run_id="broken")
    assert (broken.status, kinds_by_booking(broken), broken.resolved) == ("incomplete", {2: "different"}, ())
    assert [(each.unit, each.reason) for each in broken.unread] == [("MDI", str(DOWN))]
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 1)], "LEI": DOWN}
    resumed = reconciled(app, parameters=ReconciliationParameters(resume="broken"))
    # The difference at LEI was read once and cannot be read again, so it counts as seen but not confirmed.
    assert [each.booking_id for each in resumed.resolved] == [1]
    assert (resumed.status, [each.booking_id for each in resumed.unconfirmed]) == ("incomplete", [2])


class Flaky(SampleReconciliation):
    """A reconciliation in which the first reads of some records fail.

    `failures` has, by booking id, how many more reads of the record fail.
    """

    failures: ClassVar[dict[int, int]] = {}

    def read(self, unit: Unit, reads: Reads) -> Reading:
        """Returns the rows that the test supplied. Those whose read fails this time are unread instead."""
        rows = super().read(unit, reads).rows
        failing = [number for number in rows["booking_id"].tolist() if self.failures.get(number, 0)]
        for number in failing:
            self.failures[number] -= 1
        keys = ({"prison_id": unit.id, "booking_id": each} for each in failing)
        unread = tuple(UnreadRecord(key, None, "DPS", "no answer") for key in keys)
        return Reading(rows[~rows["booking_id"].isin(failing)], unread)


def test_an_unread_record_is_read_again_at_the_end(open_app: OpenApp) -> None:
    """A record whose first read fails is read again at the end, and is compared if the second read succeeds.

    If the second read fails too, the record is unread, but the other records of its unit are compared.
    """
    Flaky.failures = {1: 1, 2: 2}
    Flaky.units = {
        "MDI": [row("MDI", 1, 1, 2), row("MDI", 3, 1, 1)],
        "LEI": [row("LEI", 2, 1, 2), row("LEI", 4, 1, 1)],
    }
    app = open_app(reconciliation_max_unreadable_percent="100")
    result = reconciled(app, Flaky)
    assert (result.status, result.compared, kinds_by_booking(result)) == ("incomplete", 3, {1: "different"})
    assert [(each.booking_id, each.reason) for each in result.unread] == [(2, "no answer")]
    progress = [(done, total) for stage, done, total in app.stages if stage == "reading"]
    assert progress[-1] == (2, 2)


def test_a_missing_route_fails_the_run(open_app: OpenApp) -> None:
    """If a service lacks a route that the run needs, the run fails and names the service and the route."""
    SampleReconciliation.units = {"MDI": TOO_OLD, "LEI": [row("LEI", 2, 1, 1)]}
    result = reconciled(open_app())
    assert result.status == "failed"
    assert result.failure == (
        "nomis has no GET /made-up/MDI: it is too old for this reconciliation, or its address is wrong"
    )


@pytest.mark.parametrize(("units", "status"), [(0, "failed"), (9, "failed"), (10, "complete")])
def test_a_population_that_is_less_than_half_fails_the_run(open_app: OpenApp, units: int, status: str) -> None:
    """A run fails if it lists fewer than half as many records as the last run that did not fail."""
    app = open_app()
    SampleReconciliation.units = {str(number): [row("MDI", number, 1, 1)] for number in range(20)}
    assert reconciled(app).status == "complete"
    SampleReconciliation.units = {str(number): [row("MDI", number, 1, 1)] for number in range(units)}
    assert reconciled(app).status == status


def refused(app: ReportsApp, accept: str) -> str:
    """Starts a run that accepts the run `accept` and must be refused; returns the reason."""
    with pytest.raises(UnknownRun) as error:
        reconciled(app, parameters=ReconciliationParameters(accept=accept))
    return str(error.value)


@pytest.mark.parametrize("left", [0, 9])
def test_a_smaller_population_can_be_accepted(open_app: OpenApp, left: int) -> None:
    """If a smaller population is accepted with the command in its report, differences of missing records are resolved.

    Later runs are compared with the new population. Only a run that read something implausible can be accepted, and
    only once.
    """
    app = open_app()
    SampleReconciliation.units = {
        str(number): [row("MDI", number, 1, 2 if number == 15 else 1)] for number in range(20)
    }
    first = reconciled(app)
    SampleReconciliation.units = {str(number): [row("MDI", number, 1, 1)] for number in range(left)}
    failed = reconciled(app)
    assert failed.implausible
    accept = Step(
        "If the data is right, accept it once:", f"prisoner-to-nomis reconcile made-up --accept {failed.run_id}"
    )
    assert next_steps(failed)[-1] == accept
    assert "read nothing implausible" in refused(app, first.run_id)
    assert "not a run of made-up" in refused(app, "another")
    accepted = reconciled(app, parameters=ReconciliationParameters(accept=failed.run_id))
    assert (accepted.status, accepted.compared) == ("complete", left)
    assert [each.booking_id for each in accepted.resolved] == [15]
    assert "nothing left to accept" in refused(app, failed.run_id)
    assert reconciled(app).status == "complete"


def test_only_the_population_of_the_failed_run_is_accepted(open_app: OpenApp) -> None:
    """A run that accepts the population of a failed run may fail too.

    It fails if its own population is implausible even in comparison with the accepted one.
    """
    app = open_app()
    for numbers, status in ((100, "complete"), (44, "failed")):
        SampleReconciliation.units = {str(number): [row("MDI", number, 1, 1)] for number in range(numbers)}
        failed = reconciled(app)
        assert failed.status == status
    SampleReconciliation.units = {}
    again = reconciled(app, parameters=ReconciliationParameters(accept=failed.run_id))
    assert again.status == "failed"
    assert "but an earlier run listed 44" in str(again.failure)


def test_a_chosen_prison_without_any_record_makes_the_run_incomplete(open_app: OpenApp) -> None:
    """If a chosen prison has no records, the run is incomplete, since the prison may have been mistyped."""
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 1)], "LEI": []}
    result = reconciled(open_app(), parameters=ReconciliationParameters(prisons=("MDI", "LEI")))
    assert (result.status, result.compared, result.empty_prisons) == ("incomplete", 1, ("LEI",))


class CountedByNomis(SampleReconciliation):
    """A reconciliation in which only NOMIS gives the total number of records."""

    def population(self, reads: Reads) -> Population:
        """Returns the units, with the number of records in NOMIS as the total."""
        rows = [row for unit in self.units.values() if not isinstance(unit, Exception) for row in unit]
        return replace(super().population(reads), total=sum(row["in_nomis"] for row in rows))


def test_figures_add_up_if_only_nomis_gives_a_total(open_app: OpenApp) -> None:
    """If only NOMIS gives a total, the total that texts show is never less than the number of records compared.

    The result also has the number of records on each side.
    """
    CountedByNomis.units = {"MDI": [row("MDI", 1, 1, 1), row("MDI", 2, 1, None), row("MDI", 3, None, 1)]}
    result = reconciled(open_app(), CountedByNomis)
    assert (result.total, result.compared, result.in_nomis, result.in_dps) == (2, 3, 2, 2)
    assert (result.counts()["counts"], result.counts()["compared"]) == (3, 3)
    assert view_of(result).population() == "3 counts, 3 compared (2 in NOMIS, 2 in DPS)."


def test_very_many_differences_are_suspicious_and_alert_once(open_app: OpenApp) -> None:
    """If there are very many differences, all are kept, and a single event replaces the event for each of them."""
    app = open_app(reconciliation_suspicious_count="10")
    SampleReconciliation.units = {"MDI": [row("MDI", number, 1, 2 if number < 11 else 1) for number in range(100)]}
    result = reconciled(app)
    assert (result.status, len(result.mismatches)) == ("complete", 11)
    assert "11 of 100 differ, more than 2%" in str(result.suspicious)
    assert tracked(app, "made-up-mismatch") == []
    assert [each["mismatch-count"] for each in tracked(app, "made-up-more")] == ["11"]


@pytest.mark.parametrize(("count", "percent"), [(11, 2), (10, 11)])
def test_few_or_a_small_share_are_not_suspicious(open_app: OpenApp, count: int, percent: int) -> None:
    """If only the number of differences is suspicious, or only their share, each difference has a separate alert."""
    app = open_app(reconciliation_suspicious_count=str(count), reconciliation_suspicious_percent=str(percent))
    SampleReconciliation.units = {"MDI": [row("MDI", number, 1, 2 if number < 11 else 1) for number in range(100)]}
    assert reconciled(app).suspicious is None
    assert len(tracked(app, "made-up-mismatch")) == 11


def test_a_resumed_run_alerts_only_new_differences(open_app: OpenApp) -> None:
    """A resumed run does not repeat the alerts of the incomplete run.

    It sends alerts only about new and changed differences.
    """
    app = open_app()
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 2), row("MDI", 2, 1, 2)], "LEI": DOWN}
    reconciled(app, run_id="first")
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 2), row("MDI", 2, 1, 3)], "LEI": [row("LEI", 3, 1, 2)]}
    result = reconciled(app, parameters=ReconciliationParameters(resume="first"))
    assert (result.status, len(result.mismatches)) == ("complete", 3)
    assert [each["bookingId"] for each in tracked(app, "made-up-mismatch")] == ["1", "2", "2", "3"]
    assert [each["mismatches"] for each in tracked(app, "made-up-report")] == ["2", "3"]


def test_the_number_of_alerts_is_limited(open_app: OpenApp) -> None:
    """If there are more differences than a run may send alerts for, the last event says how many have no alert."""
    app = open_app(reconciliation_most_alerts="3")
    SampleReconciliation.units = {"MDI": [row("MDI", number, 1, 2) for number in range(5)]}
    assert len(reconciled(app).mismatches) == 5
    assert len(tracked(app, "made-up-mismatch")) == 3
    assert tracked(app, "made-up-more") == [{"mismatch-count": "5", "not-listed": "2", "reason": ""}]


@pytest.mark.parametrize("entry", ["MDI/1,known", "bookingId=1,known", "booking_id=1,known,2026-08-01"])
def test_an_excluded_record_is_reported_separately(open_app: OpenApp, entry: str) -> None:
    """A record that is excluded by its whole key, or by one key column, is reported separately if it differs.

    If the record does not differ, its exclusion is reported as unneeded.
    """
    app = open_app(reconciliation_made_up_exclusions=entry)
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 2), row("MDI", 2, 1, 2)]}
    result = reconciled(app)
    assert kinds_by_booking(result) == {2: "different"}
    assert [(each.booking_id, each.still_differs, each.reason) for each in result.excluded] == [(1, True, "known")]
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 1)]}
    assert reconciled(app).unneeded_exclusions == ("MDI/1",)


def test_a_run_over_part_of_the_records_says_nothing_about_other_exclusions(open_app: OpenApp) -> None:
    """A run for chosen prisons does not propose removing the exclusion of a record at another prison."""
    app = open_app(reconciliation_made_up_exclusions="MDI/1,known;LEI/2,known")
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 1)], "LEI": [row("LEI", 2, 1, 2)]}
    chosen = reconciled(app, parameters=ReconciliationParameters(prisons=("MDI",)))
    assert chosen.unneeded_exclusions == ("MDI/1",)


class Unreported(SampleReconciliation):
    """A reconciliation that does not report any difference."""

    def describe(self, rows: pd.DataFrame, reads: Reads) -> pd.DataFrame:  # noqa: ARG002
        """Gives each row a reason why it must not be reported."""
        return rows.assign(ignored=pd.array(["already fixed"] * len(rows), dtype="string"))


def test_an_excluded_record_that_differs_is_never_said_to_agree(open_app: OpenApp) -> None:
    """An excluded record whose difference is not reported still differs, so its exclusion counts as needed."""
    app = open_app(reconciliation_made_up_exclusions="MDI/1,known")
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 2)]}
    result = reconciled(app, Unreported)
    assert ([each.still_differs for each in result.excluded], result.unneeded_exclusions) == ([True], ())


@pytest.mark.parametrize("side", ["nomis", "dps"])
def test_a_record_that_was_changed_just_now_is_in_flight(open_app: OpenApp, side: str) -> None:
    """A record that differs and was changed recently is in flight, since the event about it may be under way.

    If the change is older, the record is a mismatch.
    """
    app = open_app()
    recent, old = now() - timedelta(minutes=3), now() - timedelta(minutes=30)
    SampleReconciliation.units = {
        "MDI": [
            row("MDI", 1, 1, 2, **{f"{side}_changed_at": recent.isoformat()}),
            row("MDI", 2, 1, 2, **{f"{side}_changed_at": old.isoformat()}),
        ]
    }
    result = reconciled(app)
    assert kinds_by_booking(result) == {2: "different"}
    assert [(each.booking_id, " was last changed 3 minutes ago" in each.why) for each in result.in_flight] == [
        (1, True)
    ]


class ByAllocation(SampleReconciliation):
    """A reconciliation of records that messages identify by their allocations."""

    def entities(self, row: Row) -> tuple[str, ...]:
        """Returns the allocation of a row, which has the same number as the booking."""
        return (f"allocation:{row['booking_id']}",)


def test_a_record_with_a_pending_message_is_in_flight(open_app: OpenApp) -> None:
    """A difference is in flight if a message about its record is on the queue or the dead letter queue."""
    app = open_app()
    SampleReconciliation.units = {"MDI": [row("MDI", number, 1, 2) for number in (1, 2, 3)]}
    pending = PendingMessages(on_dlq=frozenset({"allocation:1"}), failed=frozenset({"allocation:2"}))
    result = reconciled(app, ByAllocation, find_pending=lambda _domain: pending)
    assert kinds_by_booking(result) == {3: "different"}
    assert {each.booking_id: each.why for each in result.in_flight} == {
        1: "its message is waiting on the dead letter queue: prisoner-to-nomis dlq retry activity",
        2: "its message is waiting on the activity queue",
    }


class OwnMismatch(Mismatch):
    """A separate class for mismatches."""


class WithOwnMismatch(SampleReconciliation):
    """A reconciliation with a separate class for its mismatches, like the reconciliation of visits."""

    parts: ClassVar = {Mismatch: OwnMismatch}


@pytest.mark.parametrize("kind", [SampleReconciliation, WithOwnMismatch])
def test_a_difference_says_that_a_message_may_be_pending(open_app: OpenApp, kind: type[SampleReconciliation]) -> None:
    """While the queue holds messages, the evidence for each difference says that a message may be pending."""
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 2)]}
    doubt = "the activity queue holds 3 messages"
    found = reconciled(open_app(), kind, find_pending=lambda _domain: PendingMessages(doubt=doubt))
    [mismatch] = found.mismatches
    assert [each.text for each in mismatch.evidence] == [f"a message about it may be pending: {doubt}"]


class OfADay(SampleReconciliation):
    """A reconciliation of the records of one day, by default yesterday."""

    key: ClassVar = {"date": "string", **SampleReconciliation.key}

    @classmethod
    def window(cls, settings: Settings, today: date) -> tuple[date, date]:  # noqa: ARG003 - as in the contract
        """Returns yesterday as the first and the last day."""
        return today - timedelta(days=1), today - timedelta(days=1)


def test_a_run_concludes_nothing_about_other_days(open_app: OpenApp) -> None:
    """A run for one day does not resolve the differences of other days.

    A run for the default day is compared with the last such run, not with a later run for a chosen day.
    """
    app = open_app()
    yesterday = now().date() - timedelta(days=1)
    OfADay.units = {"MDI": [{**row("MDI", 1, 1, 2), "date": "2023-05-01"}]}
    first = reconciled(app, OfADay)
    OfADay.units = {"MDI": [{**row("MDI", 2, 1, 2), "date": yesterday.isoformat()}]}
    second = reconciled(app, OfADay)
    assert (second.resolved, [each.standing for each in second.mismatches]) == ((), ["new"])
    assert second.compared_with == first.run_id
    chosen = ReconciliationParameters(from_date=date(2023, 5, 1), to_date=date(2023, 5, 1))
    OfADay.units = {"MDI": []}
    assert reconciled(app, OfADay, parameters=chosen).resolved == ()
    assert reconciled(app, OfADay).compared_with == second.run_id


class ListedByNomis(SampleReconciliation):
    """A reconciliation whose units are listed by a single call to NOMIS."""

    def population(self, reads: Reads) -> Population:
        """Calls NOMIS, and then returns one unit."""
        nomis = self.services.nomis
        reads.one(UpstreamName.NOMIS, lambda: nomis.call("GET", "/agency-switches/ACTIVITY"))
        return Population((Unit("MDI"),), None)


def test_a_run_that_waits_for_a_single_call_can_be_stopped(upstream: Sandbox, open_app: OpenApp) -> None:
    """While a single call is retried, the progress says why and for how long, and its callback can end the run."""
    upstream.fault("nomis", "GET", "/agency-switches/ACTIVITY", kind="status", status=503)

    def stop(stage: str, _done: int, _total: int) -> None:
        assert re.match(r"listing, waiting up to \d\S* s: nomis: GET /agency-switches/ACTIVITY: status 503", stage)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconciled(open_app(), ListedByNomis, progress=stop)


def test_a_run_says_for_which_service_it_waits_and_gives_up(
    upstream: Sandbox, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a service counts as down, the progress of a single call names it, and says since when and for how long.

    If the service comes back in time, the progress no longer says so. If not, the run fails and names the service.
    """
    monkeypatch.setattr(times, "PING_SECONDS", 0.0)
    upstream.fault("nomis", kind="status", status=503)
    SampleReconciliation.units = {"MDI": [row("MDI", 1, 1, 1)]}
    app, stages = open_app(with_breakers=True), list[str]()
    with app.database.begin() as connection:
        set_breaker(connection, "nomis", "open", opened_at=datetime(2023, 5, 22, 8, 30, tzinfo=UTC))

    def note(stage: str, _done: int, _total: int) -> None:
        stages.append(stage)

    def end_outage(_seconds: float) -> None:
        upstream.clear_faults()

    failed = reconciled(app, ListedByNomis, progress=note, outage_seconds=1.0)
    assert (failed.status, failed.failure) == ("failed", "nomis counts as down, so it was not called")
    assert "listing, waiting up to 1 s: nomis has counted as down since 22 May 09:30" in stages
    stages.clear()
    assert reconciled(app, ListedByNomis, progress=note, outage_seconds=600, sleep=end_outage).status == "complete"
    assert "listing, waiting up to 10 min: nomis has counted as down since 22 May 09:30" in stages
    assert "waiting up to" not in stages[-1]
