"""How `status` shows reconciliations: overdue, failed, incomplete, interrupted and switched off."""

from __future__ import annotations

import json
import re
import shlex
import zlib
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select

from jobs.runtime.job_runs import scheduled_run_id
from reports.engine.run_start import ReconciliationParameters
from reports.engine.runs import create_run, save_result
from sandbox import Sandbox
from sync.clock import LONDON, now
from sync.store.tables import job_runs, reconciliation_runs
from tests.end_to_end.test_status import command_of, needs, open_application_of
from tests.harness.app import App
from tests.harness.commands import run_here
from tests.harness.results import visit_result


def test_overdue_incomplete_and_failed_reconciliations_are_marked(app: App, sandbox: Sandbox) -> None:
    """For each reconciliation, `status` shows the age of the last complete run and how many differences the run found.

    If the last run was incomplete or failed, the reconciliation is marked. An overdue reconciliation is marked too,
    unless the scheduler runs no reconciliations.
    """
    sandbox.reset(prisoners=40, mismatches={"7": 2})
    app.forget_queues()
    app.run_ok("reconcile", "incentives", "--no-notify")
    # No run of the other reconciliations is expected before they are first due.
    app.drain("visit")
    shown = app.run("status", "--json").json()
    (incentives,) = [line for line in shown["reconciliations"] if line["name"] == "incentives"]
    assert (incentives["differences"], incentives["new"], incentives["needs"]) == (2, 2, [])
    complete = incentives["lastComplete"]
    assert incentives["ageSeconds"] >= 0
    assert [line["name"] for line in shown["reconciliations"] if line["needs"]] == []

    with open_application_of(app) as application, application.database.begin() as connection:
        connection.execute(job_runs.update().values(started_at=now() - timedelta(days=60)))
    shown = app.run("status", "--json").json()
    late = {line["name"] for line in shown["reconciliations"] if line["needs"]}
    assert late == {line["name"] for line in shown["reconciliations"]} - {"incentives"}
    (need,) = needs(shown, "reconciliations", "visits")
    assert re.fullmatch(r"no complete run since one was due on \d\d [A-Z][a-z]{2} \d\d:\d\d", need["reason"])
    assert need["command"] == "prisoner-to-nomis runs list --job reconcile-visits"
    off = app.run("status", "--json", SCHEDULER_RECONCILIATION="false").json()
    assert [line["name"] for line in off["reconciliations"] if line["needs"]] == []

    booking = sandbox.prisoners()[0]["bookingId"]
    sandbox.fault("nomis", "GET", f"/incentives/booking-id/{booking}/current", kind="status", status=400)
    incomplete = app.run("reconcile", "incentives", "--no-notify", "--json").json()
    shown = app.run("status", "--json").json()
    resume = f"prisoner-to-nomis reconcile incentives --resume {incomplete['runId']}"
    assert command_of(shown, "reconciliations", "incentives") == resume
    (incentives,) = [line for line in shown["reconciliations"] if line["name"] == "incentives"]
    assert (incentives["lastStatus"], incentives["lastUnread"], incentives["differences"]) == ("incomplete", 1, 2)

    sandbox.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400)
    failed = app.run("reconcile", "incentives", "--no-notify", "--json").json()
    shown = app.run("status", "--json").json()
    (need,) = needs(shown, "reconciliations", "incentives")
    show = f"prisoner-to-nomis runs show {failed['runId']}"
    assert (need["reason"], need["command"]) == ("the last run failed", show)
    (incentives,) = [line for line in shown["reconciliations"] if line["name"] == "incentives"]
    assert (incentives["lastStatus"], incentives["lastRun"]) == ("failed", failed["runId"])
    assert (incentives["lastComplete"], incentives["differences"]) == (complete, 2)


def test_the_command_that_resumes_a_run_in_shards_has_their_number(app: App) -> None:
    """For an incomplete run in shards, `status` gives a command with `--shards`.

    Without that option, the command would be refused.
    """
    result = visit_result(0, reconciliation="visits", status="incomplete", parameters={"shards": 2})
    with open_application_of(app) as application, application.database.begin() as connection:
        create_run(connection, "visits", result.run_id, result.parameters, shards=2)
        save_result(connection, result)
    resume = command_of(app.run("status", "--json").json(), "reconciliations", "visits")
    assert resume == f"prisoner-to-nomis reconcile visits --resume {result.run_id} --shards 2"


@pytest.fixture
def killed_run(app: App, sandbox: Sandbox) -> str:
    """The id of an unfinished incentives run that has read nothing, and whose process is gone."""
    sandbox.reset(prisoners=40)
    app.forget_queues()
    app.run_ok("reconcile", "incentives", "--no-notify")
    run_id, began = "20300101-030000-abcd", now()
    parameters = ReconciliationParameters(notify=False).recorded()
    with open_application_of(app) as application, application.database.begin() as connection:
        create_run(connection, "incentives", run_id, parameters, shards=1, started_at=began)
        row = {"id": run_id, "job": "reconcile-incentives", "trigger": "manual", "status": "running", "host": "pod"}
        values = {"parameters": {"resume": None}, "counts": {}, "started_at": began}
        connection.execute(job_runs.insert().values(**row, **values))
    return run_id


def test_an_interrupted_run_is_shown_until_it_is_resumed(app: App, killed_run: str) -> None:
    """If the last run of a reconciliation never ended, every command that shows the run says so.

    Even without a scheduler, `status`, `reconcile list`, `runs list` and `runs show` say when the run was interrupted
    and how far it had got, and give the command that resumes it. Once the resumed run has ended, they no longer do. If
    a reconciliation is switched off and a person began its interrupted run more than a week ago, the reconciliation
    does not need a person.
    """
    resume = f"prisoner-to-nomis reconcile incentives --resume {killed_run}"
    shown = app.run("status", "--json")
    (line,) = [line for line in shown.json()["reconciliations"] if line["name"] == "incentives"]
    assert (shown.code, line["lastRun"], line["lastStatus"]) == (1, killed_run, "interrupted")
    (need,) = line["needs"]
    assert re.fullmatch(
        r"the last run was interrupted after \d\d [A-Z][a-z]{2} \d\d:\d\d, with nothing read", need["reason"]
    )
    assert need["command"] == resume
    sentence = f"{killed_run} {need['reason'].removeprefix('the last run ')}; to resume it: {resume}\n"
    for command in ("reconcile list", "runs list", f"runs show {killed_run}"):
        assert app.run_ok(*command.split()).endswith(f"\n{sentence}"), command
    (row,) = [each for each in app.read_json("reconcile", "list") if each["name"] == "incentives"]
    assert (row["lastRun"], row["status"], row["differences"]) == (killed_run, "interrupted", None)
    assert app.read_json("runs", "show", killed_run)["status"] == "interrupted"
    with open_application_of(app) as application, application.database.begin() as connection:
        connection.execute(reconciliation_runs.update().values(started_at=now() - timedelta(days=8)))
    # A run within an hour of the scheduled time counts as a CronJob's run, so the schedule is on another day.
    on_another_day = {"RECONCILIATION_SCHEDULE": f"0 4 * * {(now().isoweekday() + 3) % 7}"}
    forgotten = app.run("status", "--json", SCHEDULER_RECONCILIATION="false", **on_another_day).json()
    assert needs(forgotten, "reconciliations", "incentives") == []
    assert run_here(shlex.split(resume)[1:], app.settings).code == 0
    assert needs(app.run("status", "--json").json(), "reconciliations", "incentives") == []
    for command in ("reconcile list", "runs list", f"runs show {killed_run}"):
        assert "to resume it" not in app.run_ok(*command.split()), command


def test_only_a_live_scheduler_resumes_its_interrupted_run(app: App) -> None:
    """An interrupted scheduled run needs a person unless a scheduler is running, since a scheduler resumes the run."""
    due = (now() - timedelta(hours=1)).astimezone(LONDON).replace(second=0, microsecond=0)
    schedule = {"RECONCILIATION_SCHEDULE": f"{due.minute} {due.hour} * * *"}
    run_id = scheduled_run_id("reconcile-incentives", due)
    with open_application_of(app) as application:
        with application.database.begin() as connection:
            parameters = ReconciliationParameters().recorded()
            create_run(connection, "incentives", run_id, parameters, shards=1, started_at=due)
        with application.job_runs.run("scheduler", {}):
            assert needs(app.run("status", "--json", **schedule).json(), "reconciliations", "incentives") == []
    resume = command_of(app.run("status", "--json", **schedule).json(), "reconciliations", "incentives")
    assert resume == f"prisoner-to-nomis reconcile incentives --resume {run_id}"


def test_a_switched_off_reconciliation_is_expected_only_from_a_cronjob(app: App, sandbox: Sandbox) -> None:
    """If a reconciliation is switched off, another run is expected after a CronJob's run, but not after a person's run.

    A run also counts as a person's if a person created its Job from a CronJob, or typed the command that resumes the
    run.
    """
    sandbox.reset(prisoners=40)
    app.forget_queues()
    app.run_ok("reconcile", "incentives", "--no-notify")
    late = now() - timedelta(days=10)
    monday = (late - timedelta(days=late.weekday())).astimezone(LONDON).replace(hour=4, minute=0, second=20)
    off = {"SCHEDULER_RECONCILIATION": "false"}

    def expected(started_at: datetime, host: str) -> tuple[bool, list[str]]:
        with open_application_of(app) as application, application.database.begin() as connection:
            reconcile = job_runs.c.job == "reconcile-incentives"
            values = {"started_at": started_at, "parameters": {"resume": "last"}, "host": host}
            connection.execute(job_runs.update().where(reconcile).values(values))
            connection.execute(reconciliation_runs.update().values(result=_ended_at(connection, started_at)))
        (line,) = [
            each
            for each in app.run("status", "--json", **off).json()["reconciliations"]
            if each["name"] == "incentives"
        ]
        return line["expected"], [need["reason"][:21] for need in line["needs"]]

    with open_application_of(app) as application, application.database.begin() as connection:
        connection.execute(job_runs.insert().values(_long_ago_run()))
    afternoon = monday + timedelta(hours=9)
    minute = int(afternoon.timestamp()) // 60 - 5
    for by_hand in (
        "prisoner-to-nomis-scheduler-6d4cf56db6-q9x2v",
        "reconciliation-by-hand-x7k2p",
        f"visits-{afternoon:%Y%m%d}-x7k2p",
    ):
        assert expected(afternoon, by_hand) == (False, [])
    for by_cronjob in (
        f"prisoner-to-nomis-incentives-reconciliation-{minute}-x7k2p",
        # A pod of an Indexed Job, and a pod with a name that Kubernetes had to shorten.
        f"prisoner-to-nomis-incentives-reconciliation-{minute}-3",
        f"prisoner-to-nomis-reconcile-suspended-allocations-{minute}x7k2p",
    ):
        assert expected(afternoon, by_cronjob) == (True, ["no complete run since"])
    assert expected(monday, "any-machine") == (True, ["no complete run since"])


def _ended_at(connection: Connection, moment: datetime) -> bytes:
    """The compressed result of the only reconciliation run, changed so that the run ended at `moment`."""
    packed = connection.execute(select(reconciliation_runs.c.result)).scalar_one()
    content = {**json.loads(zlib.decompress(packed)), "finishedAt": moment.isoformat()}
    return zlib.compress(json.dumps(content).encode())


def _long_ago_run() -> dict[str, Any]:
    """A row for a run of another job, so old that every reconciliation has been due since then."""
    return {
        "id": "20200101-000000-abcd",
        "job": "drain",
        "trigger": "manual",
        "parameters": {},
        "status": "success",
        "counts": {},
        "started_at": now() - timedelta(days=90),
        "finished_at": now() - timedelta(days=90),
        "host": "here",
    }
