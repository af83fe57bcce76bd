"""The runbook on the weekly reconciliation: differences alerted, explained and mended; a failed run repeated."""

from sandbox import Sandbox
from tests.harness.faults import faulty
from tests.harness.operating import Operator, operator

__all__ = ["operator"]


def planted(operator: Operator, cause: int) -> str:
    """A world in which one prisoner differs for this cause; the prisoner's number."""
    sandbox = operator.sandbox
    sandbox.reset(prisoners=40, mismatches={str(cause): 1})
    operator.forget_queues()
    operator.make_queues()
    (mismatch,) = sandbox.planted()["mismatches"]
    return str(mismatch["offenderNo"])


def agree(operator: Operator, offender_no: str) -> bool:
    """Whether both systems have the same level of a prisoner now."""
    return bool(operator.reads("reconcile", "explain", offender_no)["equal"])


def test_mismatch_is_alerted_with_all_that_is_needed(operator: Operator, sandbox: Sandbox) -> None:
    """The alert has the text people know, the prisoner, both levels and where the report is."""
    offender_no = planted(operator, 8)
    operator.does("reconcile", "incentives")
    texts = "\n".join(operator.alerts())
    assert "NOMIS IEP level does not match DPS Incentive level in Production" in texts
    assert offender_no in texts
    (mismatch,) = sandbox.planted()["mismatches"]
    (event,) = operator.telemetry("incentives-reports-reconciliation-mismatch")
    assert (event["offenderNo"], event["dpsIncentiveLevel"]) == (offender_no, str(mismatch["dps"] or "null"))


def test_review_that_waits_on_the_dead_letter_queue(operator: Operator, sandbox: Sandbox) -> None:
    """A review that never reached NOMIS is found on the dead letter queue, sent back, and both sides agree."""
    offender_no = planted(operator, 1)
    assert sandbox.send_waiting() == 1
    assert "prisoner-to-nomis dlq retry incentive" in operator.does("reconcile", "explain", offender_no)
    operator.does("dlq", "retry", "incentive")
    assert operator.drain("incentive")["applied"] == 1
    assert agree(operator, offender_no)


def test_arrival_that_dps_missed(operator: Operator, sandbox: Sandbox) -> None:
    """The received event that the diagnosis proposes is published, and the review it makes reaches NOMIS."""
    offender_no = planted(operator, 4)
    operator.does("reconcile", "fix", "received", offender_no, "--yes")
    operator.drain_out("incentive")
    assert agree(operator, offender_no)
    assert operator.actions()[-1][0] == "reconcile fix received"


def test_record_of_nomis_itself_is_for_the_support_team(operator: Operator) -> None:
    """Where NOMIS made a record of its own, the text of the request to the support team is given."""
    offender_no = planted(operator, 5)
    shown = operator.does("reconcile", "explain", offender_no)
    assert "To #dps-appsupport: please delete" in shown
    assert offender_no in shown


def test_weekly_job_that_failed_is_repeated(operator: Operator, sandbox: Sandbox) -> None:
    """A run that failed with NOMIS down is in the ledger with its reason, and is repeated when NOMIS is back."""
    planted(operator, 8)
    with faulty(sandbox, "nomis", "GET", "/prisoners/ids", kind="status", status=503):
        failed = operator.run("reconcile", "incentives", RECONCILIATION_MAX_PAGE_ERRORS="0")
    assert failed.code == 1
    (run,) = operator.reads("runs", "list")
    assert run["status"] == "failed"
    assert operator.reads("runs", "show", run["id"])["error"]
    operator.does("runs", "rerun", run["id"])
    (again, _) = operator.reads("runs", "list")
    assert (again["status"], again["rerunOf"], again["counts"]["mismatches"]) == ("success", run["id"], 1)
