"""What all commands share: exit codes, one-line errors and help."""

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.terminals import shown_on_terminal
from tests.harness.waiting import LONGEST_SECONDS, until


def test_help_names_every_command(bare: App) -> None:
    """`--help` lists the commands, even if a setting is wrong."""
    shown = bare.run_as_installed("--help", DATABASE_URL="nonsense")
    assert shown.code == 0
    for name in ("demo", "scheduler", "drain", "reconcile", "runs", "dlq", "telemetry", "db", "check"):
        assert f"  {name} " in shown.out


@pytest.mark.parametrize(
    ("arguments", "settings", "says"),
    [
        (["runs", "list"], {"TZ": "Mars/Olympus"}, "TZ: 'Mars/Olympus': give a time zone such as Europe/London"),
        (
            ["runs", "list"],
            {"DATABASE_URL": "mysql://u:hush@host/db"},
            "DATABASE_URL: only sqlite and postgresql are supported",
        ),
        (["drain"], {"DRAIN_CONCURRENCY": "many"}, "DRAIN_CONCURRENCY: 'many': give a whole number"),
        (["drain"], {"DRAIN_CONCURRENCY": "0"}, "DRAIN_CONCURRENCY: '0': give a number of at least 1"),
        (["scheduler"], {"RECONCILIATION_SCHEDULE": "0 4 * * 9"}, "RECONCILIATION_SCHEDULE: '0 4 * * 9'"),
        (
            ["drain"],
            {"FEATURE_EVENT_PRISON_VISIT_BOOKED": "perhaps"},
            "FEATURE_EVENT_PRISON_VISIT_BOOKED: 'perhaps': set it to true or false",
        ),
        (["drain", "visits"], {}, "there is no queue visits; QUEUE is one of visit, incentive, activity"),
        (["runs", "show", "nothing"], {}, "there is no run nothing"),
        (["reconcile", "incentives", "--prisoner", "Smith"], {}, "'Smith' is not a valid prisoner number"),
        (["reconcile", "incentives", "--prison", "LEEDS"], {}, "'LEEDS' is not a valid prison id"),
        (
            ["reconcile", "visits", "--accept", "a-run", "--prison", "HEI"],
            {},
            "--accept is for a new run for everyone",
        ),
        (["reconcile", "visits", "--accept", "a-run"], {}, "a-run is not a run of visits that has ended"),
        (["reconcile", "incentives", "--shards", "2", "--shard", "2"], {}, "there is no shard 2 of 2"),
        (["telemetry", "--since", "once"], {}, "'once' is not a valid time"),
    ],
)
def test_bad_settings_and_bad_usage_end_in_one_line(
    bare: App, arguments: list[str], settings: dict[str, str], says: str
) -> None:
    """A wrong setting or argument ends the command with exit code 2 and one line that says what to change.

    The line shows no secret.
    """
    ended = bare.run_process(*arguments, **settings)
    assert ended.code == 2
    assert says in ended.error
    assert "hush" not in ended.err
    assert ended.out == ""


def test_unknown_options_are_bad_usage(bare: App) -> None:
    """An unknown option ends the command with exit code 2 and a message that says how to get help."""
    ended = bare.run_as_installed("drain", "--for-ever")
    assert ended.code == 2
    says = "there is no option --for-ever; `prisoner-to-nomis drain --help` shows what to type"
    assert ended.error == f"prisoner-to-nomis: {says}"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("dlq shwo visit", "there is no command shwo (did you mean show?); `prisoner-to-nomis dlq --help` shows"),
        ("dlq show", "QUEUE is missing; `prisoner-to-nomis dlq show --help` shows what to type"),
        ("duplicates remove visit 1", "--of is missing; "),
        ("duplicates show x", "ID must be a whole number; "),
        ("dlq retry visit --limit 0", "--limit must be 1 or more; "),
        ("drain --wait-seconds soon", "--wait-seconds must be a number; "),
        ("reconcile visits --from today", "--from must be a date such as 2026-08-20; "),
        ("reconcile visits --prison", "--prison needs a value after it"),
        ("status --json=yes", "--json takes no value: leave it out"),
        ("status --jso", "there is no option --jso (did you mean --json?); "),
        ("status now please", "there are too many arguments, so leave this out: now please; "),
    ],
)
def test_a_wrong_argument_is_one_plain_sentence(bare: App, typed: str, says: str) -> None:
    """If an argument is wrong or missing, the command exits 2 with one sentence that names it and says what to do."""
    ended = bare.run(*typed.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.error.startswith(f"prisoner-to-nomis: {says}")


def test_a_group_without_a_command_shows_its_help(bare: App) -> None:
    """A command group that is typed without a command lists its commands, and exits 2."""
    ended = bare.run("runs")
    assert ended.code == 2
    assert any(line.split()[:1] == ["rerun"] for line in ended.err.splitlines())


def test_a_traceback_is_shown_only_at_log_level_debug(bare: App) -> None:
    """An error is shown on one line. With LOG_LEVEL=DEBUG, the traceback comes before that line."""
    plain = bare.run_process("runs", "show", "nothing")
    full = bare.run_process("runs", "show", "nothing", LOG_LEVEL="DEBUG")
    assert "Traceback" not in plain.err
    assert "Traceback" in full.err
    assert full.err.rstrip().splitlines()[-1] == plain.error


def test_a_database_without_automatic_upgrades_needs_the_command(bare: App) -> None:
    """Without automatic upgrades, commands refuse to use a new database, and exit 1, until `db upgrade` has run."""
    refused = bare.run("runs", "list", "--json", DATABASE_AUTO_UPGRADE="false")
    assert (refused.code, "prisoner-to-nomis db upgrade" in refused.error) == (1, True)
    assert bare.run("db", "current").code == 1
    assert ": created" in bare.run("db", "upgrade").out
    assert bare.run("db", "current").code == 0
    assert "is already current" in bare.run("db", "upgrade").out
    listed = bare.run("runs", "list", "--json", DATABASE_AUTO_UPGRADE="false")
    assert (listed.code, listed.json()) == (0, [])


@pytest.mark.parametrize("upgrading", ["true", "false"])
def test_a_database_of_a_newer_version_is_not_changed(bare: App, tmp_path: Path, upgrading: str) -> None:
    """If a newer version has upgraded the database, commands say which schema they found and which one they need.

    They do not change the database, and `check` shows it as down.
    """
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/newer.db", "DATABASE_AUTO_UPGRADE": upgrading}
    assert bare.run("db", "upgrade", **settings).code == 0
    with closing(sqlite3.connect(tmp_path / "newer.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in (("db", "upgrade"), ("db", "current"), ("runs", "list")):
        ended = bare.run(*command, **settings)
        assert ended.code == 1
        assert "the database schema is 9999, from a newer version; this version works only with " in ended.error
    checked = bare.run("check", **settings)
    (line,) = [line for line in checked.out.splitlines() if line.startswith("database")]
    assert ("DOWN" in line, "from a newer version" in line) == (True, True)
    assert "from a newer version" in bare.run("status", **settings).out
    with closing(sqlite3.connect(tmp_path / "newer.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_a_new_database_is_logged(bare: App, tmp_path: Path) -> None:
    """If there is no database yet, `check` says so. Other commands create one and log this."""
    path = tmp_path / "typo" / "store.db"
    checked = bare.run("check", DATABASE_URL=f"sqlite:///{path}")
    (line,) = [line for line in checked.out.splitlines() if line.startswith("database")]
    assert line.endswith(f"ok  sqlite:///{path}, not created yet: the next command that uses the database creates it")
    assert not path.parent.exists()
    refused = bare.run("check", DATABASE_URL=f"sqlite:///{path}", DATABASE_AUTO_UPGRADE="false")
    (line,) = [line for line in refused.out.splitlines() if line.startswith("database")]
    assert line.endswith("the schema is not current; run prisoner-to-nomis db upgrade")
    listed = bare.run("runs", "list", DATABASE_URL=f"sqlite:///{path}")
    (logged,) = [json.loads(line) for line in listed.err.splitlines()]
    assert (logged["message"], logged["database"]) == ("database-made", f"sqlite:///{path}")
    assert path.exists()


def test_an_unavailable_database_exits_1(bare: App) -> None:
    """If the database does not respond, a command exits 1 with one line that does not show the password."""
    ended = bare.run_process("runs", "list", DATABASE_URL="postgresql://user:hush@127.0.0.1:1/none")
    assert ended.code == 1
    assert "127.0.0.1" in ended.error
    assert "hush" not in ended.err


def test_an_unavailable_queue_exits_1(bare: App) -> None:
    """If a queue does not respond, `drain` exits 1, and the ledger records the run as failed."""
    settings = {"HMPPS_SQS_PROVIDER": "localstack", "HMPPS_SQS_LOCALSTACK_URL": "http://127.0.0.1:1"}
    ended = bare.run("drain", "visit", **settings)
    assert ended.code == 1
    assert "visit: queue hmpps_prisoner_to_nomis_visit_queue" in ended.error
    assert "http://127.0.0.1:1 does not respond; set HMPPS_SQS_LOCALSTACK_URL" in ended.error
    (run,) = bare.run("runs", "list", "--json").json()
    assert (run["job"], run["status"]) == ("drain", "failed")
    assert "hmpps_prisoner_to_nomis_visit_queue" in run["error"]


NO_KEYS = "get_queue_url: NoCredentialsError; the process has no keys for AWS in eu-west-2; set HMPPS_SQS_QUEUES_"


@pytest.mark.parametrize(
    "arguments",
    [
        ("drain", "visit"),
        ("dlq", "show", "visit"),
        ("dlq", "retry", "visit", "--yes"),
        ("dlq", "purge", "visit", "--dry-run"),
    ],
)
def test_missing_aws_keys_are_named(bare: App, arguments: tuple[str, ...]) -> None:
    """Without AWS keys, a command exits 1, and names the region and the settings for the keys of the queue."""
    ended = bare.run(*arguments, AWS_EC2_METADATA_DISABLED="true", HOME=str(bare.folder))
    assert ended.code == 1
    assert f"queue hmpps_prisoner_to_nomis_visit_queue: {NO_KEYS}VISIT_QUEUE_ACCESS_KEY_ID, " in ended.error


@pytest.mark.parametrize("arguments", [("drain",), ("dlq", "list"), ("dlq", "retry-all", "--yes")])
def test_a_problem_of_all_queues_is_reported_once(bare: App, arguments: tuple[str, ...]) -> None:
    """If one problem prevents the use of all queues, a command says only once what it is and what to change."""
    ended = bare.run(*arguments, AWS_EC2_METADATA_DISABLED="true", HOME=str(bare.folder))
    assert (ended.code, ended.out) == (1, "drained nothing\n" if arguments == ("drain",) else "")
    assert f": visit, incentive, activity, appointment, sentencing: {NO_KEYS}<QUEUE>_QUEUE_ACCESS_KEY_ID" in ended.error
    assert ended.error.count("NoCredentialsError") == 1


def test_an_unavailable_service_exits_1_and_names_its_address(bare: App) -> None:
    """If a service cannot be reached, a command exits 1 and names the setting for the address of the service."""
    ended = bare.run("resync", "visit", "ab-cd-ef-gh", "--dry-run", API_BASE_URL_OAUTH="http://127.0.0.1:1/auth")
    assert ended.code == 1
    assert ended.error.endswith("; wait until the service is up, or set API_BASE_URL_OAUTH")


def test_scheduler_run_cannot_be_repeated(bare: App) -> None:
    """`runs rerun` refuses to repeat a scheduler's run."""
    alone = {
        "SCHEDULER_RECONCILIATION": "false",
        "SCHEDULER_HOUSEKEEPING": "false",
        "SCHEDULER_CONTRACTS": "false",
        "HEALTH_PORT": "0",
    }
    nowhere = {"HMPPS_SQS_PROVIDER": "localstack", "HMPPS_SQS_LOCALSTACK_URL": "http://127.0.0.1:1"}
    process = bare.start("scheduler", **nowhere, **alone)
    try:
        until(lambda: any(line["message"] == "scheduler-started" for line in bare.log()), "start")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_SECONDS) == 0
    finally:
        process.kill()
    (run,) = json.loads(bare.run("runs", "list", "--json").out)
    refused = bare.run("runs", "rerun", run["id"])
    assert (refused.code, "cannot be repeated" in refused.error) == (2, True)


def test_a_terminal_shows_the_result_without_the_log(installed: App, sandbox: Sandbox) -> None:
    """On a terminal, a command logs its events only if `-v` or LOG_LEVEL=INFO is given.

    Without a terminal, it logs them by default.
    """
    settings = {"LOG_FORMAT": "console"}
    installed.make_queues()
    sandbox.traffic(events=2, queues=["visit"])
    quiet = shown_on_terminal(installed, "drain", "visit", **settings)
    assert quiet.startswith("drained visit: received ")
    sandbox.traffic(events=2, queues=["visit"], seed=2)
    assert "visit-create-success" in shown_on_terminal(installed, "-v", "drain", "visit", **settings)
    sandbox.traffic(events=2, queues=["visit"], seed=3)
    assert "visit-create-success" in shown_on_terminal(installed, "drain", "visit", LOG_LEVEL="INFO", **settings)
    sandbox.traffic(events=2, queues=["visit"], seed=4)
    piped = installed.run("drain", "visit")
    assert "visit-create-success" in piped.err
