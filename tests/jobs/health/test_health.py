"""The health pages while all parts work, while a part is unavailable, and while a drain hangs."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import URL

from jobs.health.page import CACHE_SECONDS, HealthPage, HealthResponse, HealthServer, Liveness, health_pages
from jobs.health.probes import Probe, ProbeResult, list_probes
from jobs.runtime.application import Application
from jobs.runtime.metrics import Metrics, breaker_metrics, run_metrics
from sandbox import Sandbox
from sync.errors import UpstreamError
from sync.events.context import Outcome
from sync.settings.loading import SettingsError
from sync.settings.queues import QUEUES
from sync.settings.upstreams import UpstreamName
from sync.store.database import Database
from sync.upstream.services import Services
from tests.harness.app import App, open_application
from tests.harness.databases import drop_database, make_database
from tests.harness.faults import faulty, held
from tests.harness.waiting import in_thread, result_of, until

OK = ProbeResult(True, "fine")
INFO = {"build": {"name": "prisoner-to-nomis"}}


def page(probes: Mapping[str, Callable[[], ProbeResult]] | None = None, **options: Any) -> HealthPage:
    """The health page with these probes; by default, it has a single probe, which succeeds."""
    return HealthPage([Probe(name, ask, name) for name, ask in (probes or {"part": lambda: OK}).items()], **options)


def liveness(progress: Mapping[str, float] | None = None) -> Liveness:
    """A liveness check of a program that is ready. A drain counts as hanging after a minute without progress."""
    return Liveness(lambda: True, lambda: progress or {}, 60)


@contextmanager
def serving(metrics: Callable[[], bytes] = bytes) -> Iterator[str]:
    """Serves the pages on a free port during the `with` block, and yields their address."""
    with HealthServer("127.0.0.1", 0, health_pages(page(), liveness(), INFO), metrics) as server:
        yield f"http://127.0.0.1:{server.port}"


def get(address: str) -> requests.Response:
    """Requests a page, and returns the response."""
    return requests.get(address, timeout=10)


def test_each_page_has_its_content_type() -> None:
    """The metrics page is plain text, and every other page is JSON. A path without a page gives 404.

    The response to a HEAD request has the headers of the page, but no content.
    """
    up = {"status": "UP"}
    with serving(lambda: b"figure 1\n") as address:
        for path, status, body in (
            ("/health", 200, {**up, "components": {"part": up}}),
            ("/health/liveness", 200, up),
            ("/health/readiness/", 200, up),
            ("/health/ping?x=1", 200, up),
            ("/info", 200, INFO),
            ("/etc/passwd", 404, {"status": 404, "userMessage": "there is no such page"}),
        ):
            response = get(f"{address}{path}")
            assert (response.status_code, response.json()) == (status, body)
            assert response.headers["Content-Type"] == "application/json"
        metrics = get(f"{address}/metrics")
        assert (metrics.text, metrics.headers["Content-Type"]) == (
            "figure 1\n",
            "text/plain; version=0.0.4; charset=utf-8",
        )
        headers, _, content = raw_response(address, "HEAD /health").partition("\r\n\r\n")
        assert headers.startswith("HTTP/1.1 200 ")
        assert "\r\nContent-Type: application/json" in headers
        assert content == ""


def raw_response(address: str, request_line: str) -> str:
    """Everything that the server sends in response to a request before it closes the connection.

    An HTTP client would not show content that follows the headers of a response to HEAD.
    """
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection, connection.makefile("rb") as received:
        connection.sendall(f"{request_line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return received.read().decode()


def test_a_part_whose_check_fails_or_hangs_is_down() -> None:
    """If the check of a part raises an error or never returns, the health page shows the part as down.

    The page still responds in time.
    """
    hanging = threading.Event()

    def breaks() -> ProbeResult:
        raise UpstreamError("nomis", "GET", "/health", status=503, message="away")

    def hangs() -> ProbeResult:
        hanging.wait()
        return OK

    moments = iter(range(0, 1000, 10))
    shown = page(
        {"good": lambda: OK, "bad": breaks, "slow": hangs}, deadline_seconds=0.2, monotonic=lambda: next(moments)
    )

    def others_responded() -> HealthResponse | None:
        # On a slow machine, the other checks may also be too late.
        response = shown.overall()
        late = [name for name, part in response.body["components"].items() if "no response" in str(part)]
        return response if late == ["slow"] else None

    response = until(others_responded)
    hanging.set()
    assert response.status == 503
    assert response.body == {
        "status": "DOWN",
        "components": {
            "good": {"status": "UP"},
            "bad": {"status": "DOWN", "details": {"error": "nomis: GET /health: status 503: away"}},
            "slow": {"status": "DOWN", "details": {"error": "no response within 0.2 s"}},
        },
    }


def test_an_unexpected_error_shows_no_text() -> None:
    """The health page shows only the type and place of an unexpected error, since its text may contain a secret."""

    def breaks() -> ProbeResult:
        raise RuntimeError("the password is 12345")

    details = page({"bad": breaks}).overall().body["components"]["bad"]["details"]
    assert details["error"].startswith("RuntimeError at ")
    assert "password" not in str(details)


def test_results_are_shared_for_two_seconds() -> None:
    """Requests for the health page within two seconds share one round of probes. A later request starts the next."""
    asked = 0
    moment = 0.0

    def counts() -> ProbeResult:
        nonlocal asked
        asked += 1
        return OK

    shown = page({"part": counts}, monotonic=lambda: moment)
    for _ in range(5):
        shown.overall()
    assert asked == 1
    moment += CACHE_SECONDS
    shown.overall()
    assert asked == 2


def test_probes_of_one_component_are_shown_together() -> None:
    """A component of the health page is up only if all its probes succeed, and has the details from each of them.

    A probe without a component is left out.
    """

    def probe(name: str, component: str | None, ok: bool) -> Probe:
        return Probe(name, lambda: ProbeResult(ok, "", {name: 1}), component)

    parts = [probe("queue", "both", True), probe("dlq", "both", False), probe("email", None, False)]
    assert HealthPage(parts).overall().body == {
        "status": "DOWN",
        "components": {"both": {"status": "DOWN", "details": {"queue": 1, "dlq": 1}}},
    }


def test_liveness_fails_only_for_a_drain_that_hangs() -> None:
    """The liveness check fails only if a drain hangs, and it names that drain."""
    assert liveness({"visit": 59.0}).alive().status == 200
    response = liveness({"visit": 61.0, "activity": 1.0}).alive()
    assert (response.status, list(response.body["components"])) == (503, ["visit-drain"])


def test_port_that_is_taken_is_named() -> None:
    """If the port of the health pages is already in use, the error names the port and its setting."""
    with serving() as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(SettingsError, match=f"HEALTH_PORT: 127.0.0.1:{port} is not available"):
            HealthServer("127.0.0.1", port, {}, bytes)


def open_application_of(app: App, **more: str) -> AbstractContextManager[Application]:
    """The parts of the program, with metrics, which are closed at the end of the `with` block."""
    return open_application(app.settings, app.settings["DATABASE_URL"], Metrics(), **more)


def overall(application: Application) -> dict[str, Any]:
    """The status of each part of the program on the health page."""
    services = Services(application.settings)
    try:
        return dict(HealthPage(list_probes(application, services)).overall().body["components"])
    finally:
        services.close()


def test_every_part_of_the_program_is_shown(app: App, sandbox: Sandbox) -> None:
    """If all is well, the health page shows every part of the program as up, and shows no secret.

    For each queue, it also shows the message counts.
    """
    app.queues()["visit"].dlq.send("left over")
    with open_application_of(app) as application:
        found = overall(application)
    assert {part["status"] for part in found.values()} == {"UP"}
    assert set(found) == {
        *(str(name) for name in UpstreamName),
        *(f"{queue}-health" for queue in QUEUES),
        "database",
        "breakers",
        "waits",
    }
    assert found["visit-health"]["details"] == {
        "queueName": "hmpps_prisoner_to_nomis_visit_queue",
        "messagesOnQueue": 0,
        "messagesInFlight": 0,
        "dlqName": "hmpps_prisoner_to_nomis_visit_dlq",
        "messagesOnDlq": 1,
        "dlqStatus": "UP",
    }
    secrets = [value for name, value in app.settings.items() if name.endswith(("_SECRET", "_KEY", "_TOKEN"))]
    assert not [secret for secret in secrets if secret and secret in str(found)]


def test_unavailable_parts_are_named(app: App, sandbox: Sandbox) -> None:
    """The health page shows as down a service that fails, a missing queue, and a queue without a dead letter queue."""
    sandbox.fault("nomis", "GET", "/health/ping", kind="status", status=503)
    sqs = app.queues()["visit"].main._client
    sqs.create_queue(QueueName="bare", Attributes={"VisibilityTimeout": "30"})
    more = {"HMPPS_SQS_QUEUES_VISIT_QUEUE_NAME": "bare", "HMPPS_SQS_QUEUES_ACTIVITY_QUEUE_NAME": "no such name"}
    with open_application_of(app, **more) as application:
        found = overall(application)
    assert found["nomis"] == {"status": "DOWN", "details": {"error": "status 503"}}
    assert (found["visit-health"]["status"], found["visit-health"]["details"]["dlqStatus"]) == ("DOWN", "NOT ATTACHED")
    assert found["activity-health"]["details"]["queueName"] == "no such name"
    assert found["activity-health"]["status"] == "DOWN"
    assert found["mapping"]["status"] == "UP"


def test_a_database_that_accepts_no_writes_is_down(app: App, tmp_path: Path) -> None:
    """If another program has locked the database, so that it can only be read, the page shows the database as down."""
    url = f"sqlite:///{tmp_path}/locked.db?timeout=0.1"
    with open_application_of(app, DATABASE_URL=url) as application:
        application.database.upgrade()
        assert overall(application)["database"]["status"] == "UP"
        other = Database(url)
        with other.begin():
            found = overall(application)["database"]
        other.dispose()
    assert found["status"] == "DOWN"
    assert "database is locked" in found["details"]["error"]


def test_an_account_that_cannot_write_is_named(app: App, postgres: URL, postgres_template: str) -> None:
    """If the database account may only read, the health page shows the database as down, and gives the reason."""
    url, reader = make_database(postgres, postgres_template), f"reader_{os.getpid()}"
    database = Database(url.render_as_string(hide_password=False))
    with database.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {reader} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
    try:
        as_reader = url.set(username=reader).render_as_string(hide_password=False)
        with open_application_of(app, DATABASE_URL=as_reader, DATABASE_AUTO_UPGRADE="false") as application:
            found = overall(application)["database"]
    finally:
        with database.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {reader}")
            connection.exec_driver_sql(f"DROP ROLE {reader}")
        database.dispose()
        drop_database(postgres, str(url.database))
    assert found["status"] == "DOWN"
    assert "permission denied for table alembic_version" in found["details"]["error"]


def test_drain_shows_progress_while_it_waits_for_a_service(app: App, sandbox: Sandbox) -> None:
    """A drain that waits for a service to recover still makes progress. A drain whose call hangs makes none."""
    with open_application_of(app, API_TIMEOUT_SECONDS="600", DRAIN_CONCURRENCY="1") as application:
        drain = application.open_drain("appointment")

        def seconds() -> float:
            return application.seconds_since_progress()["appointment"]

        sandbox.traffic(events=1, queues=["appointment"])
        with held(sandbox, "nomis", "POST") as create:
            working = in_thread(drain.run_batch)
            create.wait_for_request()
            hung = seconds()
            until(lambda: seconds() > hung + 1, "the hang is shown")
            create.release()
            assert result_of(working).received == 1
        sandbox.traffic(events=8, queues=["appointment"], seed=2)
        with faulty(sandbox, "nomis", status=503):
            working = in_thread(drain.run_batch)
            until(lambda: application.breakers.open_services(UpstreamName), "the outage is noticed")
            makes_progress(seconds)
            assert not working.done()
        assert result_of(working).received >= 8


def makes_progress(seconds: Callable[[], float]) -> None:
    """Waits until the drain has made progress three times. `seconds` returns the time since its last progress."""
    before, times = seconds(), 0

    def started_again() -> bool:
        nonlocal before, times
        present = seconds()
        times += present < before
        before = present
        return times >= 3

    until(started_again, "the drain makes progress")


def test_metrics_count_messages_calls_runs_and_breakers(app: App, sandbox: Sandbox) -> None:
    """The metrics count each message and each call, and show the last run of each job and the state of each breaker."""
    sandbox.traffic(events=3, queues=["appointment"], seed=2)
    with open_application_of(app) as application:
        metrics = application.metrics
        assert metrics is not None
        metrics.add(lambda: breaker_metrics(application.breakers.states))
        metrics.add(lambda: run_metrics(application.job_runs, ["reconcile-incentives", "drain"]))
        with application.job_runs.run("reconcile-incentives", {}) as active_run:
            active_run.counts["mismatches"] = 7
        with pytest.raises(RuntimeError), application.job_runs.run("reconcile-incentives", {}):
            raise RuntimeError("it broke")
        summary = application.open_drain("appointment").run_batch()
        text = metrics.render().decode()
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    applied = 'prisoner_to_nomis_messages_total{outcome="applied",queue="appointment"}'
    assert float(figures[applied]) == summary.applied > 0
    received = 'prisoner_to_nomis_message_receives_bucket{le="1.0",outcome="applied",queue="appointment"}'
    assert float(figures[received]) == summary.applied
    calls = 'prisoner_to_nomis_upstream_call_seconds_count{method="POST",result="ok",service="nomis"}'
    assert float(figures[calls]) > 0
    assert figures['prisoner_to_nomis_breaker_state{service="nomis"}'] == "0.0"
    assert figures['prisoner_to_nomis_run_status{job="reconcile-incentives",scope="everyone",status="failed"}'] == "1.0"
    assert figures['prisoner_to_nomis_mismatches{job="reconcile-incentives",scope="everyone"}'] == "7.0"
    age = 'prisoner_to_nomis_last_success_age_seconds{job="reconcile-incentives",scope="everyone"}'
    assert float(figures[age]) >= 0
    assert "process_resident_memory_bytes" in figures


def test_a_partial_run_changes_no_figure_of_full_runs(app: App, sandbox: Sandbox) -> None:
    """A run for one prisoner, prison or shard does not change the metrics of full runs.

    These metrics show the mismatches, the status and the last success.
    """
    sandbox.reset(prisoners=60, mismatches={"7": 2, "4": 1})
    app.run_ok("reconcile", "incentives", "--no-notify")
    (whole,) = app.read_json("runs", "list")
    with (
        open_application_of(app) as application,
        pytest.raises(RuntimeError),
        application.job_runs.run("reconcile-incentives", {}),
    ):
        raise RuntimeError("the next weekly run broke")
    chosen = sandbox.prisoners()[0]
    of_prisoner = ("reconcile", "incentives", "--no-notify", "--prisoner", chosen["offenderNo"])
    app.run_ok(*of_prisoner)
    app.run_ok("reconcile", "incentives", "--no-notify", "--prison", chosen["prisonId"])
    current = f"/incentives/booking-id/{chosen['bookingId']}/current"
    with faulty(sandbox, "nomis", "GET", current, kind="status", status=400):
        unread = json.loads(app.run(*of_prisoner, "--json").out)
    app.run_ok("reconcile", "incentives", "--no-notify", "--resume", unread["runId"])
    app.run_ok("reconcile", "incentives", "--no-notify", "--shards", "2", "--shard", "0")
    with open_application_of(app) as application:
        success = application.job_runs.last_success("reconcile-incentives")
        families = {each.name: each for each in run_metrics(application.job_runs, ["reconcile-incentives"])}
    figures = {name: [(sample.labels, sample.value) for sample in family.samples] for name, family in families.items()}
    labels = {"job": "reconcile-incentives", "scope": "everyone"}
    assert success is not None
    assert success.id == whole["id"]
    assert figures["prisoner_to_nomis_mismatches"] == [(labels, 3)]
    assert figures["prisoner_to_nomis_run_status"] == [(labels | {"status": "failed"}, 1)]
    assert [each["counts"].get("scope") for each in app.read_json("runs", "list")] == [
        "one shard",
        "prisoners",
        "prisoners",
        "prisons",
        "prisoners",
        None,
        "everyone",
    ]


def test_failed_calls_are_counted_by_status() -> None:
    """A metric counts failed calls by status, and counts calls without a response separately."""
    metrics = Metrics()
    for status in (503, None):
        error = UpstreamError("nomis", "PUT", "/visits/1", status=status, message="away")
        metrics.after_call(UpstreamName.NOMIS, "PUT", error, 0.2)
    metrics.message_ended("visit", Outcome.FAILED, 3)
    text = metrics.render().decode()
    for result in ("503", "no answer"):
        assert f'_count{{method="PUT",result="{result}",service="nomis"}} 1.0' in text
