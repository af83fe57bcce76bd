"""The `status` command: all parts on one screen, and the command to type for each problem."""

from __future__ import annotations

import itertools
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from jobs.cli.app import PROGRAM
from jobs.health.page import HealthPage
from jobs.health.probes import list_probes
from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.alerting import Severity
from sync.clock import now
from sync.queues.aws import Aws
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName
from sync.store import outbox
from sync.store.findings import FindingKind, record_finding
from sync.store.tables import creations, waiting_messages
from sync.store.tables import outbox as deliveries
from sync.store.waiting_messages import WaitingMessage, record_waits
from sync.upstream.breaker import set_breaker
from sync.upstream.services import Services
from tests.harness.app import App, open_application
from tests.harness.commands import Ended, run_here
from tests.harness.faults import faulty
from tests.harness.publishing import appointment_created, visit_booked
from tests.harness.waiting import until

PARTS = ("queues", "schedulers", "reconciliations", "breakers", "waits", "findings", "creations", "deliveries")


@contextmanager
def open_application_of(app: App) -> Iterator[Application]:
    """The parts of the program, opened with an installation's database."""
    with open_application(app.settings, app.settings["DATABASE_URL"]) as application:
        yield application


def needs(shown: dict[str, Any], part: str, name: str) -> list[dict[str, str]]:
    """The reasons why the line `name` of a part needs a person, each with a command."""
    (line,) = [line for line in shown[part] if line["name"] == name]
    found: list[dict[str, str]] = line["needs"]
    return found


def command_of(shown: dict[str, Any], part: str, name: str) -> str:
    """The command for the only reason why the line `name` of a part needs a person."""
    (need,) = needs(shown, part, name)
    return need["command"]


def fits_the_screen(ended: Ended) -> bool:
    """Whether the output fits a terminal of 80 columns.

    Commands may be longer, since they stay on one line so that they can be copied.
    """
    return all(len(line) <= 80 or line.strip().startswith(PROGRAM) for line in ended.out.splitlines())


def test_status_says_that_nothing_needs_a_person(app: App) -> None:
    """If nothing needs a person, `status` says so on one screen and exits 0. The JSON says the same."""
    app.drain("visit")
    shown = app.run("status")
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[0].endswith(": all is well")
    assert len(lines) <= 30
    assert fits_the_screen(shown)
    assert not [line for line in lines if line.startswith("!")]
    read = app.run("status", "--json")
    assert (read.code, read.json()["needsPerson"]) == (0, False)
    assert set(PARTS) <= set(read.json())


@pytest.fixture
def with_problems(app: App) -> App:
    """An installation with eight problems, each of a different kind."""
    app.queues()["visit"].dlq.send("no valid message")
    app.main_queue("visit").send("waits")
    app.run("reconcile", "incentives", "--prison", "XXX", "--no-notify")
    report = "reconciliation:20230522-030000-abcd:2023-05-22T04:00:00:email"
    with open_application_of(app) as application, application.database.begin() as connection:
        set_breaker(connection, UpstreamName.NOMIS, "open", opened_at=now() - timedelta(hours=2), reason="status 503")
        for kind, severity in (
            (FindingKind.DUPLICATE, Severity.LOW),
            (FindingKind.AMBIGUOUS, Severity.SERIOUS),
            (FindingKind.DEAD_LETTER, Severity.INFO),
        ):
            record_finding(connection, kind.value, kind, "visit", severity, "an-event", {}, None)
        for state, age in (("ambiguous", timedelta(hours=1)), ("created", timedelta(hours=13))):
            values = {"domain": "visit", "dps_id": state, "state": state, "request": {}, "properties": {}}
            times = dict.fromkeys(("intended_at", "created_at", "updated_at"), now() - age)
            connection.execute(creations.insert().values(**values, **times, attempts=1))
        for key, channel in (("finding:1", "slack"), (report, "email")):
            outbox.enqueue(connection, key, channel, {})
        late = {"created_at": now() - timedelta(hours=1), "last_error": "slack: status 503"}
        connection.execute(deliveries.update().where(deliveries.c.channel == "slack").values(late))
        given_up = {"state": "failed", "last_error": "mailbox unavailable"}
        connection.execute(deliveries.update().where(deliveries.c.channel == "email").values(given_up))
    return app


def test_each_problem_has_its_command(with_problems: App) -> None:
    """For each problem, `status` gives the reason and a command.

    On the screen, it marks the line of each problem. The exit code is 1.
    """
    read = with_problems.run("status", "--json")
    shown = read.json()
    assert (read.code, read.err, shown["needsPerson"]) == (1, "", True)
    assert command_of(shown, "queues", "visit") == "prisoner-to-nomis dlq show visit"
    (visit,) = [line for line in shown["queues"] if line["name"] == "visit"]
    assert (visit["waiting"], visit["dead"], visit["classes"]) == (1, 1, {"unreadable": 1})
    assert visit["oldestDeadSeconds"] >= 0
    assert command_of(shown, "breakers", "nomis") == "prisoner-to-nomis check"
    assert command_of(shown, "schedulers", "none") == "prisoner-to-nomis scheduler"
    assert command_of(shown, "findings", "duplicate") == "prisoner-to-nomis duplicates list"
    assert needs(shown, "findings", "dead-letter") == []
    # The finding of an unknown outcome and its creation count as one problem.
    assert needs(shown, "findings", "ambiguous") == needs(shown, "creations", "ambiguous")
    assert command_of(shown, "creations", "ambiguous") == "prisoner-to-nomis creations list"
    assert command_of(shown, "creations", "created") == "prisoner-to-nomis creations list"
    assert needs(shown, "deliveries", "slack")[0]["reason"] == "slack: status 503"
    (slack,) = [line for line in shown["deliveries"] if line["name"] == "slack"]
    assert datetime.fromisoformat(slack["nextAttemptAt"]) <= now()
    again = "prisoner-to-nomis report send 20230522-030000-abcd --to email"
    assert command_of(shown, "deliveries", "email") == again

    screen = with_problems.run("status")
    assert screen.code == 1
    assert fits_the_screen(screen)
    lines = screen.out.splitlines()
    assert lines[0].endswith(": 8 things need a person")
    assert len(lines) <= 50
    marked = [line.split()[1] for line in lines if line.startswith("! ")]
    assert sorted(marked) == sorted(
        ["visit", "none", "nomis", "duplicate", "ambiguous", "created", "email", "slack"]
    ), "an unknown outcome is on the screen once"
    for number, line in enumerate(lines):
        if line.startswith("!"):
            below = itertools.takewhile(lambda each: each.startswith("    "), lines[number + 1 :])
            assert any(f"{PROGRAM} " in each for each in below), line
    commands = {need["command"] for part in PARTS for line in shown[part] for need in line["needs"]}
    for command in commands:
        assert f"{command}\n" in screen.out
        program, *arguments = shlex.split(command)
        assert program == PROGRAM
        assert run_here([*arguments, "--help"], with_problems.settings).code == 0


def test_an_outage_of_writes_alone_is_shown(app: App, sandbox: Sandbox) -> None:
    """If only writes to a service fail, `drain`, `status`, `check` and the health page name the service.

    Each says how many messages wait, even though too few calls have failed for the breaker to open. A wait of less than
    a minute does not count as a problem, since a single failed call is tried again within that time. Once the messages
    are handled, `status` no longer lists the service.
    """
    appointment, visit = appointment_created(sandbox), visit_booked(sandbox)
    for event in (appointment, visit):
        event.publish()
    reason = "nomis: status 503: read-only"
    with faulty(sandbox, "nomis", "POST", status=503, kind="status", body={"userMessage": "read-only", "status": 503}):
        drained = app.run("drain", "visit", "appointment")
        assert (drained.code, "deferred 2" in drained.out) == (0, True)
        assert f"2 messages deferred after a failed call: {reason}" in drained.err.splitlines()
        assert needs(app.run("status", "--json").json(), "waits", "nomis") == []
        assert app.run("check").code == 0
        with open_application_of(app) as application, application.database.begin() as connection:
            connection.execute(waiting_messages.update().values(since=now() - timedelta(minutes=2)))
        status = app.run("status", "--json")
        (line,) = status.json()["waits"]
        assert (line["name"], line["number"], line["reason"]) == ("nomis", 2, reason)
        assert timedelta(minutes=2) < now() - datetime.fromisoformat(line["since"]) < timedelta(minutes=3)
        assert command_of(status.json(), "waits", "nomis") == "prisoner-to-nomis check"
        assert [each["state"] for each in status.json()["breakers"] if each["name"] == "nomis"] == ["closed"]
        (marked,) = [each for each in app.run("status").out.splitlines() if each.startswith("! nomis")]
        assert marked.split()[1:3] == ["nomis", "2"]
        checked = app.run("check")
        assert checked.code == 1
        assert re.search(rf"waits +DOWN +2 messages have been waiting for nomis since .*: {reason}", checked.out)
        assert re.search("breakers +ok +all closed", checked.out), "as in `status`"
        with open_application_of(app) as application, closing(Services(application.settings)) as services:
            parts = HealthPage(list_probes(application, services)).overall().body["components"]
        assert parts["breakers"]["status"] == "UP"
        part = parts["waits"]
        assert (part["status"], part["details"]["nomis-waiting"]["messages"]) == ("DOWN", 2)
    app.let_creates_end()
    until(lambda: app.drain("visit")["applied"], "the visit is tried again")
    until(lambda: app.drain("appointment")["applied"], "the appointment is tried again")
    assert app.run("status", "--json").json()["waits"] == []


def test_an_open_breaker_and_its_messages_are_one_problem(app: App) -> None:
    """If the breaker for a service is open, messages that wait for the service do not count as another problem.

    `status` still shows them.
    """
    with open_application_of(app) as application, application.database.begin() as connection:
        set_breaker(connection, UpstreamName.NOMIS, "open", opened_at=now(), reason="status 503")
        record_waits(connection, [WaitingMessage("visit", "1", "service", "nomis", "status 503", now(), now())])
    shown = app.run("status", "--json").json()
    assert (command_of(shown, "breakers", "nomis"), needs(shown, "waits", "nomis")) == ("prisoner-to-nomis check", [])


def test_status_changes_nothing(with_problems: App) -> None:
    """`status` receives no message from a main queue, and leaves dead letters visible."""
    with_problems.run("status")
    (message,) = with_problems.main_queue("visit").receive()
    assert message.receive_count == 1
    assert with_problems.messages("visit") == 1


def test_a_recoverable_dead_letter_needs_a_person_if_the_housekeeping_is_overdue(app: App) -> None:
    """A recoverable dead letter needs a person only if the housekeeping, which would send it back, is overdue."""
    app.drain("visit")
    app.queues()["visit"].dlq.send(
        '{"Type": "Notification", "Message": "{\\"eventType\\": \\"prison-visit.booked\\"}"}'
    )
    (need,) = needs(app.run("status", "--json").json(), "queues", "visit")
    assert need == {
        "reason": "housekeeping, which sends dead letters back, has never succeeded",
        "command": "prisoner-to-nomis dlq retry-all",
    }
    with open_application_of(app) as application, application.job_runs.run("dlq-housekeeping", {}):
        pass
    assert needs(app.run("status", "--json").json(), "queues", "visit") == []


def test_an_unavailable_part_hides_no_other(app: App) -> None:
    """If the database is unavailable, `status` still shows the queues, and vice versa.

    Each cause is shown once, and the exit code is 1.
    """
    app.main_queue("visit").send("waits")
    app.queues()["visit"].dlq.send("dead")
    unavailable = app.run("status", DATABASE_URL="postgresql://user:hush@127.0.0.1:1/none")
    assert unavailable.code == 1
    lines = unavailable.out.splitlines()
    assert lines[0].endswith("1 thing needs a person")
    assert any(line.split()[:3] == ["!", "visit", "1"] for line in lines)
    unknown = [line.split()[1] for line in lines if line.startswith("!")]
    assert unknown == ["visit", "DATABASE"], "one line for all parts that are in the database"
    assert unavailable.out.count("connection failed") == 1
    assert unavailable.out.count("prisoner-to-nomis check\n") == len(unknown)
    assert "hush" not in unavailable.out + unavailable.err

    gone = app.run("status", HMPPS_SQS_LOCALSTACK_URL="http://127.0.0.1:1")
    assert gone.code == 1
    assert "! QUEUE  unknown\n" in gone.out
    assert "all are settled" in gone.out


def is_one_problem(app: App, reason: str) -> None:
    """Checks that `status` shows a single problem, with `reason`.

    The problem has the command that creates or upgrades the database.
    """
    shown, read = app.run("status"), app.run("status", "--json").json()
    assert (shown.code, shown.out.splitlines()[0][-24:]) == (1, ": 1 thing needs a person")
    assert [line.split()[1] for line in shown.out.splitlines() if line.startswith("!")] == ["DATABASE"]
    assert f"\n    {PROGRAM} db upgrade\n" in shown.out
    assert reason in " ".join(shown.out.split())
    assert (reason in read["databaseUnknown"], read["queues"][0]["dead"]) == (True, 1)
    assert {command_of(read, part, line["name"]) for part in PARTS[1:] for line in read[part]} == {
        f"{PROGRAM} db upgrade"
    }


def test_a_database_that_is_not_ready_is_one_problem(app: App) -> None:
    """If the database does not exist yet or its schema is old, `status` says so once and gives the command to type.

    `status` does not create the database, even if there are dead letters to explain. Once the command has been run,
    `status` knows the state of every part.
    """
    app.queues()["visit"].dlq.send("dead")
    with closing(sqlite3.connect(app.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    is_one_problem(app, "is not current")

    app.use_database("missing")
    is_one_problem(app, "there is no database yet at sqlite:///")
    assert not app.database.exists()
    app.run_ok("db", "upgrade")
    assert app.run("status", "--json").json()["databaseUnknown"] is None
    assert "DATABASE" not in app.run("status").out


def test_age_of_the_oldest_message_comes_from_cloudwatch(app: App, sandbox: Sandbox) -> None:
    """With AWS, `status` reads the age of the oldest message of each queue from CloudWatch.

    A queue whose oldest message is too old needs a person. If no ages can be read, `status` says why.
    """
    app.drain("visit")
    app.main_queue("visit").send("waits")
    app.queues()["visit"].dlq.send("dead")
    cloudwatch = Aws(load_settings(sandbox.environment())).client("cloudwatch")
    for name, seconds in (("queue", 7200.0), ("dlq", 9000.0)):
        dimensions = [{"Name": "QueueName", "Value": f"hmpps_prisoner_to_nomis_visit_{name}"}]
        figure = {"MetricName": "ApproximateAgeOfOldestMessage", "Dimensions": dimensions, "Value": seconds}
        cloudwatch.put_metric_data(
            Namespace="AWS/SQS", MetricData=[{**figure, "Timestamp": now() - timedelta(minutes=2)}]
        )
    on_aws = {"HMPPS_SQS_PROVIDER": "aws", "AWS_ENDPOINT_URL": app.settings["HMPPS_SQS_LOCALSTACK_URL"]}
    shown = app.run("status", "--json", **on_aws).json()
    (visit,) = [line for line in shown["queues"] if line["name"] == "visit"]
    assert (visit["oldestSeconds"], visit["oldestDeadSeconds"], shown["agesUnknown"]) == (7200, 9000, None)
    assert visit["needs"][0]["reason"] == "the oldest message has waited for 2 h"
    local = app.run("status", "--json").json()
    assert "which a local endpoint does not have" in local["agesUnknown"]
    refused = app.run("status", "--json", AWS_ENDPOINT_URL_CLOUDWATCH="http://127.0.0.1:1", **on_aws).json()
    assert refused["agesUnknown"] == "CloudWatch: GetMetricData: EndpointConnectionError"


def test_a_drain_that_gave_up_needs_a_person_until_one_succeeds(app: App) -> None:
    """If no scheduler is running and the last `drain` failed, `status` gives the command that shows the failed run.

    After a drain that succeeds, nothing needs a person.
    """
    app.drain("visit")
    assert app.run("drain", "visit", HMPPS_SQS_LOCALSTACK_URL="http://127.0.0.1:1").code == 1
    with open_application_of(app) as application:
        [failed] = application.job_runs.recent(1, "drain")
    shown = app.run("status", "--json").json()
    assert shown["needsPerson"]
    [line] = shown["schedulers"]
    assert line["lastDrainFailed"] == failed.id
    [need] = line["needs"]
    assert need["command"] == f"prisoner-to-nomis runs show {failed.id}"
    assert need["reason"].startswith("the last drain failed: visit: ")
    app.drain("visit")
    assert needs(app.run("status", "--json").json(), "schedulers", "none") == []


def test_each_scheduler_is_shown_with_its_heartbeat(app: App) -> None:
    """`status` shows the last batch of each scheduler.

    It marks a scheduler that fails, hangs or has had no heartbeat for too long.
    """
    moment = now()
    with open_application_of(app) as application, application.job_runs.run("scheduler", {}) as run:

        def beat(seconds: int, **more: object) -> list[str]:
            heartbeat = (moment - timedelta(seconds=seconds)).isoformat()
            batch = {"queue": "visit", "received": 3, "endedAt": heartbeat}
            application.job_runs.record_heartbeat(run.id, {"heartbeatAt": heartbeat, "lastBatch": batch, **more})
            (line,) = app.run("status", "--json").json()["schedulers"]
            assert line["lastBatch"]["received"] == 3
            return [need["reason"] for need in line["needs"]]

        assert beat(5) == []
        assert "  3 of visit, " in app.run("status").out
        assert beat(5, failing={"outbox": "slack: status 503"}) == ["outbox fails: slack: status 503"]
        assert beat(5, hanging=["visit"]) == ["the drain of visit hangs: restart the scheduler"]
        assert beat(600) == ["no heartbeat for 10 min: see the scheduler's log, or restart the scheduler"]
