"""The command that reconciles appointments: what it finds, its events, and the commands that fix the differences."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.appointments import PRISON, make_worked_example
from tests.harness.faults import faulty
from tests.harness.sandboxes import Caller

PREFIX = "appointments-reports-reconciliation"


def reset(app: App, plant: Sequence[str] = ("appointments",), **options: Any) -> Sandbox:
    """Resets the sandbox to a world with planted differences, by default in appointments."""
    app.sandbox.reset(prisoners=40, prisons=20, plant=list(plant), every_cause=True, **options)
    app.forget_queues()
    app.make_queues()
    return app.sandbox


def keys(found: list[dict[str, Any]]) -> list[tuple[Any, Any, str]]:
    """The ids and the kind of each difference, sorted."""
    listed = [(each["key"].get("nomisId"), each["key"].get("dpsId"), each["kind"]) for each in found]
    return sorted(listed, key=str)


def test_planted_differences_of_appointments_are_found_and_fixed(app: App) -> None:
    """Exactly the planted differences are reported, each with a telemetry event.

    The proposed commands fix all except those that need a person's decision.
    """
    sandbox = reset(app, in_flight=2)
    planted = sandbox.planted()["reconciliations"]["appointments"]
    app.settings["RECONCILIATION_IN_FLIGHT_MINUTES"] = "10"
    result = app.read_json("reconcile", "appointments", "--no-notify")
    assert (result["status"], result["gaps"], result["unread"]) == ("complete", [], [])
    reported = [(*each["key"], each["kind"]) for each in planted if each["outcome"] == "reported"]
    assert keys(result["mismatches"]) == sorted(reported, key=str)
    in_flight = [(*each["key"], each["kind"]) for each in planted if each["outcome"] == "in flight"]
    assert keys(result["inFlight"]) == sorted(in_flight, key=str)

    kinds = [each["kind"] for each in planted if each["outcome"] == "reported"]
    events = {
        "mismatch": kinds.count("different"),
        "mismatch-missing-mapping": kinds.count("nomis-only") + kinds.count("duplicate"),
        "dps-only": kinds.count("dps-only") + kinds.count("mapping-without-nomis"),
        "mismatch-error": kinds.count("mapping-without-dps"),
        "requested": 1,
        "failed": 0,
    }
    assert {name: len(app.telemetry(f"{PREFIX}-{name}")) for name in events} == events
    [success] = app.telemetry(f"{PREFIX}-success")
    counted = len(kinds) - events["mismatch-missing-mapping"]
    assert success["mismatch-count"] == str(counted)
    assert len(success) == 1 + min(10, counted)

    for command in {command for each in result["mismatches"] for command in each["diagnosis"]["commands"]}:
        words = shlex.split(command)[1:]
        app.run_ok(*words, "--yes", "--as", "A. Operator")
    app.settings["RECONCILIATION_IN_FLIGHT_MINUTES"] = "0"
    left = app.read_json("reconcile", "appointments", "--no-notify")
    by_people = {
        "made on the NOMIS screen",
        "prisoner on another booking",
        "cancelled in NOMIS",
        "at another prison in NOMIS",
        "creation under way",
    }
    expected = [(*each["key"], each["kind"]) for each in planted if each["cause"] in by_people]
    assert keys(left["mismatches"]) == sorted(expected, key=str)


def test_a_run_that_lost_a_page_is_resumed(app: App) -> None:
    """A page that cannot be read makes the run incomplete. The resumed run finds the missing differences."""
    sandbox = reset(app)
    planted = sandbox.planted()["reconciliations"]["appointments"]
    app.settings["REPORTS_APPOINTMENTS_RECONCILIATION_PAGE_SIZE"] = "10"
    with faulty(sandbox, "nomis", "GET", "/appointments/ids", kind="status", status=400, query="page=2"):
        ended = app.run("reconcile", "appointments", "--no-notify", "--json")
    result = ended.json()
    assert (ended.code, result["status"]) == (1, "incomplete")
    assert {each["page"] for each in app.telemetry(f"{PREFIX}-mismatch-page-error")} == {"2"}
    assert (app.telemetry(f"{PREFIX}-failed"), app.telemetry(f"{PREFIX}-success")) == ([{}], [])
    resumed = app.read_json("reconcile", "appointments", "--no-notify", "--resume", result["runId"])
    assert resumed["status"] == "complete"
    reported = [(*each["key"], each["kind"]) for each in planted if each["outcome"] == "reported"]
    assert keys(resumed["mismatches"]) == sorted(reported, key=str)


def test_services_of_2023_need_the_prisons_in_the_setting(app: App) -> None:
    """With the 2023 services, the appointments at the prisons in APPOINTMENT_PRISONS are compared.

    If the setting is empty, the run fails and says why.
    """
    sandbox = reset(app, generation="2023")
    ended = app.run("reconcile", "appointments", "--no-notify")
    assert ended.code == 1
    assert "/rollout" in ended.out + ended.err
    caller = Caller(sandbox)
    prisons = sorted({each["prisonId"] for each in sandbox.prisoners()})
    rolled_out = [each for each in prisons if caller.get("activities", f"/rollout/{each}")["appointmentsRolledOut"]]
    app.settings["APPOINTMENT_PRISONS"] = ",".join(rolled_out)
    result = app.read_json("reconcile", "appointments", "--no-notify")
    planted = sandbox.planted()["reconciliations"]["appointments"]
    reported = [(*each["key"], each["kind"]) for each in planted if each["outcome"] == "reported"]
    assert keys(result["mismatches"]) == sorted(reported, key=str)


def test_only_appointments_at_the_chosen_prison_and_days_are_compared(app: App) -> None:
    """With `--prison`, `--from` or `--to`, only matching appointments are compared. Nothing is written to NOMIS."""
    sandbox = reset(app)
    everything = app.read_json("reconcile", "appointments", "--no-notify")
    prison = next(each["prisonId"] for each in everything["mismatches"] if each["kind"] == "nomis-only")
    expected = [each for each in everything["mismatches"] if each["prisonId"] == prison]
    assert len(expected) < len(everything["mismatches"])
    here = app.read_json("reconcile", "appointments", "--no-notify", "--prison", prison)
    assert keys(here["mismatches"]) == keys(expected)
    days = ("--from", "2023-01-01", "--to", "2023-03-31")
    long_ago = app.read_json("reconcile", "appointments", "--no-notify", *days)
    assert (long_ago["status"], long_ago["mismatches"], long_ago["compared"]) == ("complete", [], 0)
    nothing = app.run("reconcile", "appointments", "--no-notify", *days, "--prison", prison)
    assert (nothing.code, f"no appointment was found at {prison}" in nothing.err) == (1, True)
    assert sandbox.journal("nomis") == []


def test_telemetry_of_the_worked_example_is_as_published(app: App) -> None:
    """The telemetry events about appointments have the names and properties that alerts and queries rely on."""
    reset(app, plant=())
    prisoner = app.sandbox.receive(PRISON)
    make_worked_example(app.sandbox, prisoner)
    app.run_ok("reconcile", "appointments", "--no-notify")
    offender_no, booking_id = prisoner["offenderNo"], prisoner["bookingId"]
    [mismatch] = app.telemetry(f"{PREFIX}-mismatch")
    nomis, dps = mismatch.pop("nomis"), mismatch.pop("dps")
    assert mismatch == {
        "nomisId": "9003",
        "dpsId": "73",
        "prisonId": PRISON,
        "verdict": "start time mismatch: 14:00 vs 14:15",
    }
    begins = f"offenderNo={offender_no}, bookingId={booking_id}, code=CHAP, startDateTime="
    assert (nomis.startswith(begins), dps.startswith(begins)) == (True, True)
    assert ("T14:00, endTime=15:00, internalLocationId=" in nomis, "T14:15, endTime=15:00" in dps) == (True, True)
    assert app.telemetry(f"{PREFIX}-mismatch-missing-mapping") == [
        {"nomisId": "9004", "prisonId": PRISON, "offenderNo": offender_no, "duplicate-of": "9002"}
    ]
    assert app.telemetry(f"{PREFIX}-dps-only") == [
        {"prisonId": PRISON, "details": f"id=75, prisonerNumber={offender_no}, bookingId={booking_id}"}
    ]
    [success] = app.telemetry(f"{PREFIX}-success")
    assert success["mismatch-count"] == "2"
    assert success["9003,73"] == f"nomis={nomis}, dps={dps}"
    assert success["null,75"].startswith("nomis=null, dps=offenderNo=")
    assert len(success) == 3
    assert app.telemetry(f"{PREFIX}-requested") == [{}]
