"""The scheduler as a process: it drains, ends when asked to, and survives outages."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from benchmarks.forked_command import ForkedCommand
from reports.reconciliations.registry import RECONCILIATIONS
from sandbox import Sandbox
from sandbox.postgres import PostgresServer
from sync.queues.aws import Aws
from sync.settings.loading import load_settings
from sync.settings.queues import QUEUES
from tests.harness.app import App
from tests.harness.faults import held
from tests.harness.waiting import LONGEST_SECONDS, until

Running = Callable[..., ForkedCommand]


def count_logged(installed: App, message: str) -> int:
    """The number of log lines with this message."""
    return sum(line["message"] == message for line in installed.log())


def logged_by(log: list[dict[str, Any]], message: str, field: str) -> Counter[str]:
    """How many lines of a log have this message, for each value of `field`."""
    return Counter(line[field] for line in log if line["message"] == message)


def in_order(sandbox: Sandbox) -> bool:
    """Whether every published record is in NOMIS exactly once, with the values from DPS."""
    return not sandbox.verify()["problems"]


def all_subscribed(sandbox: Sandbox) -> bool:
    """Whether every queue is subscribed to its events."""
    sns = Aws(load_settings(sandbox.environment())).client("sns")
    return len(sns.list_subscriptions()["Subscriptions"]) == len(QUEUES)


def test_scheduler_drains_and_ends_at_sigterm(installed: App, sandbox: Sandbox, running: Running) -> None:
    """A running scheduler applies the events on all queues to NOMIS.

    SIGTERM ends the process with exit code 0, and the run is recorded as a success.
    """
    process = running("scheduler")
    until(lambda: count_logged(installed, "scheduler-started") == 1, "start")
    installed.make_queues()
    sandbox.traffic(events=40, seed=5)
    until(lambda: in_order(sandbox), "everything is in NOMIS")
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONGEST_SECONDS) == 0
    assert count_logged(installed, "batch") > 0
    (run,) = installed.run_process("runs", "list", "--json").json()
    assert (run["job"], run["status"]) == ("scheduler", "success")
    assert run["counts"]["applied"] > 0


def test_sigterm_finishes_the_message_in_progress(installed: App, sandbox: Sandbox, running: Running) -> None:
    """A message that is being handled when SIGTERM arrives is finished before the process ends."""
    installed.make_queues()
    sandbox.traffic(events=1, queues=["appointment"])
    with held(sandbox, "nomis", "POST") as create:
        process = running("scheduler", DRAIN_GRACE_SECONDS="600")
        create.wait_for_request()
        process.send_signal(signal.SIGTERM)
        until(lambda: count_logged(installed, "scheduler-stopping") == 1, "stopping")
        assert process.poll() is None
    assert process.wait(LONGEST_SECONDS) == 0
    assert in_order(sandbox)


def test_second_sigterm_ends_at_once(installed: App, sandbox: Sandbox, running: Running) -> None:
    """If a message takes too long to finish, a second SIGTERM ends the process at once.

    The run is then shown as interrupted.
    """
    installed.make_queues()
    sandbox.traffic(events=1, queues=["appointment"])
    with held(sandbox, "nomis", "POST") as create:
        process = running("scheduler", DRAIN_GRACE_SECONDS="600")
        create.wait_for_request()
        process.send_signal(signal.SIGTERM)
        until(lambda: count_logged(installed, "scheduler-stopping") == 1, "stopping")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_SECONDS) == 1
    (run,) = installed.run_process("runs", "list", "--json").json()
    assert (run["job"], run["status"]) == ("scheduler", "interrupted")


def test_scheduled_reconciliation_runs_once_for_two_schedulers(
    installed: App, sandbox: Sandbox, running: Running
) -> None:
    """Two schedulers that share a database run a scheduled reconciliation and deliver its report only once."""
    sandbox.reset(prisoners=50)
    # The last scheduled time was an hour ago and the next is 23 hours away, so no other run is due during the test.
    schedule = (datetime.now(UTC) - timedelta(hours=1)).strftime("%M %H * * *")
    settings = {"SCHEDULER_RECONCILIATION": "true", "RECONCILIATION_SCHEDULE": schedule, "TZ": "UTC"}
    # Other reconciliations may have missed their scheduled times too.
    settings |= {entry.switch_setting: "false" for name, entry in RECONCILIATIONS.items() if name != "incentives"}
    processes = [running("scheduler", **settings) for _ in range(2)]
    until(lambda: count_logged(installed, "job-ended") == 1, "the reconciliation")
    until(lambda: count_logged(installed, "report-stored") == 1, "the report")
    for process in processes:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(LONGEST_SECONDS) for process in processes] == [0, 0]
    runs = installed.run_process("runs", "list", "--json", "--job", "reconcile-incentives").json()
    assert [(run["trigger"], run["status"]) for run in runs] == [("schedule", "success")]


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may stop and start."""
    server = PostgresServer()
    yield server
    server.close()


def test_the_scheduler_survives_without_its_database(
    installed: App, sandbox: Sandbox, running: Running, own_postgres: PostgresServer
) -> None:
    """The scheduler survives a database outage at its start, and another one later.

    Each outage is logged once for each piece of work that fails, and once for each kind of transaction. Work continues
    when the database is back.
    """
    installed.make_queues()
    process = running("scheduler", DATABASE_URL=own_postgres.url.render_as_string())
    until(lambda: count_logged(installed, "work-failing") == 1, "the scheduler notices that the database is down")
    own_postgres.start()
    until(lambda: count_logged(installed, "scheduler-started") == 1, "start")
    assert logged_by(installed.log(), "work-failing", "work") == {"database": 1}
    assert logged_by(installed.log(), "database-unavailable", "transactions") == {"reading": 1}
    sandbox.traffic(events=10, seed=7)
    until(lambda: in_order(sandbox), "everything is in NOMIS")
    logged_before = len(installed.log())
    own_postgres.stop()
    until(
        lambda: logged_by(installed.log()[logged_before:], "work-failing", "work"),
        "the scheduler notices again that the database is down",
    )
    own_postgres.start()
    sandbox.traffic(events=10, seed=8)
    until(lambda: in_order(sandbox), "everything is in NOMIS again")
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONGEST_SECONDS) == 0
    outage = installed.log()[logged_before:]
    assert set(logged_by(outage, "work-failing", "work").values()) == {1}
    assert set(logged_by(outage, "database-unavailable", "transactions").values()) == {1}


def test_the_scheduler_survives_without_its_queues(installed: App, sandbox: Sandbox, running: Running) -> None:
    """If no queue is available, the scheduler logs this once for each queue and keeps running.

    SIGTERM still ends it with exit code 0.
    """
    process = running("scheduler", HMPPS_SQS_LOCALSTACK_URL="http://127.0.0.1:1")
    until(lambda: count_logged(installed, "work-failing") == 5, "the scheduler notices that no queue is available")
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONGEST_SECONDS) == 0
    assert count_logged(installed, "work-failing") == 5


def test_queues_are_created_again_in_an_empty_emulator(installed: App, sandbox: Sandbox, running: Running) -> None:
    """If the AWS emulator loses its queues, the scheduler creates them again, and later events arrive."""
    process = running("scheduler")
    until(lambda: count_logged(installed, "scheduler-started") == 1, "start")
    installed.make_queues()
    sandbox.traffic(events=5, queues=["visit"], seed=1)
    until(lambda: in_order(sandbox), "the events are applied")
    sandbox.reset(prisoners=20)
    until(lambda: count_logged(installed, "queue-missing") >= 5, "the scheduler notices that the queues are missing")
    until(lambda: all_subscribed(sandbox), "every queue is created")
    sandbox.traffic(events=5, queues=["visit"], seed=2)
    until(lambda: in_order(sandbox), "the later events are applied")
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONGEST_SECONDS) == 0


def test_scheduler_waits_for_the_migration(installed: App, running: Running) -> None:
    """Without automatic upgrades, a scheduler starts to work only when the database has been upgraded."""
    by_hand = {"DATABASE_URL": f"sqlite:///{installed.folder}/fresh.db", "DATABASE_AUTO_UPGRADE": "false"}
    process = running("scheduler", **by_hand)
    until(
        lambda: count_logged(installed, "work-failing") == 1 or process.poll() is not None,
        "the scheduler notices the missing schema",
    )
    assert process.poll() is None
    assert installed.run_process("db", "upgrade", **by_hand).code == 0
    until(lambda: count_logged(installed, "scheduler-started") == 1, "start")
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONGEST_SECONDS) == 0
