"""The alerts, commands, settings, severities and explanations in the runbook match the code, and its links work."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from jobs.cli.app import app
from jobs.operations.status_lines import wait_lines
from reports.presentation.alerts import TEXTS
from reports.presentation.view import view_of
from reports.reconciliations.visits.causes import CAUSES
from sync.alerting import Severity
from sync.clock import now
from sync.domains.declaration import Domain
from sync.domains.registry import DOMAINS
from sync.events.context import Outcome
from sync.pipeline.coalesce import Task
from sync.pipeline.task_end import TaskEnd
from sync.queues.queue import Message
from sync.queues.requeue import WaitsFor
from sync.settings.declaration import variables
from sync.store.creations import CreationState
from sync.store.waiting_messages import Wait
from tests.harness.results import made_result, mismatch

PAGE = (Path(__file__).parents[3] / "doc" / "runbook.md").read_text(encoding="utf-8")
PROGRAM = "prisoner-to-nomis "
COMMAND: Any = typer.main.get_command(app)


def typed() -> list[str]:
    """The commands in the runbook, both those in blocks and those within sentences."""
    blocks = [line.partition("#")[0] for line in PAGE.splitlines() if line.startswith(PROGRAM)]
    sentences = [found for found in re.findall(r"`([^`\n]+)`", PAGE) if found.split()[0] in COMMAND.commands]
    return sorted({line.removeprefix(PROGRAM).strip() for line in (*blocks, *sentences)})


@pytest.mark.parametrize("line", typed())
def test_command_exists_with_its_options(line: str) -> None:
    """Each command in the runbook exists, and so do its options."""
    command, words = COMMAND, line.split()
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"{line}: there is no {words[0]}"
        command = command.commands[words.pop(0)]
    options = {option for parameter in getattr(command, "params", ()) for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("text", sorted(set(TEXTS.values())))
def test_every_alert_leads_to_a_section(text: str) -> None:
    """Each alert has a row in the runbook's first table, and the row begins with the same words as the alert."""
    table = PAGE.partition("## From the alert")[2].partition("\n\n## ")[0]
    beginnings = [found.partition("…")[0].strip() for found in re.findall(r"`([^`\n]+…)`", table)]
    assert [each for each in beginnings if text.startswith(each)], text


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)
def test_duplicates_have_the_severity_of_the_code(domain: Domain) -> None:
    """The runbook's first table gives each kind of duplicate the severity from the code, and says when to act."""
    text = TEXTS[f"to-nomis-synch-{domain.record}-duplicate"].partition(" in {")[0]
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{text} in …` |")]
    severity = domain.creation.severity
    assert f"| `{severity}`, {severity.act.removeprefix('act ')}: " in row


@pytest.mark.parametrize("kind", CAUSES)
def test_differences_of_visits_have_the_severity_of_the_code(kind: str) -> None:
    """The runbook gives each kind of difference between visits the severity that reports show, and says when to act."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |")]
    weight = CAUSES[kind].weight
    severity = Severity.INFO if weight == "low" else Severity(weight)
    assert re.match(rf" `{severity}`, {severity.act.removeprefix('act ')}\b", row.split("|")[2])


def test_a_difference_of_incentive_levels_has_the_severity_of_the_code() -> None:
    """The runbook gives the alert about incentive levels the severity that reports show, and says when to act."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `NOMIS IEP level does not match ")]
    severity = view_of(made_result(1)).severity(mismatch(1))
    assert f"| `{severity}`, {severity.act.removeprefix('act ')}: " in row


def test_the_scale_has_the_words_of_the_code() -> None:
    """The runbook's scale of severities says when to act at each severity, in the words of the alerts."""
    rows = [line.split(" | ") for line in PAGE.partition("| when to act |\n")[2].partition("\n\n")[0].splitlines()[1:]]
    scale = {name.strip("| `"): when.strip(" |") for name, _, when in rows}
    assert scale == {
        str(each): "never" if each is Severity.INFO else each.act.removeprefix("act ") for each in Severity
    }


def test_links_lead_to_sections() -> None:
    """Each link within the runbook leads to a heading."""
    lines = [line.lstrip("# ").lower() for line in PAGE.splitlines() if line.startswith("#")]
    headings = {re.sub(r"[^a-z0-9 -]", "", line).replace(" ", "-") for line in lines}
    assert set(re.findall(r"\]\(#([a-z0-9-]+)\)", PAGE)) <= headings


def test_settings_that_are_named_exist() -> None:
    """The variables that the runbook names are settings of the program."""
    names = re.findall(r"`((?:HOUSEKEEPING|SCHEDULER|REPORTS|SLACK|ENVIRONMENT|FEATURE|HEALTH)_[A-Z_]+)", PAGE)
    known = {variable.name for variable in variables()} | {"FEATURE_EVENT_DELETEALL", "FEATURE_EVENT_"}
    assert set(names) <= known
    assert len(set(names)) > 4


def test_each_state_of_a_creation_is_explained() -> None:
    """The runbook explains each state that commands print for a creation, and no other state."""
    section = PAGE.partition("\n## A creation whose outcome is unknown\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z]+)` \|", section, re.MULTILINE)
    assert set(rows) == {state.value for state in CreationState}


@pytest.mark.parametrize("waits_for", [WaitsFor.CREATION, WaitsFor.LEASE, WaitsFor.TURN])
def test_each_wait_is_explained(waits_for: WaitsFor) -> None:
    """The runbook explains what `status` says about messages that wait for something other than a service."""
    moment = now()
    (line,) = wait_lines([Wait(waits_for.stored, None, 1, moment, moment, None)], [], moment)
    assert re.search(rf"^\| [^|]+ \| `{line.name}` \| ", PAGE, re.MULTILINE)


def test_a_deferred_message_is_explained() -> None:
    """The runbook explains what `drain` says about messages that were not tried, or that wait for a record in use."""
    task = Task(Message("m", "r", "{}", 1), None, None, None)
    end = TaskEnd(task, Outcome.DEFERRED, waits_for=WaitsFor.LEASE)
    assert f"| `{end.why_deferred}` | " in PAGE
    untried = TaskEnd(task, Outcome.DEFERRED, wait_seconds=0)
    assert f"| `{untried.why_deferred}` | " in PAGE
