"""The output of the commands that list or show what is recorded, and of `dlq show`."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sandbox import Sandbox
from tests.harness.app import App, make_app


@pytest.fixture
def app(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> App:
    """An installation whose database is empty, and whose queues are created on first use."""
    return make_app(sandbox, tmp_path, sqlite_template)


def run_with(app: App, run_id: str, counts: dict[str, object]) -> None:
    """Records a run with these counts. A run whose id ends with a higher digit started later."""
    row = (
        run_id,
        "some-job",
        "manual",
        "{}",
        "success",
        json.dumps(counts),
        f"2023-05-22 04:00:0{run_id[-1]}.0",
        "here",
    )
    with closing(sqlite3.connect(app.database)) as connection, connection:
        connection.execute(
            "INSERT INTO job_runs (id, job, trigger, parameters, status, counts, started_at, host) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )


def track(app: App, *events: tuple[str, str]) -> None:
    """Records telemetry events, each given as its name and its time (UTC)."""
    with closing(sqlite3.connect(app.database)) as connection, connection:
        rows = [(name, at, '{"visitId": "v1"}') for name, at in events]
        connection.executemany("INSERT INTO telemetry_events (name, time, properties) VALUES (?, ?, ?)", rows)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("creations list", "There are no unsettled creations."),
        ("creations list --all", "No creations are recorded."),
        ("duplicates list", "No duplicates are open."),
        ("duplicates list --all", "No duplicates are recorded."),
        ("actions", "No actions are recorded."),
        ("runs list", "No runs are recorded."),
        ("runs list --job other", "No runs of other are recorded."),
        ("telemetry", "No events were tracked."),
        ("telemetry --name other --since 2h", "No such events were tracked."),
        ("dlq show visit", "The dead letter queue of visit is empty."),
    ],
)
def test_an_empty_list_is_a_sentence(app: App, command: str, says: str) -> None:
    """If there is nothing to list, a command prints a sentence without headings.

    With `--json`, `telemetry` prints nothing, and every other command prints an empty list.
    """
    assert app.run_ok(*command.split()) == f"{says}\n"
    assert app.run_ok(*command.split(), "--json") == ("" if "telemetry" in command else "[]\n")


def test_a_drain_is_shown_with_a_line_for_each_queue(app: App) -> None:
    """`runs show` prints the status, parameters and counts of a run as text, with one line for each queue.

    The status of a run that succeeded is shown as `complete`, the word that reports use; the JSON has `success`. Lists
    are printed with commas, and true and false as yes and no.
    """
    app.run_ok("drain", "visit", "incentive", "--until-empty")
    (run,) = app.read_json("runs", "list")
    shown = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in app.run_ok("runs", "show", run["id"]).splitlines())
    assert (shown["status"], run["status"]) == ("complete", "success")
    assert shown["parameter queues"] == "visit, incentive"
    assert shown["parameter untilEmpty"] == "yes"
    for queue in ("visit", "incentive"):
        assert re.fullmatch(r"seconds \d+\.\d+", shown[f"count queues {queue}"]), "nothing was received"
    assert shown["count errors"] == "-"
    assert not re.search(r"[\[\]{}']|True|False", "".join(shown.values()))
    assert app.read_json("runs", "show", run["id"]) == run
    app.run_ok("drain", "visit")
    once = app.read_json("runs", "list")[0]["id"]
    assert re.search(r"^parameter untilEmpty +no$", app.run_ok("runs", "show", once), re.MULTILINE)


def test_the_line_of_a_queue_leaves_out_what_is_redundant(app: App) -> None:
    """In `runs show`, the line for a queue leaves out counts of zero and texts that only repeat the queue's name."""
    counts = {"received": 3, "queues": {"visit": {"queue": "visit", "received": 3, "failed": 0, "retry_queued": 1}}}
    run_with(app, "r1", counts)
    shown = app.run_ok("runs", "show", "r1").splitlines()
    assert re.split(r"\s{2,}", shown[-1]) == ["count queues visit", "received 3, retry queued 1"]


def test_a_different_id_of_the_reconciliation_is_shown(app: App) -> None:
    """`runs list` and `runs show` print the id of the reconciliation only if it differs from the id of the run.

    The two ids differ for a shard and for a resumed run. The JSON always has both.
    """
    run_with(app, "r1", {"reconciliation": "r1", "prisoners": 7})
    run_with(app, "r2", {"reconciliation": "r1", "prisoners": 7})
    second, first = app.run_ok("runs", "list").splitlines()[1:]
    assert second.endswith("  reconciliation r1, prisoners 7")
    assert first.endswith("  prisoners 7")
    assert "reconciliation" not in app.run_ok("runs", "show", "r1")
    assert app.read_json("runs", "show", "r1")["counts"]["reconciliation"] == "r1"


def test_newest_events_are_shown_in_local_time(app: App) -> None:
    """With `--limit`, `telemetry` shows only the newest events, in chronological order.

    The text output shows times in the time zone given by `TZ`, as other lists do. The JSON shows them in UTC.
    """
    track(app, *((f"event-{hour}", f"2023-05-22 0{hour}:00:00.500000") for hour in range(5)))
    shown = app.run_ok("telemetry", "--limit", "2", TZ="Europe/London").splitlines()
    assert shown == ["2023-05-22 04:00:00  event-3  visitId=v1", "2023-05-22 05:00:00  event-4  visitId=v1"]
    printed = app.run_ok("telemetry", "--limit", "1", "--json", TZ="Europe/London")
    assert printed.startswith('{"name": "event-4", "time": "2023-05-22T04:00:00.500+00:00"')
    assert len(app.run_ok("telemetry").splitlines()) == 5
    assert app.run("telemetry", "--limit", "0").code == 2
