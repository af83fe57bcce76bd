"""The generated reference pages match the code and are complete."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from jobs.cli.app import app
from jobs.cli.reference import commands_page, main, pages, settings_page
from jobs.operations.schedule import SCHEDULE
from sync.settings.declaration import variables


def test_generated_pages_are_up_to_date() -> None:
    """The generated pages in `doc/` match the code."""
    assert main(["--check"]) == 0


def test_a_stale_page_is_found_and_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the generated pages fails if any page is out of date or missing, and names each such page.

    After the pages are written again, the check passes, and the text around the generated tables is unchanged.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doc").mkdir()
    (tmp_path / "doc" / "settings.md").write_text("old")
    tables = "".join(
        f"<!-- made by make docs: dead letter {name} -->\nstale\n<!-- end -->\n" for name in ("classes", "advice")
    )
    (tmp_path / "doc" / "runbook.md").write_text(f"# Runbook\n\n{tables}\nThe end.\n")
    code = "import sys; from jobs.cli.reference import main; sys.exit(main(sys.argv[1:]))"
    checked = subprocess.run(
        [sys.executable, "-c", code, "--check"],
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 1
    assert checked.stderr == "doc/settings.md, doc/commands.md, doc/runbook.md: out of date; run `make docs`\n"
    assert main(["--write"]) == 0
    assert {file.name for file in (tmp_path / "doc").iterdir()} == set(pages())
    assert main(["--check"]) == 0
    runbook = (tmp_path / "doc" / "runbook.md").read_text()
    assert "\nstale\n" not in runbook
    assert all(text in runbook for text in ("# Runbook", "| `recoverable` |", "| 404 from a DPS service |", "The end."))


def test_every_setting_has_a_row_and_a_meaning() -> None:
    """On the settings page, every setting has a row with its meaning, and the rows show the defaults."""
    page = settings_page()
    rows = {
        row.split("|")[1].strip().strip("`"): row.split("|")[3].strip() for row in page.splitlines() if "| `" in row
    }
    for variable in variables():
        assert rows[variable.name], f"{variable.name} has no meaning"
    assert "| `HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT` | `1,10,60,600` |" in page
    assert "| `FEATURE_EVENT_PRISON_VISIT_BOOKED` | `true` |" in page
    assert "| `FEATURE_EVENT_DELETEALL` | `false` |" in page


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The words that run each command of a group and of the groups below it."""
    for name, each in group.commands.items():
        words = (*path, name)
        yield from commands(each, words) if hasattr(each, "commands") else (" ".join(words),)


def test_every_command_has_a_section() -> None:
    """On the commands page, each command has a section, whose heading has all the words that run the command."""
    page = commands_page()
    names = list(commands(typer.main.get_command(app)))
    assert {"drain", "dlq retry-all", "reconcile incentives", "reconcile fix received"} <= set(names)
    assert [name for name in names if f"## prisoner-to-nomis {name}\n" not in page] == []


def test_every_scheduled_job_has_a_row() -> None:
    """On the commands page, each scheduled job has a row.

    The row has the command of the job, and the settings for its schedule and switch.
    """
    page, settings = commands_page(), settings_page()
    assert {job.setting for job in SCHEDULE} == set(re.findall(r"`(\w+_SCHEDULE)`", settings))
    for job in SCHEDULE:
        assert f"| `{job.switch}` |" in settings
        assert f"| {job.name} | `{' '.join(job.command)}` | `{job.setting}` | `{job.switch}` |" in page
