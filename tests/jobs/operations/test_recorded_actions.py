"""An operator's action is recorded before it happens, so an interrupted command leaves a record."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.forked_command import ForkedCommand
from sandbox.postgres import PostgresServer
from sync.store.actions import NOT_KNOWN, UNDER_WAY
from tests.harness.app import App, differing
from tests.harness.commands import Terminal
from tests.harness.faults import Hold, faulty, held
from tests.harness.processes import start_command
from tests.harness.publishing import appointment_created, visit_booked

Prepare = Callable[[App], list[str]]


def repair(app: App) -> list[str]:
    """The arguments of a repair, which writes a prisoner's DPS level to NOMIS."""
    return ["incentives", "repair", differing(app, 2)]


def received(app: App) -> list[str]:
    """The arguments to publish a received event."""
    return ["reconcile", "fix", "received", differing(app, 4)]


def delete_allocation(_: App) -> list[str]:
    """The arguments to delete a NOMIS row by its number."""
    return ["activities", "delete-allocation", "99", "--unchecked"]


def delete_all(app: App) -> list[str]:
    """Creates one appointment in NOMIS. Returns the arguments to delete all appointments."""
    app.settings |= {"FEATURE_EVENT_DELETEALL": "true", "ENVIRONMENT_NAME": "dev"}
    appointment_created(app.sandbox).publish()
    app.drain("appointment")
    return ["appointments", "delete-all"]


def settle(app: App) -> list[str]:
    """The arguments to settle a creation whose response was lost, with the number of the visit that NOMIS created."""
    visit_booked(app.sandbox).publish()
    with faulty(app.sandbox, "nomis", "POST", kind="reset_after_write", times=1):
        app.drain("visit")
    (creation,) = app.read_json("creations", "list")
    (visit,) = app.sandbox.nomis("visit")
    return ["creations", "settle", str(creation["id"]), "--nomis-id", str(visit["id"])]


def resolve(app: App) -> list[str]:
    """The arguments to resolve a finding about a duplicate appointment by deleting the duplicate."""
    event = appointment_created(app.sandbox)
    event.publish()
    app.drain("appointment")
    app.use_new_database("second")
    event.publish()
    path = "/mapping/appointments/appointment-instance-id/"
    body = {"status": 404, "userMessage": "Not found"}
    with faulty(app.sandbox, "mapping", "GET", path, kind="status", status=404, body=body, times=1):
        assert app.drain("appointment")["duplicate"] == 1
    (finding,) = app.read_json("duplicates", "list")
    return ["duplicates", "resolve", str(finding["id"])]


#: The set-up of each command, with the call (service, method, path) by which the command changes another system.
WRITES: dict[Prepare, tuple[str, str, str]] = {
    repair: ("nomis", "POST", "/prisoners/booking-id/{id}/incentives"),
    received: ("prisoner-search", "PUT", "/events/prisoner/received/{id}"),
    delete_allocation: ("nomis", "DELETE", "/allocations/{id}"),
    delete_all: ("nomis", "DELETE", "/appointments/{id}"),
    settle: ("mapping", "POST", "/mapping/visits"),
    resolve: ("nomis", "DELETE", "/appointments/{id}"),
}
#: The set-ups of the commands that end after a single such call.
SINGLE = [repair, received, delete_allocation, settle, resolve]


@contextmanager
def stopped_at_its_call(
    app: App, call: tuple[str, str, str], arguments: list[str], kind: str = "timeout_after_write"
) -> Iterator[tuple[ForkedCommand, Hold]]:
    """Runs a command in a separate process, which waits for the response to `call` during the `with` block.

    kind: `delay` keeps the request from the service, and `timeout_after_write` holds back the response.
    """
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | app.settings
    with held(app.sandbox, *call, kind=kind) as hold:
        log = app.folder / "log"
        command = start_command([*arguments, "--yes", "--as", "jane"], environment, app.folder, err=log)
        try:
            hold.wait_for_request()
            yield command, hold
        finally:
            command.kill()


def states(app: App) -> list[tuple[str, str]]:
    """The state and outcome of each action, newest first."""
    return [(each["state"], each["outcome"]) for each in app.read_json("actions")]


@pytest.mark.parametrize("prepare", WRITES, ids=lambda each: each.__name__)
def test_a_killed_command_leaves_an_unknown_outcome(app: App, prepare: Prepare) -> None:
    """While a command calls another system, its action is recorded as started.

    If the process is then killed, the action stays recorded as started, and its outcome is not known.
    """
    with stopped_at_its_call(app, WRITES[prepare], prepare(app)) as (command, _):
        assert states(app) == [("started", UNDER_WAY)]
        command.kill()
        assert states(app) == [("started", NOT_KNOWN)]
    assert "jane" in app.run_ok("actions")


# Both signals have the same handler, so SIGTERM is tried with only one command.
@pytest.mark.parametrize(
    ("prepare", "number"),
    [*((prepare, signal.SIGINT) for prepare in WRITES), (repair, signal.SIGTERM)],
    ids=lambda each: each.name if isinstance(each, signal.Signals) else each.__name__,
)
def test_a_signal_leaves_an_unknown_outcome(app: App, prepare: Prepare, number: signal.Signals) -> None:
    """If a signal stops a command during its call to another system, the command exits with 1.

    Its error refers to the command `actions`, which shows the outcome as unknown.
    """
    with stopped_at_its_call(app, WRITES[prepare], prepare(app)) as (command, _):
        command.send_signal(number)
        assert command.wait() == 1
    ((state, outcome),) = states(app)
    assert (state, outcome) == ("unknown", "unknown: stopped midway, so it may have been done")
    assert "see `prisoner-to-nomis actions`" in (app.folder / "log").read_text()


@pytest.mark.parametrize("prepare", SINGLE, ids=lambda each: each.__name__)
def test_concurrent_commands_write_once(app: App, prepare: Prepare) -> None:
    """While a service handles one operator's request, the same command from another operator is refused.

    The service gets one request, and only the first operator's action is recorded.
    """
    arguments = prepare(app)
    service = WRITES[prepare][0]
    before = len(app.sandbox.journal(service))
    with stopped_at_its_call(app, WRITES[prepare], arguments, kind="delay") as (command, hold):
        second = app.run(*arguments, "--yes", "--as", "joe")
        hold.release()
        assert command.wait() == 0
    assert second.code == 1
    assert len(app.sandbox.journal(service)) == before + 1
    assert [(each["who"], each["state"]) for each in app.read_json("actions")] == [("jane", "done")]


@pytest.mark.parametrize("prepare", SINGLE, ids=lambda each: each.__name__)
def test_a_lost_response_is_recorded_as_unknown_and_a_refusal_as_refused(app: App, prepare: Prepare) -> None:
    """An action whose request gets no response is recorded as unknown.

    An action whose request the service refuses is recorded as refused.
    """
    arguments = [*prepare(app), "--yes", "--as", "jane"]
    service, method, path = WRITES[prepare]
    with faulty(app.sandbox, service, method, path, kind="status", status=400):
        assert app.run(*arguments).code == 1
    with faulty(app.sandbox, service, method, path, kind="reset_after_write"):
        lost = app.run(*arguments)
    assert lost.code == 1
    assert [state for state, _ in states(app)] == ["unknown", "refused"], lost.err


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
def test_only_the_service_can_refuse_a_write(app: App, fault: dict[str, Any], state: str) -> None:
    """A write counts as refused only if the service itself refuses it.

    After any other error, the outcome is unknown.
    """
    arguments = [*received(app), "--yes", "--as", "jane"]
    with faulty(app.sandbox, *WRITES[received], kind="status_after_write", **fault):
        assert app.run(*arguments).code == 1
    assert [each for each, _ in states(app)] == [state]


def test_an_action_that_cannot_be_recorded_is_not_sent(app: App, own_postgres: PostgresServer) -> None:
    """If the database fails before an action is confirmed, the command fails and changes nothing in NOMIS."""
    arguments = [*repair(app), "--as", "jane"]
    done = app.run(*arguments, answer=Terminal("y\n", before=own_postgres.stop))
    assert (done.code, app.sandbox.journal("nomis")) == (1, [])


def test_a_database_that_fails_during_the_call_leaves_the_action_started(
    app: App, own_postgres: PostgresServer
) -> None:
    """If the database fails while a command calls another system, the action stays recorded as started.

    The command says that the outcome could not be recorded.
    """
    with stopped_at_its_call(app, WRITES[received], received(app)) as (command, hold):
        own_postgres.stop()
        hold.release()
        assert command.wait() == 1
        own_postgres.start()
        assert states(app) == [("started", NOT_KNOWN)]
    assert "could not be recorded" in (app.folder / "log").read_text()


@pytest.fixture
def own_postgres(app: App) -> Iterator[PostgresServer]:
    """A PostgreSQL server that the commands of the test use and that the test may stop."""
    server = PostgresServer()
    try:
        server.start()
        app.settings["DATABASE_URL"] = server.url.render_as_string()
        app.run_ok("db", "upgrade")
        yield server
    finally:
        server.close()
