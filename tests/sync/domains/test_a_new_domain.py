"""The example in the architecture page's section about adding a domain works unchanged.

It touches only the files that the section names.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox import Sandbox
from sync.domains.registry import DOMAINS
from sync.store.database import Database
from sync.store.telemetry import read_events
from tests.harness.app import QUICK
from tests.harness.examples import ROOT, add_example, touched
from tests.harness.http_servers import served

PACKAGE = Path("sync/domains/certificates")
#: The files outside the domain's package that have to name it: the registry and the settings.
TOUCHED = {
    Path("sync/domains/registry.py"),
    Path("sync/settings/upstreams.py"),
    Path("sync/settings/queues.py"),
}


SUFFIXES = {".py", ".md", ".yaml", ".env", ".j2", ".js"}
#: Drains the new queue once for each line that it reads.
DRAINS = """
import sys
from jobs.cli.app import app
for _ in sys.stdin:
    app(["drain", "certificate", "--json"], standalone_mode=False)
    print(flush=True)
"""


class Program:
    """A copy of the program with the example from the section about adding a domain."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment
        self._drains: subprocess.Popen[str] | None = None

    def start(self, code: str) -> subprocess.Popen[str]:
        """Starts a Python process that runs `code` in the folder of the copy."""
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(self.folder), **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def python(self, code: str) -> str:
        """Runs `code` in the folder of the copy, and returns its output. The code must succeed."""
        process = self.start(code)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        return printed

    def drain(self) -> Any:
        """Drains the new queue once, and returns the counts."""
        if self._drains is None:
            self._drains = self.start(DRAINS)
        process = self._drains
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("again\n")
        process.stdin.flush()
        return json.loads("".join(takewhile(lambda line: line != "\n", process.stdout)))

    def close(self) -> None:
        """Ends the process that drains the queue."""
        if self._drains is not None:
            self._drains.communicate(timeout=60)

    def telemetry(self) -> dict[str, dict[str, str]]:
        """The properties of the last telemetry event with each name."""
        database = Database(self._environment["DATABASE_URL"])
        found = {event["name"]: dict(event["properties"]) for event in read_events(database)}
        database.dispose()
        return found


class Services(BaseHTTPRequestHandler):
    """HMPPS Auth, NOMIS, the mapping service and the publisher, as far as the example calls them."""

    protocol_version = "HTTP/1.1"
    #: The records at each path. A POST to a collection adds a record.
    records: dict[str, Any]

    def do_GET(self) -> None:
        """Returns the record at the path, or a 404 in the services' error format."""
        path = urlsplit(self.path).path
        if path in self.records:
            self._respond(200, self.records[path])
        else:
            self._respond(404, {"status": 404, "userMessage": "Not found"})

    def do_POST(self) -> None:
        """Returns a token, creates a certificate in NOMIS, or saves a mapping."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/oauth/token"):
            self._respond(200, {"access_token": "a-token", "expires_in": 3600})
        elif self.path == "/mapping/certificates":
            mapping = json.loads(body)
            self.records[f"{self.path}/certificate-id/{mapping['certificateId']}"] = mapping
            self._respond(201, None)
        else:
            owner = self.path.split("/")[2]
            made = {**json.loads(body), "certificateId": 71, "offenderNo": owner, "created": "2023-06-01T10:00:00"}
            self.records["/certificates/71"] = made
            self._respond(201, made)

    def do_PUT(self) -> None:
        """Changes a certificate in NOMIS."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.records[self.path] |= body
        self._respond(200, None)

    def log_message(self, *_: object) -> None:
        """Does nothing."""

    def _respond(self, status: int, body: object) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def services() -> Iterator[str]:
    """The address at which `Services` is served. The publisher has one certificate."""
    Services.records = {"/certificates/c-1": {"id": "c-1", "title": "Bricklaying", "awardedOn": "2023-05-22"}}
    with served(Services) as address:
        yield address


@pytest.fixture
def program(sandbox: Sandbox, services: str, tmp_path: Path) -> Iterator[Program]:
    """The program with the example."""
    add_example("Adding a domain", tmp_path)
    names = ("OAUTH", "NOMIS", "MAPPING", "CERTIFICATES")
    environment = {
        **sandbox.environment(),
        **QUICK,
        **{f"API_BASE_URL_{name}": services for name in names},
        "CERTIFICATES_CLIENT_ID": "certificates",
        "CERTIFICATES_CLIENT_SECRET": "secret",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'app.db'}",
    }
    made = Program(tmp_path, environment)
    yield made
    made.close()


def test_only_the_registry_and_the_settings_name_a_domain(program: Program) -> None:
    """Outside its own package, a new domain changes only the registry and the settings."""
    changed = touched(program.folder)
    assert {path for path in changed if path.parent != PACKAGE} == TOUCHED
    assert {path.name for path in changed if path.parent == PACKAGE} == {
        "__init__.py",
        "dps.py",
        "nomis.py",
        "repair.py",
        "rules.py",
    }


#: The ways in which a file may name a domain that it has an entry for.
NAMES = (
    lambda domain: rf"[\"'`]{domain.queue}[\"'`]",
    lambda domain: rf"[\"'`]{domain.name}[\"'`]",
    lambda domain: rf"^    {domain.name},$|self\.{domain.name}\b",
    lambda domain: rf"_{domain.publisher.name}\b|\b{domain.publisher.name}_|\b{domain.publisher.name} =",
    lambda domain: rf"UpstreamName\.{domain.publisher.name}\b",
    lambda domain: re.escape(domain.creation.event_type),
)


def names_each_domain(path: Path) -> bool:
    """Whether a file names all domains in one of the ways in `NAMES`."""
    text = path.read_text(encoding="utf-8")
    return any(all(re.search(name(each), text, re.MULTILINE) for each in DOMAINS.values()) for name in NAMES)


def test_the_page_lists_every_file_with_an_entry_for_each_domain() -> None:
    """Each file that names all domains is listed in `doc/architecture.md`, so a new domain changes no other file."""
    table = (ROOT / "doc" / "architecture.md").read_text(encoding="utf-8")
    table = table.partition("| part | files with an entry for each domain |")[2].partition("\n\n")[0]
    listed = {path for pattern in re.findall(r"`([^`]+)`", table) for path in ROOT.glob(pattern)}
    assert all(any(ROOT.glob(pattern)) for pattern in re.findall(r"`([^`]+)`", table))
    folders = ("jobs", "reports", "sync", "sandbox", "templates", "cronjobs", "benchmarks", "doc", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    found = {path for path in (*files, ROOT / "compose.yaml") if names_each_domain(path)}
    assert {path.relative_to(ROOT) for path in listed} >= TOUCHED
    assert {str(path.relative_to(ROOT)) for path in found - listed} == set()


def test_the_name_of_a_domain_is_free() -> None:
    """No domain shares its name with a folder of `sync` or a module of `sync/domains`, so no two imports look alike."""
    taken = {path.stem for path in (*(ROOT / "sync").iterdir(), *(ROOT / "sync" / "domains").glob("*.py"))}
    assert not taken & DOMAINS.keys()


def test_both_events_reach_nomis(program: Program, sandbox: Sandbox) -> None:
    """The example's two events are drained, written to NOMIS and tracked. The new certificate is mapped."""
    program.drain()
    event = {"certificateId": "c-1"}
    sandbox.publish("certificates.certificate.awarded", dict(event), "A1234BC")
    assert program.drain()["applied"] == 1
    assert Services.records["/certificates/71"]["title"] == "Bricklaying"
    assert Services.records["/mapping/certificates/certificate-id/c-1"]["nomisCertificateId"] == 71

    Services.records["/certificates/c-1"]["title"] = "Plastering"
    sandbox.publish("certificates.certificate.amended", dict(event), "A1234BC")
    assert program.drain()["applied"] == 1
    assert Services.records["/certificates/71"]["title"] == "Plastering"
    telemetry = program.telemetry()
    assert telemetry["certificate-create-success"]["nomisCertificateId"] == "71"
    properties = {"certificateId": "c-1", "offenderNo": "A1234BC", "nomisCertificateId": "71"}
    assert telemetry["certificate-amend-success"] == properties


def test_texts_and_documents_include_the_new_domain(program: Program) -> None:
    """The event table, settings, roles and alert titles include the new domain without further changes."""
    code = """
        from jobs.cli.reference import settings_page
        from reports.presentation.alerts import alert_title
        from sync.domains.event_table import event_table
        from sync.domains.registry import required_roles
        from sync.settings.upstreams import UpstreamName
        print(event_table(), settings_page())
        print(alert_title("to-nomis-synch-certificate-duplicate", "Test"))
        print("NOMIS_CERTIFICATES" in required_roles(UpstreamName.MAPPING))
        print(*required_roles(UpstreamName.CERTIFICATES))
    """
    printed = program.python(textwrap.dedent(code))
    assert "| `certificates.certificate.awarded` | `certificate` |" in printed
    assert "`FEATURE_EVENT_CERTIFICATES_CERTIFICATE_AMENDED`" in printed
    assert "`API_BASE_URL_CERTIFICATES`" in printed
    assert "`CERTIFICATE`" in printed
    assert printed.splitlines()[-3:] == [
        "To NOMIS synchronisation duplicate certificate detected in Test",
        "True",
        "CERTIFICATES_READ",
    ]
