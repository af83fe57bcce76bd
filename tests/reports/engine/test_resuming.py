"""A whole run or its shards can be resumed in any process: after a crash, after a failure, or by a retry."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from reports.engine import runs
from reports.engine.history import read_baseline, read_trend
from reports.engine.run_start import LAST, ReconciliationBusy, ReconciliationParameters, UnknownRun
from reports.engine.runs import Coverage
from sandbox import Sandbox
from sync.clock import now
from sync.store import outbox
from tests.harness.reconciliations import (
    CURRENT,
    HALF,
    OTHER_HALF,
    OpenApp,
    ReportsApp,
    at_work,
    listed_bookings,
    open_reports_app,
    result_of,
)
from tests.harness.results import made_result, visit_result


def active(upstream: Sandbox) -> set[int]:
    """The ids of the bookings that are active now."""
    return {each["bookingId"] for each in upstream.prisoners()}


def level_reads(upstream: Sandbox) -> int:
    """The number of times that a level was read from NOMIS."""
    return sum(each["path"].endswith("/current") for each in upstream.requests("nomis"))


def of_shard(upstream: Sandbox, shard: int) -> list[int]:
    """The ids of the bookings of one of two shards, in ascending order.

    Each shard has every other page of fifty bookings.
    """
    bookings = sorted(active(upstream))
    return [booking for place, booking in enumerate(bookings) if place // 50 % 2 == shard]


def break_one(upstream: Sandbox, shard: int = 0) -> int:
    """Makes NOMIS refuse to return the level of one prisoner of a shard, and returns that prisoner's booking id."""
    booking = of_shard(upstream, shard)[0]
    upstream.fault("nomis", "GET", CURRENT.replace("{b}", str(booking)), kind="status", status=400)
    return booking


def fail_second_listing(upstream: Sandbox, page_size: int) -> None:
    """Makes every page of a second listing fail, for a run whose first listing has pages of `page_size` rows."""
    for turn in range(4):
        size = 5 * page_size + page_size // 3 * (turn + 1)
        upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query=f"size={size}")


def stop_at(stage: str, last: int = 0) -> Any:
    """A progress callback that ends the run, as a signal would, once `last` items of `stage` are done."""

    def stop(reported: str, done: int, _total: int) -> None:
        if reported == stage and done >= last:
            raise KeyboardInterrupt

    return stop


def deliveries(app: ReportsApp) -> list[str]:
    """The channels of the due deliveries in the outbox, in order."""
    with app.database.read() as connection:
        return [each.channel for each in outbox.due(connection, 100)]


def test_a_resumed_run_finds_prisoners_who_moved(upstream: Sandbox, open_app: OpenApp) -> None:
    """A resumed run finds prisoners who have moved to pages that were already read, and has a new total."""
    upstream.reset(prisoners=200, mismatches={"7": 2})
    app = open_app()
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query="page=1")
    assert app.reconcile(run_id="paged").status == "incomplete"
    upstream.clear_faults()
    for leaver in sorted(upstream.prisoners(), key=lambda each: int(each["bookingId"]))[:10]:
        upstream.release(leaver["offenderNo"])
    resumed = app.reconcile(ReconciliationParameters(resume="paged"))
    assert resumed.status == "complete"
    assert active(upstream) <= listed_bookings(app, "paged")
    assert (result_of(resumed).total, result_of(resumed).compared) == (190, 200)


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_a_run_that_died_after_its_second_listing_lists_again(upstream: Sandbox, open_app: OpenApp, seed: int) -> None:
    """If a run dies after its second listing, the resumed run repeats that listing.

    Every prisoner who stayed active throughout is listed.
    """
    upstream.reset(prisoners=400, moving=4, seed=seed)
    before = active(upstream)
    app = open_app()
    with pytest.raises(KeyboardInterrupt):
        app.reconcile(run_id="killed", progress=stop_at("reading"))
    second_listing = "size=266"
    assert [each for each in upstream.requests("nomis") if second_listing in each["path"]] != []
    upstream.clear_records()
    assert app.reconcile(ReconciliationParameters(resume="killed")).status == "complete"
    assert [each for each in upstream.requests("nomis") if second_listing in each["path"]] != []
    assert before & active(upstream) <= listed_bookings(app, "killed")


@pytest.mark.parametrize("seed", [1, 3])
def test_a_failed_second_listing_makes_the_run_incomplete(upstream: Sandbox, open_app: OpenApp, seed: int) -> None:
    """If prisoners move and the second listing fails, the run is incomplete and names the page that it could not read.

    Once the run has been resumed, it is complete.
    """
    upstream.reset(prisoners=400, moving=4, seed=seed)
    before = active(upstream)
    fail_second_listing(upstream, 50)
    app = open_app()
    outcome = app.reconcile(run_id="short")
    assert outcome.status == "incomplete"
    assert "repeated listing, 266 to a page" in result_of(outcome).unread_pages[0].reason
    assert app.events("report")[-1]["success"] == "false"
    upstream.clear_faults()
    assert app.reconcile(ReconciliationParameters(resume="short")).status == "complete"
    assert before & active(upstream) <= listed_bookings(app, "short")


def test_a_failed_second_listing_is_repeated_after_the_reading(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the second listing fails, it is repeated once all prisoners have been read.

    If the repeat succeeds, the run is complete.
    """
    upstream.reset(prisoners=200)
    for turn in range(4):
        size = 5 * 50 + 16 * (turn + 1)
        upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query=f"size={size}", times=2)
    assert open_app().reconcile().status == "complete"
    assert sum(each["hits"] for each in upstream.faults()) == 2
    calls = [(each["path"].partition("?")[0], each["status"]) for each in upstream.requests("nomis")]
    assert calls[-1] == ("/prisoners/ids", 200)
    assert sum(path.endswith("/current") for path, _ in calls) == 200


@pytest.mark.parametrize("scope", ["prisoner", "prison"])
def test_a_small_run_keeps_the_pages_of_a_weekly_run(upstream: Sandbox, open_app: OpenApp, scope: str) -> None:
    """A run for one prisoner or prison removes nothing from a weekly run that is waiting to be resumed."""
    upstream.reset(prisoners=200, mismatches={"7": 2})
    app = open_app()
    broken = break_one(upstream)
    assert app.reconcile(run_id="weekly").status == "incomplete"
    upstream.clear_faults()
    other = next(each for each in upstream.prisoners() if each["bookingId"] != broken)
    single = ReconciliationParameters(offender_nos=(other["offenderNo"],))
    part = single if scope == "prisoner" else ReconciliationParameters(prisons=(other["prisonId"],))
    assert app.reconcile(part).status == "complete"
    upstream.clear_records()
    assert app.reconcile(ReconciliationParameters(resume="weekly")).status == "complete"
    assert level_reads(upstream) <= 1 + 2


def test_a_complete_run_over_everyone_removes_the_pages_of_older_runs(upstream: Sandbox, open_app: OpenApp) -> None:
    """A complete run for everyone leaves no pages behind, neither its own nor those of an older open run."""
    app = open_app()
    break_one(upstream)
    pages = text("SELECT count(*) FROM reconciliation_pages")
    assert app.reconcile(run_id="older").status == "incomplete"
    with app.database.read() as connection:
        assert connection.execute(pages).scalar_one() > 0
    upstream.clear_faults()
    assert app.reconcile(run_id="newer").status == "complete"
    with app.database.read() as connection:
        assert connection.execute(pages).scalar_one() == 0


def test_many_small_runs_do_not_hide_the_last_weekly_run(upstream: Sandbox, open_app: OpenApp) -> None:
    """However many small runs follow, the comparison and the trend use the last runs for everyone.

    The index still lists those runs, but only the newest of the small runs.
    """
    upstream.reset(prisoners=60, mismatches={"7": 3})
    app = open_app()
    app.reconcile(run_id="week-1")
    app.reconcile(run_id="week-2")
    single = ReconciliationParameters(offender_nos=(upstream.prisoners()[0]["offenderNo"],))
    looked = result_of(app.reconcile(single))
    with app.database.begin() as connection:
        for number in range(600):
            runs.create_run(connection, "incentives", f"single-{number}", single.recorded(), 1)
            runs.save_result(connection, looked.model_copy(update={"run_id": f"single-{number}"}))
    with app.database.read() as connection:
        assert read_baseline(connection, "incentives", now()).run_id == "week-2"
        assert [each.run_id for each in read_trend(connection, "incentives", now())] == ["week-1", "week-2"]
        ended = runs.ended_runs(connection)
    assert [run.run_id for run in ended if not run.parameters["offender_nos"]] == ["week-2", "week-1"]
    assert len(ended) == 2 + runs.INDEXED_PARTIAL_RUNS


def test_many_daily_runs_do_not_hide_a_weekly_reconciliation(open_app: OpenApp) -> None:
    """The index has the last runs of each reconciliation, however often other reconciliations have run."""
    app = open_app()
    with app.database.begin() as connection:
        for name, number, result in (("incentives", 2, made_result(1)), ("official-visits", 120, visit_result(1))):
            for each in range(number):
                run_id = f"{name}-{each}"
                runs.create_run(connection, name, run_id, {}, 1)
                runs.save_result(connection, result.model_copy(update={"run_id": run_id}))
        ended = runs.ended_runs(connection)
    assert Counter(run.title for run in ended) == {"Incentive levels": 2, "Official visits": runs.INDEXED_RUNS}


def test_a_retried_shard_returns_the_result_of_its_run(upstream: Sandbox, open_app: OpenApp) -> None:
    """Once a run is complete, a retry of its last shard returns the outcome of that shard without a call to NOMIS."""
    upstream.reset(prisoners=100, mismatches={"7": 2})
    app = open_app()
    app.reconcile(HALF)
    ended = app.reconcile(OTHER_HALF)
    upstream.clear_records()
    again = app.reconcile(OTHER_HALF)
    assert (ended.status, again) == ("complete", ended)
    assert upstream.requests("nomis") == []
    assert len(app.events("report")) == 1


@pytest.mark.parametrize("shard", [0, 1])
def test_a_retried_shard_resumes_an_incomplete_run(upstream: Sandbox, open_app: OpenApp, shard: int) -> None:
    """A retry of the last shard reads everything that any shard has left unread.

    The run is incomplete while anything is unread.
    """
    upstream.reset(prisoners=200, mismatches={"7": 2})
    app = open_app()
    booking = break_one(upstream, shard)
    app.reconcile(HALF)
    ended = app.reconcile(OTHER_HALF)
    assert ended.status == "incomplete"
    again = app.reconcile(OTHER_HALF)
    assert (again.status, again.run_id) == ("incomplete", ended.run_id)
    assert [each.booking_id for each in result_of(again).unread] == [booking]
    upstream.clear_faults()
    upstream.clear_records()
    whole = app.reconcile(OTHER_HALF)
    assert (whole.status, whole.run_id) == ("complete", ended.run_id)
    assert result_of(whole).compared == 200
    assert level_reads(upstream) <= 1 + 2


def test_a_shard_that_gave_up_rejoins_its_run(upstream: Sandbox, open_app: OpenApp) -> None:
    """A retry of a shard that gave up joins that shard's run, and so does another shard that starts later."""
    upstream.reset(prisoners=200)
    app = open_app()
    for booking in of_shard(upstream, 1)[:30]:
        upstream.fault("nomis", "GET", CURRENT.replace("{b}", str(booking)), kind="status", status=400)
    failed = app.reconcile(OTHER_HALF)
    assert failed.status == "failed"
    upstream.clear_faults()
    assert app.reconcile(OTHER_HALF).status == "unfinished shard"
    ended = app.reconcile(HALF)
    assert (ended.status, ended.run_id) == ("complete", failed.run_id)
    assert result_of(ended).compared == 200


def test_last_resumes_an_incomplete_run_and_reports_it_once(upstream: Sandbox, open_app: OpenApp) -> None:
    """With `resume=LAST`, a run is resumed while it is incomplete. Once it is complete, a new run begins.

    An incomplete result is reported only once, even if the resumed run is incomplete again.
    The complete result is reported too.
    """
    last = ReconciliationParameters(resume=LAST)
    upstream.reset(prisoners=100, mismatches={"7": 1})
    app = open_app(smtp_url="smtp://localhost:1", reports_email_to="a@example.org")
    break_one(upstream)
    first = app.reconcile(last, run_id="monday")
    upstream.clear_records()
    again = app.reconcile(last, run_id="retry")
    assert [(each.status, each.run_id) for each in (first, again)] == [("incomplete", "monday")] * 2
    assert level_reads(upstream) <= 1 + 1
    channels = ["archive", "slack", "email"]
    assert deliveries(app) == channels
    assert len(app.events("report")) == len(app.events("mismatch")) == 1
    upstream.clear_faults()
    whole = app.reconcile(last, run_id="second retry")
    assert (whole.status, whole.run_id) == ("complete", "monday")
    assert deliveries(app) == channels * 2
    assert app.reconcile(last, run_id="next").run_id == "next"


def test_last_resumes_the_run_of_a_dead_process(upstream: Sandbox, open_app: OpenApp) -> None:
    """With `resume=LAST`, a run for everyone resumes an earlier run for everyone whose process died.

    A run for a prison does not resume it.
    """
    last = ReconciliationParameters(resume=LAST)
    upstream.reset(prisoners=200)
    app = open_app()
    with pytest.raises(KeyboardInterrupt):
        app.reconcile(last, run_id="monday", progress=stop_at("reading", 100))
    assert app.reconcile(ReconciliationParameters(prisons=("MDI",), resume=LAST), run_id="other").run_id == "other"
    upstream.clear_records()
    assert app.reconcile(last, run_id="retry").run_id == "monday"
    assert level_reads(upstream) <= 100


@pytest.mark.parametrize(
    "moment",
    [
        "UPDATE OF result ON reconciliation_runs WHEN NEW.result IS NOT NULL",
        "INSERT ON telemetry_events WHEN NEW.name LIKE '%-mismatch'",
    ],
)
def test_the_result_and_the_events_are_stored_together(upstream: Sandbox, open_app: OpenApp, moment: str) -> None:
    """If the result or an event cannot be stored, nothing is stored, so the resumed run records everything once."""
    upstream.reset(prisoners=60, mismatches={"7": 2})
    app = open_app()
    with app.database.begin() as connection:
        connection.execute(text(f"CREATE TRIGGER refuse BEFORE {moment} BEGIN SELECT RAISE(ABORT, 'refused'); END"))
    with pytest.raises(Exception, match="refused"):
        app.reconcile(run_id="weekly")
    assert app.events("mismatch") == app.events("report") == []
    with app.database.begin() as connection:
        connection.execute(text("DROP TRIGGER refuse"))
    app.reconcile(ReconciliationParameters(resume="weekly"))
    assert len(app.events("mismatch")) == 2
    assert len(app.events("report")) == len(app.events("requested")) == 1


def test_a_resumed_run_names_unknown_prisoners(upstream: Sandbox, open_app: OpenApp) -> None:
    """A resumed run for chosen prisoners still names a prisoner number that belongs to no active prisoner."""
    app = open_app()
    someone = upstream.prisoners()[0]
    upstream.fault("nomis", "GET", CURRENT.replace("{b}", str(someone["bookingId"])), kind="status", status=400)
    numbers = (someone["offenderNo"], "Z9999ZZ")
    assert app.reconcile(ReconciliationParameters(offender_nos=numbers), run_id="some").status == "failed"
    upstream.clear_faults()
    resumed = app.reconcile(ReconciliationParameters(resume="some"))
    assert resumed.status == "incomplete"
    assert [each.offender_no for each in result_of(resumed).unread] == ["Z9999ZZ"]
    assert result_of(resumed).compared == 1


def test_shards_are_resumed_on_either_database(upstream: Sandbox, database_url: str, tmp_path: Path) -> None:
    """Shards can join a run, and an incomplete run in shards can be resumed, on PostgreSQL as well as on SQLite."""
    upstream.reset(prisoners=100, mismatches={"7": 2})
    with open_reports_app(upstream.environment(), tmp_path, database_url) as app:
        break_one(upstream)
        with at_work(app, HALF, "first"), pytest.raises(ReconciliationBusy):
            app.reconcile()
        assert app.reconcile(OTHER_HALF).status == "incomplete"
        upstream.clear_faults()
        whole = app.reconcile(OTHER_HALF)
        assert (whole.status, whole.run_id, result_of(whole).compared) == ("complete", "first", 100)
        assert result_of(app.reconcile()).compared_with == "first"


@pytest.mark.parametrize("filters", [{"prisons": ("MDI",)}, {"offender_nos": ("A1234BC",)}])
def test_a_resumed_run_refuses_a_filter(upstream: Sandbox, open_app: OpenApp, filters: dict[str, Any]) -> None:
    """A resumed run covers the prisoners for whom it was started.

    So resuming it with a choice of prisons or prisoners is refused.
    """
    app = open_app()
    break_one(upstream)
    app.reconcile(run_id="weekly")
    with pytest.raises(UnknownRun, match="resume weekly without --prison and --prisoner"):
        app.reconcile(ReconciliationParameters(resume="weekly", **filters))


def test_a_booking_on_two_pages_is_counted_once(upstream: Sandbox, open_app: OpenApp) -> None:
    """A booking on two stored pages, as an older version may have left it, is counted once, and the run can end."""
    upstream.reset(prisoners=60)
    app = open_app()
    with pytest.raises(KeyboardInterrupt):
        app.reconcile(run_id="twice", progress=stop_at("reading"))
    again = "SELECT run_id, shard, 77, finished_at, rows FROM reconciliation_pages LIMIT 1"
    with app.database.begin() as connection:
        connection.execute(text(f"INSERT INTO reconciliation_pages (run_id, shard, page, finished_at, rows) {again}"))
    outcome = app.reconcile(ReconciliationParameters(resume="twice"))
    assert (outcome.status, result_of(outcome).compared) == ("complete", 60)


def test_a_listed_prisoner_on_no_page_is_unread(upstream: Sandbox, open_app: OpenApp) -> None:
    """A prisoner who was listed, but is on none of the pages that were read, is unread, and the run is incomplete.

    A retry reads such prisoners.
    """
    upstream.reset(prisoners=100, mismatch_rate=0)
    app = open_app()
    with pytest.raises(KeyboardInterrupt):
        app.reconcile(HALF, run_id="parts", progress=stop_at("reading"))
    with app.database.begin() as connection:
        connection.execute(text("DELETE FROM reconciliation_pages"))
        runs.finish_shard(connection, "parts", 0)
    outcome = app.reconcile(OTHER_HALF)
    assert outcome.status == "incomplete"
    assert {each.reason for each in result_of(outcome).unread} == {"listed, but not read by this run"}
    assert app.reconcile(OTHER_HALF).status == "complete"


def test_parameters_decide_the_scope_of_a_run() -> None:
    """If the parameters of a run name both prisoners and prisons, the prisoners decide its scope."""
    assert Coverage.of(ReconciliationParameters().recorded()) is Coverage.EVERYONE
    assert Coverage.of(ReconciliationParameters(prisons=("MDI",)).recorded()) is Coverage.PRISONS
    assert Coverage.of(ReconciliationParameters(prisons=("MDI",), offender_nos=("A",)).recorded()) is Coverage.PRISONERS
