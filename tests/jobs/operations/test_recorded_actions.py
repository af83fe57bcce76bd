"""What people do is recorded before it is done: whatever ends the command in the middle, the record tells of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox.forked_command import ForkedCommand
from sandbox.postgres import PostgresServer
from sync.store.actions import NOT_KNOWN, UNDER_WAY
from tests.harness.faults import Hold, faulty, held
from tests.harness.operating import Operator, Terminal, operator
from tests.harness.processes import start_command
from tests.harness.publishing import appointment_created, visit_booked

__all__ = ["operator"]

Prepare = Callable[[Operator], list[str]]


def repair(operator: Operator) -> list[str]:
    """A level of DPS that is written to NOMIS again."""
    return ["incentives", "repair", differing(operator, 2)]


def received(operator: Operator) -> list[str]:
    """A received event that is published again."""
    return ["reconcile", "fix", "received", differing(operator, 4)]


def delete_allocation(_: Operator) -> list[str]:
    """A row of NOMIS that is deleted by its number."""
    return ["activities", "delete-allocation", "99", "--unchecked"]


def delete_all(operator: Operator) -> list[str]:
    """Every appointment deleted, of which there is one."""
    operator.settings |= {"FEATURE_EVENT_DELETEALL": "true", "ENVIRONMENT_NAME": "dev"}
    appointment_created(operator.sandbox).publish()
    operator.drain("appointment")
    return ["appointments", "delete-all"]


def settle(operator: Operator) -> list[str]:
    """A visit whose answer was lost, mapped to the NOMIS record that a person found."""
    visit_booked(operator.sandbox).publish()
    with faulty(operator.sandbox, "nomis", "POST", kind="reset_after_write", times=1):
        operator.drain("visit")
    (creation,) = operator.reads("creations", "list")
    (visit,) = operator.sandbox.nomis("visit")
    return ["creations", "settle", str(creation["id"]), "--nomis-id", str(visit["id"])]


def resolve(operator: Operator) -> list[str]:
    """An appointment that NOMIS has twice, of which the surplus one is deleted."""
    told = appointment_created(operator.sandbox)
    told.publish()
    operator.drain("appointment")
    operator.use_database("second")
    told.publish()
    path = "/mapping/appointments/appointment-instance-id/"
    body = {"status": 404, "userMessage": "Not found"}
    with faulty(operator.sandbox, "mapping", "GET", path, kind="status", status=404, body=body, times=1):
        assert operator.drain("appointment")["duplicate"] == 1
    (finding,) = operator.reads("duplicates", "list")
    return ["duplicates", "resolve", str(finding["id"])]


#: How each command is brought to its call, and that call.
WRITES: dict[Prepare, tuple[str, str, str]] = {
    repair: ("nomis", "POST", "/prisoners/booking-id/{id}/incentives"),
    received: ("prisoner-search", "PUT", "/events/prisoner/received/{id}"),
    delete_allocation: ("nomis", "DELETE", "/allocations/{id}"),
    delete_all: ("nomis", "DELETE", "/appointments/{id}"),
    settle: ("mapping", "POST", "/mapping/visits"),
    resolve: ("nomis", "DELETE", "/appointments/{id}"),
}
#: Those that make one call, and end with it.
SINGLE = [repair, received, delete_allocation, settle, resolve]


def differing(operator: Operator, cause: int) -> str:
    """A world in which one prisoner differs for this cause; the prisoner's number."""
    operator.sandbox.reset(prisoners=40, mismatches={str(cause): 1})
    operator.forget_queues()
    operator.make_queues()
    (mismatch,) = operator.sandbox.planted()["mismatches"]
    return str(mismatch["offenderNo"])


@contextmanager
def stopped_at_its_call(
    operator: Operator, call: tuple[str, str, str], arguments: list[str], kind: str = "timeout_after_write"
) -> Iterator[tuple[ForkedCommand, Hold]]:
    """A process of the command whose request the service has, and has not answered."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | operator.settings
    with held(operator.sandbox, *call, kind=kind) as hold:
        log = operator.folder / "log"
        command = start_command([*arguments, "--yes", "--as", "jane"], environment, operator.folder, err=log)
        try:
            hold.wait_for_request()
            yield command, hold
        finally:
            command.kill()


def states(operator: Operator) -> list[tuple[str, str]]:
    """State and outcome of the actions, newest first."""
    return [(each["state"], each["outcome"]) for each in operator.reads("actions")]


@pytest.mark.parametrize("prepare", WRITES, ids=lambda each: each.__name__)
def test_a_killed_command_leaves_its_action(operator: Operator, prepare: Prepare) -> None:
    """While it is at work that is said; killed, it is not known how it ended; nothing of it counts as done."""
    with stopped_at_its_call(operator, WRITES[prepare], prepare(operator)) as (command, _):
        assert states(operator) == [("started", UNDER_WAY)]
        command.kill()
        assert states(operator) == [("started", NOT_KNOWN)]
    assert "jane" in operator.does("actions")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("prepare", WRITES, ids=lambda each: each.__name__)
def test_a_signal_leaves_an_unknown_outcome(operator: Operator, prepare: Prepare, number: signal.Signals) -> None:
    """It ends at once with exit code 1 and one line, and the action says that it may have been done."""
    with stopped_at_its_call(operator, WRITES[prepare], prepare(operator)) as (command, _):
        command.send_signal(number)
        assert command.wait() == 1
    ((state, outcome),) = states(operator)
    assert (state, outcome) == ("unknown", "unknown: stopped in the middle, so it may have been done")
    assert "see `prisoner-to-nomis actions`" in (operator.folder / "log").read_text()


@pytest.mark.parametrize("prepare", SINGLE, ids=lambda each: each.__name__)
def test_two_operators_at_once_write_once(operator: Operator, prepare: Prepare) -> None:
    """While one's request is with the service, the other's command is refused, and sends nothing."""
    arguments = prepare(operator)
    with stopped_at_its_call(operator, WRITES[prepare], arguments, kind="delay") as (command, hold):
        second = operator.run(*arguments, "--yes", "--as", "joe")
        hold.release()
        assert command.wait() == 0
    assert second.code == 1
    assert [(each["who"], each["state"]) for each in operator.reads("actions")] == [("jane", "done")]


@pytest.mark.parametrize("prepare", SINGLE, ids=lambda each: each.__name__)
def test_a_lost_answer_is_unknown_and_a_refusal_is_refused(operator: Operator, prepare: Prepare) -> None:
    """An answer that never came is no failure; one that refuses is the service's word."""
    arguments = [*prepare(operator), "--yes", "--as", "jane"]
    service, method, path = WRITES[prepare]
    with faulty(operator.sandbox, service, method, path, kind="status", status=400):
        assert operator.run(*arguments).code == 1
    with faulty(operator.sandbox, service, method, path, kind="reset_after_write"):
        assert operator.run(*arguments).code == 1
    assert [state for state, _ in states(operator)] == ["unknown", "refused"]


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ({"status": 500, "body": {"status": 500, "userMessage": "Could not commit JPA transaction"}}, "unknown"),
        ({"status": 502, "text": "<html>bad gateway</html>"}, "unknown"),
        ({"status": 400, "text": "<html>bad request</html>"}, "unknown"),
        ({"status": 400, "body": {"status": 400, "userMessage": "no such prison"}}, "refused"),
        ({"status": 403, "body": {"status": 403, "userMessage": "Forbidden"}}, "refused"),
        ({"status": 503, "body": {"status": 503, "userMessage": "Service unavailable"}}, "unknown"),
    ],
    ids=["commit failed", "gateway", "gateway refuses", "refused", "no role", "unavailable"],
)
def test_only_the_word_of_the_service_is_a_refusal(operator: Operator, fault: dict[str, Any], state: str) -> None:
    """Whatever else answers a write, the write may have been done."""
    arguments = [*received(operator), "--yes", "--as", "jane"]
    with faulty(operator.sandbox, *WRITES[received], kind="status_after_write", **fault):
        assert operator.run(*arguments).code == 1
    assert [each for each, _ in states(operator)] == [state]


def test_nothing_is_sent_that_cannot_be_recorded(operator: Operator, own_postgres: PostgresServer) -> None:
    """The database goes away while one thinks: the command fails, and NOMIS is not asked to change anything."""
    arguments = [*repair(operator), "--as", "jane"]
    done = operator.run(*arguments, answer=Terminal("y\n", before=own_postgres.stop))
    assert (done.code, operator.sandbox.journal("nomis")) == (1, [])


def test_a_database_that_goes_away_at_the_call_leaves_the_action_started(
    operator: Operator, own_postgres: PostgresServer
) -> None:
    """What was done could not be recorded, which the operator is told; the record says that it was begun."""
    with stopped_at_its_call(operator, WRITES[received], received(operator)) as (command, hold):
        own_postgres.stop()
        hold.release()
        assert command.wait() == 1
        own_postgres.start()
        assert states(operator) == [("started", NOT_KNOWN)]
    assert "could not be recorded" in (operator.folder / "log").read_text()


@pytest.fixture
def own_postgres(operator: Operator) -> Iterator[PostgresServer]:
    """A PostgreSQL server that the operator's commands use, and that the test may stop."""
    server = PostgresServer()
    try:
        server.start()
        operator.settings["DATABASE_URL"] = server.url.render_as_string()
        operator.does("db", "upgrade")
        yield server
    finally:
        server.close()
