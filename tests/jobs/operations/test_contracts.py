"""The output, exit code, probes and Slack messages of `contracts check`.

The command compares the program's calls with the API documents of the services.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import StopRequested
from jobs.operations.schedule import SCHEDULE
from jobs.runtime.application import Application
from jobs.runtime.job_runs import RunStatus
from jobs.runtime.metrics import run_metrics
from sandbox import Sandbox
from sync.settings.loading import load_settings
from tests.harness.app import App, make_app
from tests.harness.publishing import visit_booked


@pytest.fixture
def app(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> App:
    """An installation that uses the current versions of the services, and has no queues yet."""
    return make_app(sandbox, tmp_path, sqlite_template)


def of_service(checked: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The part of the `--json` output about the service `name`."""
    found: Mapping[str, Any] = next(each for each in checked["services"] if each["service"] == name)
    return found


def test_drift_is_printed_with_errors_first_and_exits_with_1(app: App) -> None:
    """If a call no longer fits a service's API document, the check exits with 1 and prints a line for each difference.

    Each line has the level, service and operation, and the errors of a service come first. With `--service`, only the
    given service is checked, and the database is not needed. An unknown service is bad usage.
    """
    checked = app.run("contracts", "check")
    assert checked.code == 1
    lines = checked.out.splitlines()
    assert lines[0].split() == ["LEVEL", "SERVICE", "OPERATION", "DIFFERENCE"]
    nomis = [line.split()[0] for line in lines if line.split()[1:2] == ["nomis"]]
    assert nomis == sorted(nomis, key=["error", "warning", "note"].index)
    assert re.search(r"prisoner-search +PUT /events/prisoner/received/{prisonerNumber} +is gone", checked.out)
    assert lines[-1].startswith("errors ")
    one = app.run("contracts", "check", "--service", "sentence-adjustments", DATABASE_URL="sqlite:////nowhere/at.db")
    assert one.code == 0, one.out
    assert "nomis" not in one.out
    assert app.run("contracts", "check", "--service", "nowhere").code == 2


def test_the_services_of_may_2023_match_the_declarations(app: App, sandbox: Sandbox) -> None:
    """The program's calls match the services' API documents of May 2023, apart from known faults in the documents.

    Every probe of these services succeeds.
    """
    sandbox.reset(prisoners=50, generation="2023")
    checked = app.read_json("contracts", "check", "--probe", "--json")
    assert (checked["ok"], checked["errors"], checked["warnings"], checked["notes"]) == (True, 0, 0, 0)
    assert all(each["reason"] for each in of_service(checked, "nomis")["known"])
    probed = {each["service"]: each["probe"] for each in checked["services"]}
    assert probed["nomis"] == probed["incentives"] == "role granted, format as declared"
    assert probed["visits"] == probed["mapping"] == "role granted, no record to read"
    assert probed["prisoner-search"] == "role granted, nothing to read"


def test_a_probe_finds_a_missing_role_and_an_undocumented_response(app: App, sandbox: Sandbox) -> None:
    """A probe reports each role that the client lacks and each way in which a response differs from its declaration."""
    sandbox.reset(prisoners=50, generation="2023")
    sandbox.grant("visits", [])
    changed = [{"code": "STD", "name": 1, "active": True}, {"code": "BAS", "active": None}]
    sandbox.fault("incentives", path="/incentive/levels", kind="status", status=200, body=changed)
    checked = app.run("contracts", "check", "--probe", "--json")
    assert checked.code == 1
    (refused,) = of_service(checked.json(), "visits")["findings"]
    assert (refused["level"], refused["kind"]) == ("error", "role-refused")
    assert "status 403" in refused["text"]
    texts = {each["text"] for each in of_service(checked.json(), "incentives")["findings"]}
    assert texts == {
        "response differs from its declaration: [].name is not of type string",
        "response differs from its declaration: [].name is missing",
        "response differs from its declaration: [].active is missing",
    }


def test_a_probe_calls_nothing_that_has_an_effect(app: App, sandbox: Sandbox) -> None:
    """The probe of prisoner search only reads the roles from the client's token.

    Every call that the program makes to that service would publish an event.
    """
    sandbox.reset(prisoners=50, generation="2023")
    sandbox.grant("prisoner-search", [])
    checked = app.run("contracts", "check", "--probe", "--service", "prisoner-search", "--json")
    assert checked.code == 1
    (found,) = of_service(checked.json(), "prisoner-search")["findings"]
    assert (found["level"], found["kind"]) == ("error", "role-refused")
    assert found["text"] == "the client's token lacks the role EVENTS_ADMIN"
    called = [each["path"] for each in sandbox.requests() if each["service"] == "prisoner-search"]
    assert called == ["/v3/api-docs"]


def test_a_probe_reads_the_last_record_that_was_created(app: App, sandbox: Sandbox) -> None:
    """If the program has created a visit, the probes read the visit and its mapping, and check the format of both."""
    sandbox.reset(prisoners=50, generation="2023")
    app.make_queues()
    visit_booked(sandbox).publish()
    app.drain("visit")
    checked = app.read_json("contracts", "check", "--probe", "--service", "visits", "--service", "mapping", "--json")
    assert {each["probe"] for each in checked["services"]} == {"role granted, format as declared"}


def test_a_document_that_cannot_be_read_is_an_error(app: App, sandbox: Sandbox) -> None:
    """A service whose API document cannot be read, or is not an OpenAPI document, is reported as an error.

    The other services are still compared.
    """
    sandbox.reset(prisoners=50, generation="2023")
    sandbox.fault("mapping", path="/v3/api-docs", kind="status", status=503)
    sandbox.fault("visits", path="/v3/api-docs", kind="status", status=200, text="<html>")
    checked = app.run("contracts", "check", "--json")
    assert checked.code == 1
    found = {each["service"]: [finding["text"] for finding in each["findings"]] for each in checked.json()["services"]}
    assert "status 503" in found.pop("mapping")[0]
    assert "not an OpenAPI document" in found.pop("visits")[0]
    assert not any(found.values())


def test_slack_gets_each_change_once(app: App, sandbox: Sandbox) -> None:
    """With `--notify`, Slack gets each change once: a check that finds nothing new posts nothing.

    The exit code is 0 even if there are differences, so that a weekly job does not fail because of a known difference.
    """
    sandbox.reset(prisoners=50, generation="2023")
    app.run_ok("contracts", "check", "--notify")
    assert app.alerts() == []
    sandbox.reset(prisoners=50, generation="today")
    for _ in range(2):
        app.run_ok("contracts", "check", "--notify")
    (alert,) = app.alerts()
    assert "The API of an upstream service has changed" in alert
    assert "mapping: 4 new errors" in alert
    assert "outsideWork" in alert
    assert "contracts check" in alert
    assert "The API documents of these services have changed: nomis, mapping, visits, " in alert
    runs = app.read_json("runs", "list", "--job", "contracts-check", "--json")
    assert [each["status"] for each in runs] == ["success"] * 3
    app.run_ok("runs", "rerun", runs[0]["id"])
    assert len(app.alerts()) == 1


def test_a_check_that_cannot_read_a_document_is_incomplete(app: App, sandbox: Sandbox) -> None:
    """If a document cannot be read, the check with `--notify` exits with 1, and its run names the service.

    The last result for that service is kept, so that the next check reports no change if the document is unchanged.
    """
    sandbox.reset(prisoners=50, generation="2023")
    app.run_ok("contracts", "check", "--notify")
    sandbox.fault("mapping", path="/v3/api-docs", kind="status", status=503)
    assert app.run("contracts", "check", "--notify").code == 1
    (run, _) = app.read_json("runs", "list", "--job", "contracts-check", "--json")
    assert (run["status"], run["error"]) == (
        "incomplete",
        "the documents of these services cannot be read: mapping",
    )
    sandbox.clear_faults()
    app.run_ok("contracts", "check", "--notify")
    assert app.alerts() == []


def test_a_check_of_one_service_is_not_the_weekly_one(app: App, sandbox: Sandbox) -> None:
    """Only a check of all services counts as the last check, whose status and age the alert rules use."""
    sandbox.reset(prisoners=50, generation="2023")

    def metrics() -> list[str]:
        application = Application(load_settings(app.settings))
        try:
            return [each.name for each in run_metrics(application.job_runs, ["contracts-check"]) if each.samples]
        finally:
            application.close()

    app.run_ok("contracts", "check", "--notify", "--service", "nomis")
    assert metrics() == []
    app.run_ok("contracts", "check", "--notify")
    assert metrics() == ["prisoner_to_nomis_run_status", "prisoner_to_nomis_last_success_age_seconds"]


def test_the_scheduled_check_records_differences(app: App, sandbox: Sandbox) -> None:
    """The scheduled check records in its run how many errors it found, and sends one message to Slack."""
    job = next(each for each in SCHEDULE if each.name == "contracts-check")
    application = Application(load_settings(app.settings))
    try:
        with application.job_runs.run(job.name, {}) as active_run:
            job.run(application, active_run, threading.Event())
        assert active_run.counts["errors"] > 0
        application.outbox.send_due()
    finally:
        application.close()
    assert len(app.alerts()) == 1


def test_a_scheduled_check_that_is_stopped_is_interrupted(app: App, sandbox: Sandbox) -> None:
    """A scheduled check that is asked to stop ends as interrupted, and posts nothing to Slack."""
    job = next(each for each in SCHEDULE if each.name == "contracts-check")
    application = Application(load_settings(app.settings))
    stopped = threading.Event()
    stopped.set()
    try:
        with pytest.raises(StopRequested), application.job_runs.run(job.name, {}, run_id="weekly") as active_run:
            job.run(application, active_run, stopped)
        assert application.job_runs.status_of("weekly") is RunStatus.INTERRUPTED
        application.outbox.send_due()
    finally:
        application.close()
    assert app.alerts() == []
