"""The demo: the whole system in one command, without any external services."""

import itertools
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reports.reconciliations.registry import RECONCILIATIONS
from tests.harness.app import COMMAND, App
from tests.harness.waiting import until

_WITHOUT_EXTRA = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "moto" else find_spec(name, *more)
sys.argv = ["prisoner-to-nomis", "demo"]
from jobs.cli.app import main
main()
"""


def processes_of(mark: str) -> list[str]:
    """The command lines of all processes that have `mark` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def test_demo_shows_everything_and_leaves_nothing(tmp_path: Path) -> None:
    """The demo succeeds, writes files only to its folder, and leaves no process running."""
    home, temporary, here = (tmp_path / name for name in ("home", "temporary", "here"))
    for folder in (home, temporary, here):
        folder.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    # The shell's settings for proxies and AWS must make no difference.
    environment |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    environment |= {"AWS_PROFILE": "nope", "AWS_CONFIG_FILE": str(home / "none")}
    arguments = ["demo", "--dir", "shown", "--prisoners", "80", "--events", "60", "--seed", "4"]
    process = subprocess.Popen(
        [COMMAND, *arguments],
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert processes_of(str(home)) == []
    # A long figure continues below its start.
    lines = re.sub(r"\n {20,}", " ", out).splitlines()
    rows = dict(line.split("  ", 1) for line in lines if "  " in line)
    table = {name.strip(): figure.strip() for name, figure in rows.items()}
    assert table["events published"] == "60"
    assert table["prisoners compared"] == "80 of 80"
    assert table["differences planted"] == "10"
    assert table["differences found"] == "10: 9 in the report, 1 in flight; the planted cause named for 10"
    assert table["differences that were gone when read again"] == "3, as planted: 2 in flight, 1 only in the bulk call"
    once, _, entities = table["records in NOMIS exactly once"].partition(" of ")
    assert once == entities
    assert Path(table["report"]).is_file()
    assert Path(table["all reports"]).name == "index.html"
    assert Path(table["all reports"]).is_file()
    assert "draining: " in err
    assert [path.name for path in here.iterdir()] == ["shown"]
    assert list(home.iterdir()) == []
    assert list(temporary.iterdir()) == []
    check_the_weeks_before(here / "shown", Path(table["report"]), table)
    check_the_overview(here / "shown" / "reports")
    assert "9 of 80 prisoners" in Path(table["Slack"]).read_text("utf-8")
    alerts = [each["text"] for each in json.loads((here / "shown" / "slack.json").read_text("utf-8"))["messages"]]
    assert "in the demo" in alerts[0]
    assert not any("Production" in text for text in (*alerts, Path(table["report"]).read_text("utf-8")))


def check_the_weeks_before(folder: Path, report: Path, table: dict[str, str]) -> None:
    """Checks that eight weekly runs with reports precede the demo's run, and that their figures are consistent."""
    result = json.loads((report.parent / "result.json").read_text("utf-8"))
    standings = [each["standing"] for each in result["mismatches"]]
    new, persisting, resolved = standings.count("new"), standings.count("persisting"), len(result["resolved"])
    assert new + persisting == 9
    assert persisting > 0
    assert resolved > 0
    figures = f"{new} new, {persisting} persisting, {resolved} resolved"
    assert table["since the last of eight weekly runs"] == figures
    slack = (folder / "slack.txt").read_text("utf-8")
    assert all(f"{count} {name}" in slack for name, count in (("new", new), ("resolved", resolved)))
    trend = result["trend"]
    assert len(trend) == 9
    for earlier, later in itertools.pairwise(trend):
        assert later["mismatches"] == earlier["mismatches"] + later["new"] - later["resolved"]
    overview = (folder / "reports" / "index.html").read_text("utf-8")
    for point in trend:
        assert (folder / "reports" / point["runId"] / "report.html").is_file()
        assert f"{point['runId']}/report.html" in overview


def check_the_overview(reports: Path) -> None:
    """Checks that the overview has the trend of every reconciliation, and that each of its links leads to a file."""
    overview = (reports / "index.html").read_text("utf-8")
    assert overview.count('class="spark"') == len(RECONCILIATIONS)
    links = re.findall(r'href="([^"#]+)"', overview)
    assert len(links) > 9 * len(RECONCILIATIONS)
    assert [link for link in links if not (reports / link).is_file()] == []
    for name in ("allocations", "appointments", "adjustments", "visits"):
        [latest] = [json.loads(path.read_text("utf-8")) for path in reports.glob(f"{name}/2*/result.json")]
        assert {each["standing"] for each in latest["mismatches"]} == {"new", "persisting"}, name
        assert latest["resolved"], name
        for path in reports.glob(f"{name}/reconcile-*/result.json"):
            earlier = json.loads(path.read_text("utf-8"))
            assert sum(each["mismatches"] for each in earlier["prisons"]) == len(earlier["mismatches"]), name


@pytest.mark.parametrize(
    ("stage", "arguments"),
    [
        ("start", ["--prisoners", "9000"]),
        ("publishing events", ["--prisoners", "80"]),
        ("draining", ["--prisoners", "80", "--latency-ms", "50"]),
    ],
)
def test_demo_ends_soon_when_asked(bare: App, stage: str, arguments: list[str]) -> None:
    """At any stage, Ctrl+C ends the demo and every process that it started.

    The last line says that the demo was stopped early, and the exit code is 1.
    """
    process = bare.start("demo", "--events", "150", *arguments)
    log = bare.folder / "log"
    if stage == "start":
        until(lambda: "sandbox.process" in "".join(processes_of(str(bare.folder))), "the world begins")
    else:
        until(lambda: any(line.startswith(stage) for line in log.read_text().splitlines()), f"{stage} is begun")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1
    *before, last = log.read_text().splitlines()
    assert last == "prisoner-to-nomis: the demo was stopped early"
    assert ("stopping; press Ctrl+C again to end at once" in before) == (stage == "draining")
    until(lambda: not processes_of(str(bare.folder)), "all processes end")


def test_demo_asks_for_its_extra(bare: App) -> None:
    """If the packages of the sandbox are not installed, the demo says in one line how to install them."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_EXTRA],
        capture_output=True,
        text=True,
        cwd=bare.folder,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'prisoner-to-nomis[sandbox]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
