"""The runbook on the weekly reconciliation: differences are alerted, explained and fixed; a failed run is repeated."""

from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.faults import faulty
from tests.harness.waiting import until


def planted(app: App, cause: int) -> str:
    """Plants one prisoner whose records differ for this cause, and returns the prisoner number."""
    sandbox = app.sandbox
    sandbox.reset(prisoners=40, mismatches={str(cause): 1})
    app.forget_queues()
    app.make_queues()
    (mismatch,) = sandbox.planted()["mismatches"]
    return str(mismatch["offenderNo"])


def agree(app: App, offender_no: str) -> bool:
    """Whether both systems now have the same level for a prisoner."""
    return bool(app.read_json("reconcile", "explain", offender_no)["equal"])


def test_mismatch_is_alerted_with_all_that_is_needed(app: App, sandbox: Sandbox) -> None:
    """The alert has its established text, the prisoner, both levels and the location of the report."""
    offender_no = planted(app, 8)
    app.run_ok("reconcile", "incentives")
    texts = "\n".join(app.alerts())
    assert "NOMIS IEP level does not match DPS Incentive level in Production" in texts
    assert offender_no in texts
    (mismatch,) = sandbox.planted()["mismatches"]
    (event,) = app.telemetry("incentives-reports-reconciliation-mismatch")
    assert (event["offenderNo"], event["dpsIncentiveLevel"]) == (offender_no, str(mismatch["dps"] or "null"))


def test_review_that_waits_on_the_dead_letter_queue(app: App, sandbox: Sandbox) -> None:
    """A review that never reached NOMIS is found on the dead letter queue and sent back; then both sides agree."""
    offender_no = planted(app, 1)
    assert sandbox.send_waiting() == 1
    assert "prisoner-to-nomis dlq retry incentive" in app.run_ok("reconcile", "explain", offender_no)
    app.run_ok("dlq", "retry", "incentive")
    assert app.drain("incentive")["applied"] == 1
    assert agree(app, offender_no)


def test_arrival_that_dps_missed(app: App, sandbox: Sandbox) -> None:
    """The prisoner-received event that the diagnosis proposes is published, and the resulting review reaches NOMIS."""
    offender_no = planted(app, 4)
    app.run_ok("reconcile", "fix", "received", offender_no, "--yes")
    # The publisher does not wait until the topic has the event.
    until(lambda: app.main_queue("incentive").counts().total, "the event of the review is on its queue")
    app.drain_out("incentive")
    assert agree(app, offender_no)
    assert app.actions()[-1][0] == "reconcile fix received"


def test_record_of_nomis_itself_is_for_the_support_team(app: App) -> None:
    """If the record originated in NOMIS, the text of a request to the support team is shown."""
    offender_no = planted(app, 5)
    shown = app.run_ok("reconcile", "explain", offender_no)
    assert "To #dps-appsupport: please delete" in shown
    assert offender_no in shown


def test_weekly_job_that_failed_is_repeated(app: App, sandbox: Sandbox) -> None:
    """The ledger has a failed run with its reason, and the run can be repeated once its cause is gone."""
    planted(app, 8)
    # The run would wait for more than a minute after a 503.
    with faulty(sandbox, "nomis", "GET", "/prisoners/ids", kind="status", status=400):
        failed = app.run("reconcile", "incentives", RECONCILIATION_MAX_PAGE_ERRORS="0")
    assert failed.code == 1
    (run,) = app.read_json("runs", "list")
    assert run["status"] == "failed"
    assert app.read_json("runs", "show", run["id"])["error"]
    app.run_ok("runs", "rerun", run["id"])
    (again, _) = app.read_json("runs", "list")
    assert (again["status"], again["rerunOf"], again["counts"]["mismatches"]) == ("success", run["id"], 1)
