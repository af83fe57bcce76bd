"""The runbook on the weekly reconciliation: differences cause alerts and are fixed; a failed run is repeated."""

from pathlib import Path

from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.faults import faulty
from tests.harness.waiting import until


def planted(app: App, cause: int) -> str:
    """Plants one mismatch with this cause, and returns the prisoner number."""
    sandbox = app.sandbox
    sandbox.reset(prisoners=40, mismatches={str(cause): 1})
    app.forget_queues()
    app.make_queues()
    (mismatch,) = sandbox.planted()["mismatches"]
    return str(mismatch["offenderNo"])


def agree(app: App, offender_no: str) -> bool:
    """Whether both systems now have the same level for the prisoner."""
    return bool(app.read_json("reconcile", "explain", offender_no)["equal"])


def test_mismatch_is_alerted_with_both_levels_and_the_report(app: App, sandbox: Sandbox) -> None:
    """The alert about a mismatch has the established heading.

    It gives the prisoner number, both levels and the location of the report. The telemetry event gives the prisoner
    number and the level in DPS.
    """
    offender_no = planted(app, 8)
    app.run_ok("reconcile", "incentives")
    heading, *lines = "\n".join(app.alerts()).splitlines()
    assert heading == "*NOMIS IEP level does not match DPS Incentive level in Production*"
    (mismatch,) = sandbox.planted()["mismatches"]
    nomis, dps = mismatch["nomis"] or "none", mismatch["dps"] or "none"
    (row,) = [line for line in lines if line.startswith(f"1 · *{offender_no}*")]
    assert f"NOMIS *{nomis}*, DPS *{dps}*" in row
    (report,) = Path(app.settings["REPORTS_LOCATION"]).rglob("report.html")
    assert any(f"`{report}`" in line for line in lines)
    (event,) = app.telemetry("incentives-reports-reconciliation-mismatch")
    assert (event["offenderNo"], event["dpsIncentiveLevel"]) == (offender_no, str(mismatch["dps"] or "null"))


def test_a_review_on_the_dead_letter_queue_is_sent_back(app: App, sandbox: Sandbox) -> None:
    """The diagnosis finds a review's message on the dead letter queue. After the redrive, both sides agree."""
    offender_no = planted(app, 1)
    assert sandbox.send_waiting() == 1
    assert "prisoner-to-nomis dlq retry incentive" in app.run_ok("reconcile", "explain", offender_no)
    app.run_ok("dlq", "retry", "incentive")
    assert app.drain("incentive")["applied"] == 1
    assert agree(app, offender_no)


def test_an_arrival_that_dps_missed_is_published(app: App, sandbox: Sandbox) -> None:
    """The proposed command publishes the prisoner-received event, and the resulting review reaches NOMIS."""
    offender_no = planted(app, 4)
    app.run_ok("reconcile", "fix", "received", offender_no, "--yes")
    # The publisher does not wait until the topic has the event.
    until(lambda: app.main_queue("incentive").counts().total, "the event of the review is on its queue")
    app.drain_out("incentive")
    assert agree(app, offender_no)
    assert app.actions()[-1][0] == "reconcile fix received"


def test_a_record_that_began_in_nomis_needs_the_support_team(app: App) -> None:
    """If a prisoner was received twice in NOMIS, `reconcile explain` gives the text of a request to NOMIS support."""
    offender_no = planted(app, 5)
    shown = app.run_ok("reconcile", "explain", offender_no)
    assert "To #dps-appsupport: please delete" in shown
    assert offender_no in shown


def test_a_failed_weekly_job_is_repeated(app: App, sandbox: Sandbox) -> None:
    """The ledger shows why a run failed. The run can be repeated once the cause has been fixed."""
    planted(app, 8)
    # After a 503, the run would wait for more than a minute.
    with faulty(sandbox, "nomis", "GET", "/prisoners/ids", kind="status", status=400):
        failed = app.run("reconcile", "incentives", RECONCILIATION_MAX_PAGE_ERRORS="0")
    assert failed.code == 1
    (run,) = app.read_json("runs", "list")
    assert run["status"] == "failed"
    assert app.read_json("runs", "show", run["id"])["error"]
    app.run_ok("runs", "rerun", run["id"])
    (again, _) = app.read_json("runs", "list")
    assert (again["status"], again["rerunOf"], again["counts"]["mismatches"]) == ("success", run["id"], 1)
