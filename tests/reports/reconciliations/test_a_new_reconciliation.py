"""The documented example of a new reconciliation works as printed, and changes only the files that it names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from sync.store.database import Database
from sync.store.telemetry import read_events
from tests.harness.examples import add_example, touched
from tests.harness.http_servers import served
from tests.harness.processes import started

MODULE = Path("reports/reconciliations/pay_bands.py")
SWITCHES = "/agency-switches/ACTIVITY"


class Services(BaseHTTPRequestHandler):
    """A stand-in for the parts of HMPPS Auth, NOMIS and the activities API that the example calls."""

    protocol_version = "HTTP/1.1"
    #: The response to each path.
    records: ClassVar[dict[str, Any]] = {}
    #: The error for a path without a record.
    missing: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        """Responds with the record at the path, or with 404 and the error in `missing`."""
        path = urlsplit(self.path).path
        if path in self.records:
            self._respond(200, self.records[path])
        else:
            self._respond(404, self.missing)

    def do_POST(self) -> None:
        """Responds with a token."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._respond(200, {"access_token": "a-token", "expires_in": 3600})

    def log_message(self, *_: object) -> None:
        """Does nothing."""

    def _respond(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


#: A script that runs the command in each line of its input, and prints the command's exit code, output and errors. One
#: process runs all commands, because importing the program takes much longer than a command.
COMMANDS = """
import contextlib, io, json, os, sys
from jobs.cli.app import main
for line in sys.stdin:
    command = json.loads(line)
    os.environ.update(command["environment"])
    sys.argv[1:] = command["arguments"]
    code, out, err = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class Program:
    """A copy of the program with the documented example added, and a process that runs the commands of the copy."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}
        self._process = process

    def run(self, *arguments: str) -> tuple[int, Any, str]:
        """Runs a command with `--json`.

        Returns its exit code, the JSON that it printed (None if it printed none), and its stderr.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        command = {"arguments": [*arguments, "--json"], "environment": self.environment}
        self._process.stdin.write(f"{json.dumps(command)}\n")
        self._process.stdin.flush()
        code, printed, errors = json.loads(self._process.stdout.readline())
        return code, json.loads(printed) if printed else None, errors

    def reports(self) -> list[Path]:
        """The paths of all HTML reports."""
        return list(Path(self.environment["REPORTS_LOCATION"]).rglob("report.html"))

    def events(self, name: str) -> list[dict[str, str]]:
        """The properties of each event called `name`."""
        database = Database(self.environment["DATABASE_URL"])
        found = [dict(event["properties"]) for event in read_events(database, name)]
        database.dispose()
        return found


def bands(**by_booking: str) -> dict[str, Any]:
    """A response with the pay band of each booking. The argument for booking 1 is named `b1`."""
    return {"bookings": [{"bookingId": int(booking[1:]), "payBand": band} for booking, band in by_booking.items()]}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A copy of the program with the example added, shared by the tests of this module."""
    folder = tmp_path_factory.mktemp("copy")
    add_example("Adding a reconciliation", folder)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started([sys.executable, "-c", COMMANDS], cwd=folder, env=environment, **streams) as process:
        yield Program(folder, process)


@pytest.fixture
def program(copied: Program, tmp_path: Path) -> Iterator[Program]:
    """The shared copy of the program, with an empty database and stand-ins for services that have two prisons.

    One booking differs at each prison.
    """
    Services.missing = {"status": 404, "userMessage": "Not Found: prison not found"}
    Services.records = {
        SWITCHES: [{"agencyId": "MDI", "name": "MOORLAND"}, {"agencyId": "LEI", "name": "LEEDS"}],
        "/pay-bands/MDI": bands(b1="1", b2="2"),
        "/synchronisation/pay-bands/MDI": bands(b1="1", b2="3"),
        "/pay-bands/LEI": bands(b3="1"),
        "/synchronisation/pay-bands/LEI": bands(),
    }
    names = ("OAUTH", "NOMIS", "ACTIVITIES")
    credentials = {
        f"{name}_CLIENT_{part}": "x" for name in ("SYSTEM", "MAPPING", "ACTIVITIES") for part in ("ID", "SECRET")
    }
    with served(Services) as address:
        copied.environment = {
            **{f"API_BASE_URL_{name}": address for name in names},
            **credentials,
            "DATABASE_URL": f"sqlite:///{tmp_path / 'app.db'}",
            "REPORTS_LOCATION": str(tmp_path / "reports-out"),
            "RECONCILIATION_RECHECK_SECONDS": "0",
            # No queue can be checked, which adds a remark to the report but does not fail the run.
            "HMPPS_SQS_PROVIDER": "localstack",
            "HMPPS_SQS_LOCALSTACK_URL": "http://127.0.0.1:1",
            "LOG_LEVEL": "ERROR",
        }
        yield copied


def test_only_the_registry_names_a_reconciliation(program: Program) -> None:
    """Adding the example reconciliation adds one module and changes only the registry."""
    assert touched(program.folder) == {MODULE, Path("reports/reconciliations/registry.py")}


def test_the_example_runs_from_the_command_to_the_report(program: Program) -> None:
    """`reconcile pay-bands` finds the two differences, tracks an event for each, and makes a report.

    A second run recognises that one difference persists and the other is resolved. `reconcile list` then shows the
    second run.
    """
    code, first, _ = program.run("reconcile", "pay-bands")
    assert code == 0
    assert (first["reconciliation"], first["status"], first["compared"]) == ("pay-bands", "complete", 3)
    by_booking = {each["bookingId"]: each for each in first["mismatches"]}
    assert {booking: each["kind"] for booking, each in by_booking.items()} == {2: "different", 3: "nomis-only"}
    assert by_booking[2]["key"] == {"prisonId": "MDI", "bookingId": 2}
    assert by_booking[2]["differences"] == [{"field": "pay_band", "nomis": "2", "dps": "3"}]
    assert by_booking[2]["diagnosis"]["rightSide"] == "DPS"
    assert len(program.events("pay-bands-mismatch")) == 2
    assert program.reports()

    Services.records["/pay-bands/MDI"] = bands(b1="1", b2="3")
    _, second, _ = program.run("reconcile", "pay-bands")
    assert [(each["bookingId"], each["standing"]) for each in second["mismatches"]] == [(3, "persisting")]
    assert [(each["bookingId"], each["how"]) for each in second["resolved"]] == [(2, "equal")]

    _, listed, _ = program.run("reconcile", "list")
    row = next(each for each in listed if each["name"] == "pay-bands")
    assert (row["lastRun"], row["status"], row["differences"]) == (second["runId"], "complete", 1)
    assert row["schedule"] == "15 6 * * * (Europe/London)"


def test_only_the_chosen_prison_is_compared(program: Program) -> None:
    """`--prison` restricts a run to one prison. `--prisoner` is refused, since a run compares whole prisons."""
    code, found, _ = program.run("reconcile", "pay-bands", "--prison", "LEI")
    assert (code, found["compared"], [each["bookingId"] for each in found["mismatches"]]) == (0, 1, [3])
    code, found, error = program.run("reconcile", "pay-bands", "--prisoner", "A1234BC")
    assert (code, found) == (2, None)
    assert "choose with --prison, not with --prisoner" in error


def test_a_prison_that_cannot_be_read_makes_the_run_incomplete(program: Program) -> None:
    """If one of two prisons cannot be read, the other is compared, and the run is incomplete.

    The command exits with 1, and an error event names the unread prison.
    """
    del Services.records["/synchronisation/pay-bands/MDI"]
    code, found, error = program.run("reconcile", "pay-bands")
    assert (code, found["status"], found["compared"]) == (1, "incomplete", 1)
    assert [each["unit"] for each in found["unread"]] == ["MDI"]
    assert "is incomplete" in error
    assert program.events("pay-bands-error") == [{"prisonId": "MDI"}]


def test_a_booking_that_is_listed_twice_makes_its_prison_unread(program: Program) -> None:
    """If a list has a booking twice, its prison is unread, since it is unclear which of the two entries is right.

    The run is incomplete and gives the reason.
    """
    twice = bands(b1="1", b2="2")["bookings"] + bands(b2="3")["bookings"]
    Services.records["/pay-bands/MDI"] = {"bookings": twice}
    code, found, _ = program.run("reconcile", "pay-bands")
    assert (code, found["status"], found["compared"]) == (1, "incomplete", 1)
    assert [(each["unit"], each["reason"]) for each in found["unread"]] == [
        ("MDI", "NOMIS has several records with prison_id MDI, booking_id 2")
    ]


def test_a_service_without_the_route_fails_the_run(program: Program) -> None:
    """If a service is too old to have the route, the run fails, and the error names the route."""
    Services.missing = {"status": 404, "userMessage": "No resource found: No static resource pay-bands/MDI."}
    del Services.records["/pay-bands/MDI"]
    code, found, error = program.run("reconcile", "pay-bands")
    assert (code, found["status"]) == (1, "failed")
    assert "nomis has no GET /pay-bands/MDI: it is too old for this reconciliation" in error
