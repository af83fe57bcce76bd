"""The command that reconciles visits, with queues, a database and files."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest

from sync import clock
from sync.settings.loading import load_settings
from tests.harness.app import App

IN_FLIGHT = {"RECONCILIATION_IN_FLIGHT_MINUTES": "10"}


def reconcile(app: App, *arguments: str, code: int = 0, **settings: str) -> dict[str, Any]:
    """Runs `reconcile visits` for all prisons, expects the exit code `code`, and returns the result."""
    prisons = ",".join(sorted({each["prisonId"] for each in app.sandbox.prisoners()}))
    ended = app.run("reconcile", "visits", *arguments, "--json", VISIT_PRISONS=prisons, **{**IN_FLIGHT, **settings})
    assert ended.code == code, ended.err
    result: dict[str, Any] = json.loads(ended.out)
    return result


def found(result: dict[str, Any], what: str = "mismatches") -> dict[str, str]:
    """The kind of each difference in the list `what` of the result, by the visit in its key."""
    return {each["key"]["visit"]: each["kind"] for each in result[what]}


@pytest.fixture
def planted(app: App, request: pytest.FixtureRequest) -> dict[str, dict[str, str]]:
    """Plants differences, and returns the kind of each, by outcome and then by key.

    The parameter of the fixture is the generation of the services; the default is today's.
    """
    generation = getattr(request, "param", "today")
    app.sandbox.reset(prisoners=40, prisons=20, plant=["visits"], every_cause=True, generation=generation)
    app.forget_queues()
    app.make_queues()
    sorted_out: dict[str, dict[str, str]] = {}
    for each in app.sandbox.planted()["reconciliations"]["visits"]:
        sorted_out.setdefault(each["outcome"], {})[each["key"][0]] = each["kind"]
    return sorted_out


@pytest.fixture
def waiting(app: App, planted: dict[str, dict[str, str]]) -> None:
    """Puts the message that is planted as pending onto the dead letter queue."""
    queue = load_settings(app.settings).queue("visit").dlq_name
    assert app.sandbox.send_waiting(queue, of="visit") == 1


@pytest.mark.parametrize("planted", ["2023", "today"], indirect=True)
@pytest.mark.usefixtures("waiting")
def test_the_command_finds_exactly_the_planted_differences(app: App, planted: dict[str, dict[str, str]]) -> None:
    """The command reports exactly the planted differences, each with a cause, a severity and an event.

    Differences in flight are listed separately, each with the reason.
    """
    result = reconcile(app)
    assert result["status"] == "complete"
    assert found(result) == planted["reported"]
    assert found(result, "inFlight") == planted["in flight"]
    why = {each["kind"]: each["why"] for each in result["inFlight"]}
    changed = r"the DPS visit was last changed (less than a minute|\d+ minutes?) ago"
    assert re.fullmatch(changed, why["nomis-visit-missing"])
    assert why["not-cancelled-in-nomis"].startswith("its message is waiting on the dead letter queue")
    assert all(each["diagnosis"]["cause"] and each["weight"] for each in result["mismatches"])
    events = app.telemetry("visits-reports-reconciliation-mismatch")
    assert {each["visitId"]: each["reason"] for each in events} == {
        key.split()[0]: kind for key, kind in planted["reported"].items()
    }
    (report,) = app.telemetry("visits-reports-reconciliation-report")
    assert (report["success"], report["mismatch-count"]) == ("true", str(len(events)))
    assert int(report["nomis-visit-count"]) == result["nomisVisits"] > int(report["visit-count"]) / 2
    (requested,) = app.telemetry("visits-reports-reconciliation-requested")
    assert requested["to"] == (clock.london_now().date() + timedelta(days=35)).isoformat()


@pytest.mark.usefixtures("waiting")
def test_the_next_run_resolves_what_the_proposed_commands_fixed(app: App, planted: dict[str, dict[str, str]]) -> None:
    """The next run resolves exactly the differences that the proposed commands fixed.

    The others persist, including those whose NOMIS visits are too old for the second run to list.
    """
    fixable = {"nomis-duplicate", "mapping-missing", "nomis-visit-missing", "not-cancelled-in-nomis"}
    fixed = {key for key, kind in planted["reported"].items() if kind in fixable}
    for each in reconcile(app)["mismatches"]:
        if each["key"]["visit"] in fixed:
            (command,) = each["diagnosis"]["commands"]
            app.run_ok(*command.split()[1:], "--yes")
    app.run_ok("dlq", "retry", "visit", "--yes")
    app.drain_out("visit")
    for visit in app.sandbox.nomis("visit"):
        long_ago = (clock.london_now() - timedelta(days=40)).replace(tzinfo=None).isoformat()
        app.sandbox.control("PUT", f"/nomis/visits/{visit['id']}", {"created": long_ago})
    result = reconcile(app)
    assert {each["standing"] for each in result["mismatches"]} == {"persisting"}
    assert found(result) == {key: kind for key, kind in planted["reported"].items() if key not in fixed}
    assert {each["key"]["visit"] for each in result["resolved"]} == fixed


@pytest.mark.usefixtures("waiting")
def test_an_unread_prison_makes_a_run_of_visits_incomplete(app: App, planted: dict[str, dict[str, str]]) -> None:
    """If a prison cannot be read, the run is incomplete, the command exits with 1, and an event names the prison.

    Once the prison can be read again, the resumed run is complete.
    """
    prison = app.sandbox.prisoners()[0]["prisonId"]
    app.sandbox.fault("visits", path="/visits/search", query=f"prisonId={prison}", kind="status", status=400)
    result = reconcile(app, code=1)
    assert (result["status"], [each["unit"] for each in result["unread"]]) == ("incomplete", [prison])
    (event,) = app.telemetry("visits-reports-reconciliation-mismatch-page-error")
    assert event["prisonId"] == prison
    app.sandbox.clear_faults()
    resumed = reconcile(app, "--resume", result["runId"])
    assert (resumed["status"], found(resumed)) == ("complete", planted["reported"])


def test_a_search_that_suddenly_finds_nothing_fails_the_run(app: App, planted: dict[str, dict[str, str]]) -> None:
    """If a search suddenly finds nothing, perhaps because of a renamed parameter, the run fails and resolves nothing.

    In the next run, the earlier differences persist.
    """
    reconcile(app)
    empty = {"content": [], "number": 0, "size": 200, "totalElements": 0, "totalPages": 0, "last": True}
    app.sandbox.fault("visits", path="/visits/search", kind="status", status=200, body=empty)
    failed = reconcile(app, code=1)
    assert failed["status"] == "failed"
    assert re.match(r"DPS lists \d visits, but it listed \d\d in the last run that did not fail", failed["failure"])
    assert (failed["mismatches"], failed["resolved"]) == ([], [])
    app.sandbox.clear_faults()
    assert {each["standing"] for each in reconcile(app)["mismatches"]} == {"persisting"}
