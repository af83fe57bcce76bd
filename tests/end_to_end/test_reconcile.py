"""The incentive reconciliation and the commands that follow it, run against the sandbox."""

import csv
import json
import re
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from jobs.operations import report_delivery
from jobs.operations.run_scheduler import due_jobs
from reports.delivery.channels import enqueue_channel
from reports.presentation.text import capital
from sandbox import Sandbox
from sync.clock import LONDON, now
from sync.settings.loading import SettingsError
from sync.store import outbox, tables
from sync.store.outbox import DeliveryState
from tests.harness.app import App, open_application
from tests.harness.faults import faulty
from tests.harness.html import text_of
from tests.harness.waiting import in_thread, result_of, until

#: What the command says about a delivery that waits, with the time in London.
TRIED_AGAIN = r"the scheduler, or the first drain or reconcile after (\d\d \w{3} \d\d:\d\d), will try again"


def planted(sandbox: Sandbox) -> dict[int, dict[str, Any]]:
    """The planted mismatches, by booking id."""
    return {each["bookingId"]: each for each in sandbox.planted()["mismatches"]}


def by_cause(sandbox: Sandbox, cause: int) -> str:
    """The prisoner number of the planted mismatch with this cause."""
    return str(next(each["offenderNo"] for each in planted(sandbox).values() if each["cause"] == cause))


def test_the_planted_mismatches_are_found_and_reported_once(installed: App, sandbox: Sandbox) -> None:
    """A run finds exactly the planted mismatches, stores its report and posts to Slack.

    The report can be rendered again. It is resent only after confirmation.
    """
    sandbox.reset(prisoners=60, mismatches={"4": 2, "8": 1})
    installed.make_queues()
    run = installed.run_as_installed("reconcile", "incentives", "--json")
    assert run.code == 0, run.err
    result = run.json()
    assert {each["bookingId"] for each in result["mismatches"]} == planted(sandbox).keys()
    assert (result["status"], result["compared"]) == ("complete", 60)

    folder = Path(installed.settings["REPORTS_LOCATION"]) / result["runId"]
    assert json.loads((folder / "result.json").read_text(encoding="utf-8"))["runId"] == result["runId"]
    with (folder / "mismatches.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 3
    posted = len(sandbox.slack()["messages"])
    assert posted > 0

    (kept,) = installed.run("runs", "list", "--json").json()
    assert (kept["id"], kept["job"], kept["status"]) == (result["runId"], "reconcile-incentives", "success")
    assert kept["counts"]["mismatches"] == 3

    (folder / "report.html").unlink()
    rendered = installed.run("report", "render", result["runId"])
    assert rendered.out.strip() == str(folder / "report.html")
    assert (folder / "report.html").exists()

    asked = installed.run("report", "send", result["runId"], "--to", "slack", answer="n\n")
    assert (asked.code, len(sandbox.slack()["messages"])) == (1, posted)
    assert installed.run("report", "send", result["runId"], "--to", "slack", "--yes").code == 0
    assert len(sandbox.slack()["messages"]) > posted


def test_sending_a_report_again_ends_with_its_own_delivery(
    installed: App, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`report send` succeeds once its report is sent, even if another message still waits for Slack.

    If its report is not sent, it fails, and says why and when the report is sent. Once the program has given up on the
    report, the text gives the command that sends it, as a person types it.
    """
    run_id = installed.run("reconcile", "incentives", "--no-notify", "--json").json()["runId"]
    send = ("report", "send", run_id, "--to", "slack", "--yes")
    with (
        open_application(installed.settings, installed.settings["DATABASE_URL"]) as application,
        application.database.begin() as connection,
    ):
        outbox.enqueue(connection, "another", "slack", {"kind": "alert"})
        later = update(tables.outbox).values(next_attempt_at=now() + timedelta(hours=1))
        connection.execute(later.where(tables.outbox.c.key == "another"))
    assert installed.run(*send).code == 0
    monkeypatch.setattr(report_delivery, "_DELIVERY_SECONDS", 0.0)
    with faulty(sandbox, "slack", kind="status", status=503):
        failed = installed.run(*send)
    assert failed.code == 1
    assert f"the report of {run_id} has not been sent to slack: " in failed.error
    assert re.search(TRIED_AGAIN, failed.error)
    with open_application(installed.settings, installed.settings["DATABASE_URL"]) as application:
        result = report_delivery.find_result(application, run_id)
        with application.database.begin() as connection:
            enqueue_channel(connection, run_id, "slack", finished=result.finished_at.isoformat())
            connection.execute(update(tables.outbox).values(state=DeliveryState.FAILED))
        (given_up,) = report_delivery.report_delivered(application, result).late
    assert given_up.endswith(f"; type: prisoner-to-nomis report send {run_id} --to slack")


@pytest.mark.parametrize(
    "location", ["/proc/nope/reports", "s3://nosuchbucket/p", "ftp://host/folder", "s3://", "{file}/reports"]
)
def test_a_report_that_could_not_be_kept_is_refused_before_the_work(
    installed: App, sandbox: Sandbox, location: str
) -> None:
    """A report location that cannot be used counts as a wrong setting.

    `reconcile` prints one line and exits 2 before it reads any prisoner or creates any folder.
    """
    (installed.folder / "file").write_text("in the way")
    run = installed.run("reconcile", "incentives", REPORTS_LOCATION=location.format(file=installed.folder / "file"))
    assert run.code == 2
    assert run.error.startswith("prisoner-to-nomis: REPORTS_LOCATION: ")
    assert sandbox.requests("nomis") == []
    assert not (installed.folder / "ftp:").exists()


def test_a_run_that_cannot_begin_alerts_slack_once(app: App, sandbox: Sandbox) -> None:
    """However many runs fail because of an invalid list of exclusions, there is only one alert.

    Each run prints an error line. A run with `--no-notify` causes no alert. A different wrong setting causes another
    alert.
    """
    wrong = {"RECONCILIATION_EXCLUSIONS": "1204417,1204418"}
    before = len(app.alerts())
    quiet = app.run("reconcile", "incentives", "--no-notify", **wrong)
    tries = [app.run("reconcile", "incentives", **wrong) for _ in range(2)]
    for done in (quiet, *tries):
        assert done.code == 2
        assert "1204417,merged by hand,2023-05-22" in done.err.splitlines()[-1]
    (alert,) = app.alerts()[before:]
    assert "The incentive reconciliation could not run in " in alert
    assert "booking 1204417" in alert
    another = {"REPORTS_LOCATION": "/proc/nope/reports"}
    assert app.run("reconcile", "incentives", **another).code == 2
    (later,) = app.alerts()[before + 1 :]
    assert "REPORTS_LOCATION" in later


def test_a_scheduled_run_that_cannot_begin_alerts_slack_once(app: App, sandbox: Sandbox) -> None:
    """If several scheduled runs cannot begin for the same reason, only the first causes an alert."""
    before = len(app.alerts())
    environment = {**app.settings, "RECONCILIATION_EXCLUSIONS": "²,why"}
    with open_application(
        environment, app.settings["DATABASE_URL"], SLACK_TOKEN=app.settings["SLACK_TOKEN"]
    ) as application:
        (weekly,) = (each for each in due_jobs(application, threading.Event()) if each.name == "reconcile-incentives")
        for run_id in ("reconcile-incentives-1", "reconcile-incentives-2"):
            with pytest.raises(SettingsError), application.job_runs.run(weekly.name, {}, run_id=run_id) as in_hand:
                weekly.run(in_hand)
        application.outbox.flush(10)
    (alert,) = app.alerts()[before:]
    assert "'²' is not a booking id" in alert


def test_a_report_that_cannot_be_kept_fails_the_command(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the report cannot be stored at the end of a run, the command exits 1 and says why on stderr.

    The ledger records the same error with the run.
    """
    monkeypatch.setattr("jobs.operations.reconcile._DELIVERY_SECONDS", 0)
    archive = Path(app.settings["REPORTS_LOCATION"])
    held = app.sandbox.fault("nomis", path="/current$", kind="delay", until_released=True)

    def get_in_the_way() -> None:
        until(lambda: app.sandbox.faults()[0]["hits"] > 0, "the work begins")
        archive.write_text("in the way")
        app.sandbox.release_fault(held)

    getting = in_thread(get_in_the_way)
    ended = app.run("reconcile", "incentives")
    result_of(getting)
    complaint = ended.errors[-1].removeprefix("prisoner-to-nomis: ")
    assert ended.code == 1
    assert f"has not been sent to archive: {archive}" in complaint
    assert re.search(rf"cannot be written: Not a directory; {TRIED_AGAIN}$", complaint)
    assert "report: " not in ended.out
    (kept,) = app.read_json("runs", "list")
    assert (kept["status"], kept["error"]) == ("success", complaint)


def test_a_wrong_slack_token_delays_only_the_messages(installed: App, sandbox: Sandbox) -> None:
    """If Slack refuses the token, a line says that the messages were not sent, and when the program will try again.

    The report is kept, and the run succeeds.
    """
    run = installed.run("reconcile", "incentives", SLACK_TOKEN="xoxb-wrong")
    assert run.code == 0, run.err
    label, _, place = run.out.splitlines()[-1].partition(": ")
    assert (label, Path(place).is_file()) == ("report", True)
    (late,) = [
        line for line in run.err.splitlines() if "has not been sent to slack: slack refused: invalid_auth" in line
    ]
    (moment,) = re.findall(rf"{TRIED_AGAIN}$", late)
    due = datetime.strptime(f"{now():%Y} {moment}", "%Y %d %b %H:%M").replace(tzinfo=LONDON)
    assert timedelta(minutes=-1) < due - now() < timedelta(hours=1)


def test_incomplete_reconciliation_exits_1(installed: App, sandbox: Sandbox) -> None:
    """A run that could not read a prisoner is incomplete, says so in one line, and exits 1."""
    booking = sandbox.prisoners()[0]["bookingId"]
    sandbox.fault("nomis", path=f"/incentives/booking-id/{booking}/current$", kind="status", status=400)
    run = installed.run_process("reconcile", "incentives", "--no-notify")
    assert run.code == 1
    assert "is incomplete: 1 prisoner could not be read" in run.err
    (kept,) = installed.run("runs", "list", "--json").json()
    assert kept["status"] == "incomplete"


def test_one_prisoner_is_explained_and_fixed(installed: App, sandbox: Sandbox) -> None:
    """`reconcile explain` names the command that fixes a mismatch. A dry run of the command changes nothing.

    Wrong options are refused. Once the mismatches are fixed, both sides agree.
    """
    sandbox.reset(prisoners=50, mismatches={"4": 1, "8": 1})
    installed.make_queues()
    missed, edited = by_cause(sandbox, 4), by_cause(sandbox, 8)
    explained = installed.run("reconcile", "explain", missed)
    assert f"prisoner-to-nomis reconcile fix received {missed}" in explained.out
    writes = len(sandbox.journal())
    dry = installed.run("reconcile", "fix", "received", missed, "--dry-run")
    assert (dry.code, len(sandbox.journal())) == (0, writes), dry.err
    assert "dry run: nothing was changed" in dry.out
    for arguments, message in (
        (("--reason", "TRANSFERED"), "'TRANSFERED' leads to no review: give one of"),
        (("--occurred-at", "2999-01-01T00:00:00"), "2999-01-01T00:00:00 is in the future: give the real time"),
    ):
        refused = installed.run("reconcile", "fix", "received", missed, *arguments, "--yes")
        assert (refused.code, message in refused.error) == (2, True)
    elsewhere = installed.run("reconcile", "fix", "received", missed, "--prison", "XXX", "--yes")
    assert (elsewhere.code, ", not at XXX; --force sends it anyway" in elsewhere.error) == (1, True)
    assert installed.run("reconcile", "fix", "received", missed, "--yes").code == 0
    # The message about the review that DPS created for the event is still on the queue. The next prisoner's own review
    # is already mapped.
    repaired = installed.run("incentives", "repair", edited, "--yes")
    assert "both sides have" in repaired.out, repaired.err
    until(lambda: installed.drain("incentive")["received"], "the message of that review")
    again = installed.run("reconcile", "incentives", "--prisoner", missed, "--prisoner", edited, "--no-notify")
    assert (again.code, "compared 2, differences 0" in again.out) == (0, True), again.out


def test_the_command_and_the_report_list_the_same_mismatches(installed: App, sandbox: Sandbox) -> None:
    """The command's table has the same row numbers, prisoners and causes as the report's page and CSV."""
    sandbox.reset(prisoners=40, mismatches={"3": 2, "7": 2})
    run = installed.run("reconcile", "incentives", RECONCILIATION_RECHECK_SECONDS="0")
    assert run.code == 0, run.err
    summary, heads, *listed = run.out.splitlines()[:6]
    assert summary.endswith(" complete: prisoners 40, compared 40, differences 4, new 4")
    assert heads.split()[:3] == ["ROW", "PRISONER", "BOOKING"]
    run_id = summary.partition(" ")[0]
    folder = Path(installed.settings["REPORTS_LOCATION"]) / run_id
    with (folder / "mismatches.csv").open(encoding="utf-8") as file:
        report = list(csv.DictReader(file))
    assert [line.split()[:2] for line in listed] == [[each["row"], each["offender_no"]] for each in report]
    causes = [f"{each['cause_number']}. {each['cause']}" for each in report]
    assert [line.rpartition("  ")[2] for line in listed] == causes
    page = (folder / "report.html").read_text(encoding="utf-8")
    rows = [text_of(row) for row in re.findall(r'<tbody class="one".*?</tr>', page, flags=re.DOTALL)]
    assert [row.split()[:2] for row in rows] == [[each["row"], each["offender_no"]] for each in report]
    for row, each in zip(rows, report, strict=True):
        assert row.endswith(f" {capital(each['cause'])} {each['right_side']}")


def test_a_cause_that_could_not_be_read_is_not_shown_as_a_cause(installed: App, sandbox: Sandbox) -> None:
    """If the evidence for a cause cannot be read, the table says so, but leaves out the path of the failed call.

    The output names the command that tries again. `reconcile explain` calls a difference new after the first run that
    found it, and persisting after the next.
    """
    sandbox.reset(prisoners=40, mismatches={"7": 2})
    with faulty(sandbox, "mapping", "GET", kind="status", status=400):
        run = installed.run("reconcile", "incentives", "--no-notify", RECONCILIATION_RECHECK_SECONDS="0")
        both = [line.split()[1] for line in run.out.splitlines() if "cause not found: mapping: status 400" in line]
        one = installed.run("reconcile", "incentives", "--prisoner", both[0], "--no-notify")
    assert len(both) == 2
    assert "GET /" not in run.out
    run_id = run.out.partition(" ")[0]
    again = f"runs rerun {run_id}"
    assert f"\nthe causes of 2 differences were not found; to try again: prisoner-to-nomis {again}\n" in run.out
    explain = f"reconcile explain {both[0]}"
    assert f"\nthe cause of 1 difference was not found; to try again: prisoner-to-nomis {explain}\n" in one.out
    assert ": new difference\n" in installed.run(*explain.split()).out
    repeated = installed.run(*again.split(), RECONCILIATION_RECHECK_SECONDS="0")
    assert "not found" not in repeated.out
    assert [line.split()[1] for line in repeated.out.splitlines() if " 7. " in line] == both
    explained = installed.run(*explain.split()).out
    assert "cause       7. " in explained
    assert ": persisting difference\n" in explained


def test_a_run_that_compared_nobody_says_so(installed: App) -> None:
    """If the chosen prison has no prisoners, `reconcile` says so and exits 1, instead of reporting agreement."""
    run = installed.run("reconcile", "incentives", "--prison", "XXX", "--no-notify")
    assert run.code == 1
    assert " incomplete: " in run.out
    assert "compared 0, differences 0" in run.out
    assert run.err.endswith("is incomplete: no active prisoner was found at XXX (is the prison id right?)\n")


def test_a_prisoner_who_does_not_exist_is_not_a_failure(installed: App) -> None:
    """If a requested number belongs to no prisoner, the run is incomplete and says that no active prisoner has it."""
    run = installed.run("reconcile", "incentives", "--prisoner", "A9999ZZ", "--no-notify")
    assert run.code == 1
    assert "is incomplete: 1 requested prisoner is not among the active prisoners" in run.err
    assert "A9999ZZ: not among the active prisoners, and without a DPS review for an active booking" in run.out
