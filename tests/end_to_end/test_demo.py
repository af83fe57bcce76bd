"""The demo: the whole system in one command, with nothing around it."""

import json
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import COMMAND, Installed

_WITHOUT_EXTRA = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "moto" else find_spec(name, *more)
sys.argv = ["prisoner-to-nomis", "demo"]
from jobs.cli import main
main()
"""


def processes_of(session: int) -> list[str]:
    """The command lines of all processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_demo_shows_everything_and_leaves_nothing(tmp_path: Path) -> None:
    """Without any setting the demo succeeds, says what it did, writes only into its folder and ends all it started."""
    home, temporary, here = (tmp_path / name for name in ("home", "temporary", "here"))
    for folder in (home, temporary, here):
        folder.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    arguments = ["demo", "--dir", "shown", "--prisoners", "80", "--events", "60", "--seed", "4"]
    process = subprocess.Popen(
        [COMMAND, *arguments],
        cwd=here,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert processes_of(process.pid) == []
    rows = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    table = {name.strip(): figure.strip() for name, figure in rows.items()}
    assert table["events published"] == "60"
    assert table["prisoners compared"] == "80 of 80"
    assert table["mismatches planted"] == "10"
    assert table["mismatches found"].startswith("10,")
    once, _, entities = table["records in NOMIS exactly once"].partition(" of ")
    assert once == entities
    assert Path(table["report"]).is_file()
    assert "draining: " in err
    assert [path.name for path in here.iterdir()] == ["shown"]
    assert list(home.iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert json.loads((here / "shown" / "slack.json").read_text(encoding="utf-8"))["messages"] != []


def test_demo_asks_for_its_extra(bare: Installed) -> None:
    """Without the packages of the embedded world the demo says in one line what to install."""
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
