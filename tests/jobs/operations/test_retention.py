"""What was kept for long enough goes with the housekeeping; what is still needed stays."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from sandbox import Sandbox
from sync.clock import now
from sync.store.database import Database
from sync.store.tables import failures, job_runs, outbox, reconciliation_runs, telemetry_events
from tests.harness.app import App, make_app

KEEP = {"TELEMETRY_KEEP_DAYS": "30", "RUNS_KEEP_DAYS": "30", "REPORTS_KEEP_DAYS": "30"}
LONG_AGO = now() - timedelta(days=31)


@pytest.fixture
def app(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> App:
    """An installation whose incentives were compared twice, all of it a month ago but for the last run."""
    sandbox.reset(prisoners=40, mismatches={"2": 1})
    made = make_app(sandbox, tmp_path, sqlite_template)
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


def counts(app: App) -> dict[str, int]:
    """How many rows there are of each kind."""
    database = Database(app.settings["DATABASE_URL"])
    tables = (telemetry_events, failures, job_runs, outbox, reconciliation_runs)
    with database.read() as connection:
        found = {
            table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
            for table in tables
        }
    database.dispose()
    return found


def test_what_is_older_goes(app: App) -> None:
    """Events but those still to be sent, runs and sent messages; of the reports, the last complete one stays."""
    folders = {path.parent.name for path in Path(app.settings["REPORTS_LOCATION"]).rglob("report.html")}
    assert len(folders) == 2
    app.run_ok("dlq", "retry-all", **KEEP)
    names = {event["name"] for event in app_events(app)}
    assert names == {"waits", "young"}
    found = counts(app)
    assert (found["job_runs"], found["outbox"], found["reconciliation_runs"]) == (1, 0, 1)
    kept = {path.parent.name for path in Path(app.settings["REPORTS_LOCATION"]).rglob("report.html")}
    assert len(kept) == 1
    assert kept < folders
    assert app.read_json("runs", "list")[0]["counts"]["removed"]["reports"] == 1


def test_without_a_setting_all_is_kept(app: App) -> None:
    """Nothing is removed that nobody asked to remove."""
    before = counts(app)
    app.run_ok("dlq", "retry-all")
    after = counts(app)
    assert after == {**before, "job_runs": before["job_runs"] + 1}


def app_events(app: App) -> list[dict[str, object]]:
    """The tracked events."""
    return [json.loads(line) for line in app.run_ok("telemetry", "--json").splitlines()]
