"""Housekeeping deletes data that is old and no longer needed."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from jobs.operations.retention import remove_expired
from sandbox import Sandbox
from sync.clock import now
from sync.store.database import Database
from sync.store.tables import failures, job_runs, outbox, reconciliation_runs, telemetry_events
from sync.store.waiting_messages import WaitingMessage, record_waits, waiting_among
from tests.harness.app import App, make_app, open_application

KEEP = {"TELEMETRY_KEEP_DAYS": "30", "RUNS_KEEP_DAYS": "30", "REPORTS_KEEP_DAYS": "30"}
LONG_AGO = now() - timedelta(days=31)


@pytest.fixture(scope="module")
def earlier(running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> App:
    """An installation with two runs of the incentives reconciliation, which ended 31 and 38 days ago.

    Its telemetry, job runs and deliveries are 31 days old, except for the event `young`. The event `waits` is due for
    export.
    """
    running_sandbox.reset(prisoners=40, mismatches={"2": 1})
    made = make_app(running_sandbox, tmp_path_factory.mktemp("earlier"), sqlite_template)
    made.make_queues()
    for _ in range(2):
        assert made.run("reconcile", "incentives").code == 0
    database = Database(made.settings["DATABASE_URL"])
    with database.begin() as connection:
        (first, _last) = connection.execute(
            select(reconciliation_runs.c.id).order_by(reconciliation_runs.c.started_at)
        ).scalars()
        connection.execute(update(reconciliation_runs).values(finished_at=LONG_AGO))
        connection.execute(
            update(reconciliation_runs)
            .where(reconciliation_runs.c.id == first)
            .values(finished_at=LONG_AGO - timedelta(days=7))
        )
        connection.execute(update(job_runs).values(finished_at=LONG_AGO))
        connection.execute(update(telemetry_events).values(time=LONG_AGO))
        connection.execute(update(outbox).values(created_at=LONG_AGO))
        event = {"name": "waits", "time": LONG_AGO, "properties": {}, "export": "due"}
        connection.execute(insert(telemetry_events), [event, {**event, "name": "young", "time": now(), "export": None}])
    database.dispose()
    return made


@pytest.fixture
def app(sandbox: Sandbox, tmp_path: Path, earlier: App) -> App:
    """A copy of the installation `earlier`. Its queues exist and are empty."""
    made = make_app(sandbox, tmp_path, earlier.database)
    shutil.copytree(earlier.settings["REPORTS_LOCATION"], made.settings["REPORTS_LOCATION"])
    made.make_queues()
    return made


def counts(app: App) -> dict[str, int]:
    """The number of rows in each of the tables that the tests look at, by the table's name."""
    database = Database(app.settings["DATABASE_URL"])
    tables = (telemetry_events, failures, job_runs, outbox, reconciliation_runs)
    with database.read() as connection:
        found = {
            table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
            for table in tables
        }
    database.dispose()
    return found


def run_ids(app: App) -> list[str]:
    """The ids of the reconciliation runs in the database, in the order in which the runs ended."""
    database = Database(app.settings["DATABASE_URL"])
    with database.read() as connection:
        ids = connection.execute(select(reconciliation_runs.c.id).order_by(reconciliation_runs.c.finished_at))
        found = list(ids.scalars())
    database.dispose()
    return found


def test_old_data_is_deleted(app: App) -> None:
    """Old telemetry events, runs and reports are deleted, and so are old deliveries that were sent.

    Events that are still due for export are kept, and so is the last complete run of a reconciliation, with its report.
    """
    folders = {path.parent.name for path in Path(app.settings["REPORTS_LOCATION"]).rglob("report.html")}
    assert len(folders) == 2
    _, last = run_ids(app)
    app.run_ok("dlq", "retry-all", **KEEP)
    names = {event["name"] for event in app_events(app)}
    assert names == {"waits", "young"}
    found = counts(app)
    # Of the two runs of the reconciliation, the last one stays, and so does the run of housekeeping.
    assert (found["job_runs"], found["outbox"], found["reconciliation_runs"]) == (2, 0, 1)
    kept = {path.parent.name for path in Path(app.settings["REPORTS_LOCATION"]).rglob("report.html")}
    assert len(kept) == 1
    assert kept < folders
    assert (run_ids(app), kept) == ([last], {last})
    assert app.read_json("runs", "list")[0]["counts"]["removed"]["reports"] == 1


def test_data_that_status_and_housekeeping_need_is_kept(app: App) -> None:
    """A job's last run is kept, and so is its last success, even if the job has failed since.

    Failed attempts are kept for fifteen days, since their messages may be dead letters.
    """
    database = Database(app.settings["DATABASE_URL"])
    attempt = {"queue": "visit", "message_id": "m", "reason": "odd", "recoverable": False, "attempt": 1}
    with database.begin() as connection:
        rows = [{**attempt, "time": now() - timedelta(days=days)} for days in (8, 13, 16)]
        connection.execute(insert(failures), rows)
        ids = list(connection.execute(select(job_runs.c.id).order_by(job_runs.c.started_at)).scalars())
        connection.execute(update(job_runs).where(job_runs.c.id == ids[-1]).values(status="failed"))
    app.run_ok("dlq", "retry-all", TELEMETRY_KEEP_DAYS="7", RUNS_KEEP_DAYS="7")
    with database.read() as connection:
        kept = set(connection.execute(select(job_runs.c.id).where(job_runs.c.id.in_(ids))).scalars())
        times = list(connection.execute(select(failures.c.time).order_by(failures.c.time.desc())).scalars())
    database.dispose()
    assert kept == set(ids)
    assert [(now() - time).days for time in times] == [8, 13]


def test_records_of_messages_that_sqs_no_longer_has_are_removed(app: App) -> None:
    """Even if no setting limits how long data is kept, records of waiting messages that SQS has dropped are removed."""
    database = Database(app.settings["DATABASE_URL"])
    due = {days: now() - timedelta(days=days) for days in (2, 13, 16)}
    waits = [WaitingMessage("visit", f"{days}", "turn", None, None, moment, moment) for days, moment in due.items()]
    with database.begin() as connection:
        record_waits(connection, waits)
    app.run_ok("dlq", "retry-all")
    with database.read() as connection:
        assert waiting_among(connection, "visit", map(str, due)).keys() == {"2", "13"}
    database.dispose()
    assert app.read_json("runs", "list")[0]["counts"]["removed"] == {"waiting": 1}


def test_files_that_cannot_be_removed_are_tried_again(app: App) -> None:
    """If the files of a run cannot be removed, housekeeping succeeds, but the run stays in the database.

    Once the files can be removed, housekeeping removes the run as well.
    """
    location = Path(app.settings["REPORTS_LOCATION"])
    reports = {path.parent for path in location.rglob("report.html")}
    database = Database(app.settings["DATABASE_URL"])
    with database.read() as connection:
        first = connection.execute(
            select(reconciliation_runs.c.id).order_by(reconciliation_runs.c.finished_at).limit(1)
        ).scalar_one()
    database.dispose()
    (folder,) = (each for each in reports if each.name == first)
    elsewhere = location / "elsewhere"
    folder.rename(elsewhere)
    # A symbolic link cannot be removed in the way that a folder is.
    folder.symlink_to(elsewhere)
    done = app.run("dlq", "retry-all", **KEEP)
    assert (done.code, "report-not-removed" in done.err) == (0, True)
    shown = app.read_json("runs", "list")[0]["counts"]
    assert (shown["reportsNotRemoved"], "reports" in shown.get("removed", {})) == (1, False)
    assert counts(app)["reconciliation_runs"] == 2
    assert (elsewhere / "report.html").exists()
    folder.unlink()
    app.run_ok("dlq", "retry-all", **KEEP)
    assert counts(app)["reconciliation_runs"] == 1
    assert "reportsNotRemoved" not in app.read_json("runs", "list")[0]["counts"]


def test_slow_removal_of_files_does_not_block_the_database(app: App) -> None:
    """While files are removed, other processes can write to the database.

    A run that is resumed in the meantime is kept.
    """
    folders = {path.parent for path in Path(app.settings["REPORTS_LOCATION"]).rglob("report.html")}
    database = Database(app.settings["DATABASE_URL"])
    seen: list[str] = []

    def write_meanwhile(event: str, arguments: tuple[object, ...]) -> None:
        removed = [each.name for each in folders if event == "shutil.rmtree" and str(arguments[0]) == str(each)]
        if removed and not seen:
            seen.extend(removed)
            with database.begin() as connection:
                reopened = update(reconciliation_runs).where(reconciliation_runs.c.id == removed[0])
                connection.execute(reopened.values(finished_at=None, status="running"))

    sys.addaudithook(write_meanwhile)
    app.run_ok("dlq", "retry-all", **KEEP)
    assert len(seen) == 1
    with database.read() as connection:
        known = set(connection.execute(select(reconciliation_runs.c.id)).scalars())
    database.dispose()
    assert known == {each.name for each in folders}


def test_without_a_setting_everything_is_kept(app: App) -> None:
    """If no retention period is set, no telemetry events, failures, runs or deliveries are deleted."""
    before = counts(app)
    app.run_ok("dlq", "retry-all")
    after = counts(app)
    assert after == {**before, "job_runs": before["job_runs"] + 1}


def app_events(app: App) -> list[dict[str, object]]:
    """The tracked telemetry events, as JSON objects."""
    return [json.loads(line) for line in app.run_ok("telemetry", "--json").splitlines()]


def test_a_run_that_is_resumed_during_the_removal_keeps_its_new_report(app: App) -> None:
    """If a run is resumed and ends again while old files are removed, its new report is kept."""
    reports = set(Path(app.settings["REPORTS_LOCATION"]).rglob("report.html"))
    with open_application({**app.settings, "REPORTS_KEEP_DAYS": "30"}, app.settings["DATABASE_URL"]) as application:

        def resumed_meanwhile() -> bool:
            with application.database.begin() as connection:
                connection.execute(update(reconciliation_runs).values(finished_at=now()))
            return False

        remove_expired(application, resumed_meanwhile)
    assert set(Path(app.settings["REPORTS_LOCATION"]).rglob("report.html")) == reports
    assert counts(app)["reconciliation_runs"] == 2
