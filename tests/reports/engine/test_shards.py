"""Runs in several processes are kept apart and can be resumed after a kill or a stop. Each has exactly one result."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from reports.engine import runs
from reports.engine.run_start import ReconciliationBusy, ReconciliationParameters, UnknownRun
from sandbox import Sandbox
from tests.harness.processes import exit_codes
from tests.harness.reconciliations import (
    HALF,
    OTHER_HALF,
    OpenApp,
    at_work,
    open_reports_app,
    planted_causes,
    read_bookings,
    result_of,
)

WHOLE = ReconciliationParameters()
THIRD = ReconciliationParameters(shards=3, shard=1)


@pytest.mark.parametrize(
    ("first", "second"), [(WHOLE, WHOLE), (WHOLE, HALF), (HALF, WHOLE), (HALF, THIRD), (HALF, HALF)]
)
def test_a_second_run_does_nothing_while_one_is_under_way(
    upstream: Sandbox, open_app: OpenApp, first: ReconciliationParameters, second: ReconciliationParameters
) -> None:
    """While a run or a shard is under way, other runs, shards of other runs and the same shard are refused.

    A run for one prisoner is allowed.
    """
    upstream.reset(prisoners=100)
    app = open_app()
    with at_work(app, first, "first"):
        with pytest.raises(ReconciliationBusy, match="in progress"):
            app.reconcile(second, run_id="second")
        someone = upstream.prisoners()[0]["offenderNo"]
        assert app.reconcile(ReconciliationParameters(offender_nos=(someone,))).status == "complete"
    with app.database.read() as connection:
        assert runs.find_run(connection, "second") is None


def test_shards_of_one_run_work_in_parallel(upstream: Sandbox, open_app: OpenApp) -> None:
    """A shard that starts while another shard is under way joins the same run and does not wait for that shard."""
    upstream.reset(prisoners=100)
    app = open_app()
    with at_work(app, HALF, "first"):
        assert app.reconcile(OTHER_HALF, run_id="second").run_id == "first"


def test_a_run_that_cannot_be_resumed_is_refused(upstream: Sandbox, open_app: OpenApp) -> None:
    """Resuming a run that does not exist or is complete is refused, and the error says why.

    A run that has not ended can be resumed only with the same number of shards, and without a choice of days.
    """
    app = open_app()
    app.reconcile(run_id="done")
    app.reconcile(HALF, run_id="half")
    for parameters, why in (
        (ReconciliationParameters(resume="none"), "there is no reconciliation none"),
        (ReconciliationParameters(resume="done"), "done is complete; there is nothing to resume"),
        (ReconciliationParameters(resume="half"), "half has 2 shards; resume it with --shards 2"),
        (replace(THIRD, resume="half"), "half has 2 shards; resume it with --shards 2"),
        (replace(OTHER_HALF, resume="half", from_date=date(2023, 5, 22)), "resume half without dates"),
    ):
        with pytest.raises(UnknownRun, match=why):
            app.reconcile(parameters)
    resumed = app.reconcile(replace(OTHER_HALF, resume="half"))
    assert (resumed.run_id, resumed.status) == ("half", "complete")


def _run_until_killed(environment: dict[str, str], folder: str, url: str) -> None:
    """Reconciles, and kills its own process after 100 prisoners have been read, as a crash would."""

    def die(stage: str, done: int, _total: int) -> None:
        if stage == "reading" and done >= 100:
            os.kill(os.getpid(), signal.SIGKILL)

    with open_reports_app(environment, Path(folder), url) as app:
        app.reconcile(run_id="killed", progress=die)


def test_a_killed_run_keeps_its_finished_pages(upstream: Sandbox, open_app: OpenApp, tmp_path: Path) -> None:
    """When a killed run is resumed, prisoners on finished pages are read again only if their levels differ.

    The resumed run finds every difference.
    """
    upstream.reset(prisoners=300, mismatches={"7": 3, "4": 2})
    app = open_app()
    arguments = (upstream.environment(), str(tmp_path), app.settings.database_url)
    assert exit_codes(_run_until_killed, arguments) == [-signal.SIGKILL]
    finished = read_bookings(app, "killed")
    assert len(finished) >= 100
    upstream.clear_records()
    outcome = app.reconcile(ReconciliationParameters(resume="killed"))
    assert outcome.status == "complete"
    read_again = {int(each["path"].split("/")[3]) for each in upstream.requests("nomis") if "/current" in each["path"]}
    mismatching = {each["bookingId"] for each in planted_causes(upstream)}
    assert read_again & finished <= mismatching
    assert {each.booking_id for each in result_of(outcome).mismatches} == mismatching
    assert result_of(outcome).compared == 300


def test_a_stopped_run_can_be_resumed(upstream: Sandbox, open_app: OpenApp) -> None:
    """A `KeyboardInterrupt` in the progress callback ends the run at once, without a summary event.

    The run can be resumed.
    """
    upstream.reset(prisoners=300)
    app = open_app()

    def stop(stage: str, done: int, _total: int) -> None:
        if stage == "reading" and done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        app.reconcile(run_id="stopped", progress=stop)
    assert app.events("report") == []
    resumed = app.reconcile(ReconciliationParameters(resume="stopped"))
    assert result_of(resumed).compared == 300


def test_only_one_shard_builds_the_result(upstream: Sandbox, open_app: OpenApp) -> None:
    """Shards that start at the same time join one run and share one list.

    The last shard to finish builds the result, once.
    """
    upstream.reset(prisoners=300, mismatches={"7": 3, "4": 3})
    app = open_app()
    parameters = [ReconciliationParameters(shards=3, shard=shard) for shard in range(3)]
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(app.reconcile, parameters))
    assert len({each.run_id for each in outcomes}) == 1
    assert sorted(each.status for each in outcomes).count("unfinished shard") == 2
    result = result_of(next(each for each in outcomes if each.status == "complete"))
    assert result.compared == 300
    assert {each.booking_id for each in result.mismatches} == {each["bookingId"] for each in planted_causes(upstream)}
    assert len(app.events("requested")) == 1
    assert len(app.events("report")) == 1
    reads = Counter(each["path"] for each in upstream.requests("nomis") if each["path"].endswith("/current"))
    assert max(reads.values()) <= 2


def test_a_repeated_shard_does_nothing_twice(upstream: Sandbox, open_app: OpenApp) -> None:
    """A repeat of a finished shard of an open run makes no calls.

    A repeat of a shard that died does what is left, and completes the run.
    """
    upstream.reset(prisoners=100)
    app = open_app()
    first = app.reconcile(ReconciliationParameters(shards=2, shard=0))
    upstream.clear_records()
    again = app.reconcile(ReconciliationParameters(shards=2, shard=0))
    assert (first.status, again.status) == ("unfinished shard", "unfinished shard")
    assert again.run_id == first.run_id
    assert upstream.requests("nomis") == []

    def die_at_the_end(stage: str, done: int, total: int) -> None:
        if stage == "rechecking" or (stage == "reading" and done == total):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        app.reconcile(ReconciliationParameters(shards=2, shard=1), progress=die_at_the_end)
    last = app.reconcile(ReconciliationParameters(shards=2, shard=1))
    assert (last.status, last.run_id) == ("complete", first.run_id)
    assert len(app.events("report")) == 1
    assert result_of(last).compared == 100
