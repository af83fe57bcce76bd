"""Every command and every option has help, and the documented commands exist."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from jobs.cli.app import app
from sync.settings.queues import QUEUES
from tests.harness.commands import run_here

PROMISED = {
    "demo": {"--dir", "--prisoners", "--events", "--seed", "--latency-ms", "--no-open"},
    "scheduler": set(),
    "drain": {"--until-empty", "--max-batches", "--json"},
    "reconcile incentives": {"--prison", "--prisoner", "--shards", "--shard", "--resume", "--no-notify", "--json"},
    "reconcile explain": set(),
    "reconcile fix received": {"--dry-run", "--yes", "--as"},
    "incentives repair": {"--dry-run", "--yes", "--as"},
    "report render": set(),
    "report send": {"--to", "--dry-run", "--yes", "--as"},
    "runs list": set(),
    "runs show": {"--json"},
    "runs rerun": set(),
    "dlq list": set(),
    "dlq show": set(),
    "dlq retry": {"--message", "--yes", "--dry-run", "--as"},
    "dlq retry-all": {"--yes", "--dry-run"},
    "dlq purge": {"--message", "--yes", "--dry-run", "--as"},
    "duplicates resolve": {"--although-different", "--yes", "--dry-run", "--as"},
    "creations settle": {"--yes", "--dry-run", "--as"},
    "resync": {"--yes", "--dry-run", "--as", "--json"},
    "activities delete-allocation": {"--yes", "--dry-run", "--as"},
    "activities delete-attendance": {"--yes", "--dry-run", "--as"},
    "activities delete-all": {"--yes", "--dry-run", "--as"},
    "appointments delete-all": {"--yes", "--dry-run", "--as"},
    "telemetry": {"--name", "--since", "--limit", "--json"},
    "db upgrade": set(),
    "check": set(),
}


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command and group below `command`, each with the words that a person types for it."""
    for name, each in getattr(command, "commands", {}).items():
        yield " ".join((*path, name)), each
        yield from walk(each, (*path, name))


COMMANDS = dict(walk(typer.main.get_command(app)))


@pytest.mark.parametrize("name", PROMISED)
def test_promised_commands_exist(name: str) -> None:
    """All commands and options that people and Kubernetes rely on exist."""
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert PROMISED[name] <= options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    """Every command has help that begins with a sentence, and each of its options and arguments has help."""
    command = COMMANDS[name]
    summary = (command.help or "").strip().splitlines()[:1]
    assert summary != [], f"{name} has no help"
    assert summary[0].endswith((".", "?")), f"the help of {name} does not begin with a sentence"
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{parameter.opts} of {name} has no help"


def test_help_names_the_queues() -> None:
    """The help of `drain` names every queue."""
    (queues,) = (each for each in COMMANDS["drain"].params if each.name == "queues")
    assert all(queue in queues.help for queue in QUEUES)


def test_help_imports_nothing_that_is_slow_to_import() -> None:
    """The command line imports no library that is slow to import, so `--help` and `--version` are quick."""
    code = "import sys, jobs.cli.app; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in loaded
    assert {"boto3", "numpy", "pydantic", "sqlalchemy", "structlog", "urllib3"}.isdisjoint(loaded)


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("group", ["", *(name for name, each in COMMANDS.items() if hasattr(each, "commands"))])
def test_lists_of_commands_fit_the_screen(group: str, columns: int) -> None:
    """In the help of the program and of each group, no line of the list of commands is too wide for the terminal.

    No command's summary is cut off.
    """
    shown = run_here([*group.split(), "--help"], {"COLUMNS": str(columns)}).out
    listed = shown.partition("\nCommands:\n")[2].splitlines()
    assert listed
    assert [line for line in listed if line.endswith("...") or len(line) > columns] == []


def test_each_command_that_acts_under_a_name_can_be_tried_without_a_change() -> None:
    """Each command that records who acted has `--dry-run` and `--yes`, as the runbook and the README say.

    Of the other commands, only those with `--accept`, which run a reconciliation, can ask for confirmation. So only
    they have `--yes`.
    """
    options = {
        words: {option for parameter in command.params for option in parameter.opts}
        for words, command in walk(typer.main.get_command(app))
        if not hasattr(command, "commands")
    }
    acting = {words for words, found in options.items() if "--as" in found}
    assert len(acting) > 10
    assert {words for words, found in options.items() if "--dry-run" in found} == acting
    asking = {words for words, found in options.items() if "--yes" in found}
    assert asking == acting | {words for words, found in options.items() if "--accept" in found}
