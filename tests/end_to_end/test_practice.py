"""The page on practising in the sandbox: each command does what the page says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from jobs.cli.app import PROGRAM
from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.publishing import (
    adjustment_inserted,
    appointment_created,
    review_inserted,
    schedule_created,
    visit_booked,
)
from tests.harness.waiting import until

DOC = Path(__file__).parents[2] / "doc"
PAGE = (DOC / "practice.md").read_text(encoding="utf-8")
CONTROL = "localhost:8100"
#: The parts of the runbook that explain, and describe no situation.
EXPLAIN = {"From the alert to its section"}
#: Each row of the table: the section of the runbook, the command, and what to do then.
ROWS = re.findall(r"^\| (.+?) \| (?:`(.+?)`|see \[below\]\(#[\w-]+\)) \| (.*?)\|$", PAGE, re.MULTILINE)


def commands(program: str) -> list[str]:
    """The commands of the page that begin with `program`, in blocks and in sentences, without comments."""
    lines = [
        line.split("  #")[0] for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.split("\n")
    ]
    inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
    found = [" ".join(each.split()) for each in (*lines, *inline) if each.startswith(f"{program} ")]
    assert found
    return list(dict.fromkeys(found))


def command_for(section: str) -> str:
    """The command of the only row for `section`, which is the beginning of its first column without the link."""
    plain = [(re.sub(r"\[(.+?)\]\(.+?\)", r"\1", row[0]), row[1]) for row in ROWS]
    (command,) = [command for name, command in plain if name.startswith(section)]
    return str(command)


def control(sandbox: Sandbox, command: str, **names: object) -> Any:
    """Sends the request of a `curl` command to the sandbox, with `names` replaced, and returns the response.

    Raises `SandboxError` if the sandbox refuses the request.
    """
    for name, value in names.items():
        command = command.replace(name, str(value))
    program, *words = shlex.split(command.partition(" | ")[0])
    assert program == "curl"
    method, body, path = None, None, ""
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-d":
            body = json.loads(words.pop(0))
        elif word != "-s":
            path = word.removeprefix(CONTROL)
    return sandbox.control(method or ("GET" if body is None else "POST"), path, body)


def send_and_drain(app: App, **traffic: object) -> None:
    """Sends events and drains all queues once."""
    app.sandbox.control("POST", "/traffic", traffic or {"events": 100})
    app.sandbox.control("GET", "/traffic?wait=1")
    app.run("drain")


def test_each_situation_of_the_runbook_can_be_practised() -> None:
    """The table has a row for each section of the runbook, and each link leads to a section."""
    sections = re.findall(r"^###? (.+)$", (DOC / "runbook.md").read_text(encoding="utf-8"), re.MULTILINE)
    linked = set(re.findall(r"\(runbook\.md#([\w-]+)\)", PAGE))
    assert linked == {_anchor(each) for each in sections if each not in EXPLAIN}
    below = {_anchor(each) for each in re.findall(r"^##+ (.+)$", PAGE, re.MULTILINE)}
    assert set(re.findall(r"\(#([\w-]+)\)", PAGE)) <= below


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_each_request_is_accepted(app: App, sandbox: Sandbox) -> None:
    """The sandbox accepts each request of the page, and the program has each of its commands and options."""
    sandbox.reset(prisoners=200, every_cause=True, plant=["all"])
    app.forget_queues()
    app.make_queues()
    for command in commands("curl"):
        if not re.search(r"[A-Z]{3,}_[A-Z]", command):
            control(sandbox, command, NUMBER=sandbox.prisoners()[0]["offenderNo"])
    for command in commands(PROGRAM):
        assert app.run(*shlex.split(command)[1:], "--help").code == 0, command


def test_another_installation_creates_one_record_of_each_kind_first(app: App, sandbox: Sandbox) -> None:
    """For each section on a duplicate, the next record of the kind is created twice.

    The record of the other installation is mapped, and `duplicates resolve` deals with the other one.
    """
    for kind in ("visit", "adjustment", "appointment", "activity", "incentive"):
        control(sandbox, command_for(f"Duplicate {kind}"))
    created = (visit_booked, adjustment_inserted, appointment_created, schedule_created, review_inserted)
    for create in created:
        # Only the first record of each kind is created twice.
        create(sandbox).publish()
        create(sandbox).publish()
    app.run("drain")
    findings = app.read_json("duplicates", "list")
    domains = ["activity", "appointment", "incentive", "sentencing-adjustment", "visit"]
    assert sorted(each["domain"] for each in findings) == domains
    for finding in findings:
        shown = app.read_json("duplicates", "show", str(finding["id"]))
        assert (shown["verdict"], shown["obstacles"]) == ("surplus", [])
        app.run_ok("duplicates", "resolve", str(finding["id"]), "--yes")
    assert app.read_json("duplicates", "list") == []


@pytest.mark.parametrize(("kind", "event"), [("allocation", "allocation"), ("attendance", "attendance-create")])
def test_two_rows_need_a_person(app: App, sandbox: Sandbox, kind: str, event: str) -> None:
    """As the page describes, an allocation or attendance gets a second row, and its message becomes a dead letter.

    Once the row that the response names is deleted, the message succeeds.
    """
    look_up, double, publish = (
        next(each for each in commands(program) if part in each)
        for program, part in (
            (PROGRAM, f"telemetry --name activity-{event}-success"),
            ("curl", f"/nomis/duplicates/{kind}/"),
            ("curl", f"activities.prisoner.{kind}-amended"),
        )
    )
    send_and_drain(app, events=0, chains=1)
    until(lambda: app.drain("activity")["applied"] and app.telemetry(f"activity-{event}-success"), "it is created")
    properties = json.loads(app.run_ok(*shlex.split(look_up)[1:], "--json"))["properties"]
    ids = {
        "NOMIS_ALLOCATION_ID": properties.get("nomisAllocationId"),
        "DPS_ALLOCATION_ID": properties.get("dpsAllocationId"),
        "NOMIS_ATTENDANCE_EVENT_ID": properties.get("nomisAttendanceEventId"),
        "DPS_ATTENDANCE_ID": properties.get("dpsAttendanceId"),
    }
    second = control(sandbox, double, **ids)["id"]
    control(sandbox, publish, **ids)
    app.drain_out("activity")
    assert app.messages("activity") == 1
    (finding,) = app.read_json("duplicates", "list")
    assert finding["kind"] == "non-unique"
    app.run_ok("activities", f"delete-{kind}", str(second), "--yes", "--unchecked")
    app.run_ok("duplicates", "resolve", str(finding["id"]), "--by-hand", f"deleted {second}", "--yes")
    app.run_ok("dlq", "retry", "activity", "--yes")
    assert app.drain("activity")["applied"] == 1


def course_problems(sandbox: Sandbox) -> list[dict[str, Any]]:
    """What `/verify` finds wrong with courses."""
    problems = control(sandbox, "curl localhost:8100/verify")["problems"]
    return [each for each in problems if each["domain"] == "activity"]


@pytest.mark.parametrize(
    ("lost", "problem"), [("Unknown outcome: the response", "unmapped"), ("Unknown outcome: the request", "missing")]
)
def test_nobody_knows_whether_a_course_was_created(app: App, sandbox: Sandbox, lost: str, problem: str) -> None:
    """A course whose creation got no response becomes ambiguous, and `/verify` says whether NOMIS has it.

    With that knowledge, `creations settle` settles the creation.
    """
    control(sandbox, command_for(lost))
    send_and_drain(app, events=0, chains=1)
    until(lambda: app.drain("activity")["ambiguous"], "the creation is ambiguous")
    (creation,) = app.read_json("creations", "list")
    (found,) = course_problems(sandbox)
    assert found["problem"] == problem
    app.let_creates_end()
    number = ["--nomis-id", str(found["nomis_id"])] if problem == "unmapped" else ["--not-created"]
    app.run_ok("creations", "settle", str(creation["id"]), *number, "--yes", "--unchecked")
    until(lambda: app.drain("activity") and not course_problems(sandbox), "NOMIS has the course, and it is mapped")
