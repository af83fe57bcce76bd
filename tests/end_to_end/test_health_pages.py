"""The health pages of a running scheduler."""

import signal
from collections.abc import Callable

import requests

from benchmarks.forked_command import ForkedCommand
from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.waiting import LONGEST_SECONDS, until


def logged(installed: App, message: str) -> list[dict[str, object]]:
    """The log lines whose message is `message`."""
    return [line for line in installed.log() if line["message"] == message]


def test_scheduler_serves_its_health(installed: App, sandbox: Sandbox, running: Callable[..., ForkedCommand]) -> None:
    """While all services are up, the health page says so, and the metrics count the drained messages.

    When a service goes down, the health page shows the outage, but the scheduler still counts as live.
    """
    installed.make_queues()
    process = running("scheduler")
    until(lambda: bool(logged(installed, "scheduler-started")), "start")
    (started,) = logged(installed, "health-pages-started")
    address = f"http://127.0.0.1:{started['port']}"
    until(lambda: requests.get(f"{address}/health/readiness", timeout=10).status_code == 200, "readiness")
    whole = requests.get(f"{address}/health", timeout=10)
    assert (whole.status_code, whole.json()["status"]) == (200, "UP"), whole.text
    assert requests.get(f"{address}/info", timeout=10).json()["build"]["name"] == "prisoner-to-nomis"
    sandbox.traffic(events=5, queues=["appointment"], seed=3)
    applied = 'prisoner_to_nomis_messages_total{outcome="applied",queue="appointment"}'
    until(lambda: applied in requests.get(f"{address}/metrics", timeout=10).text, "messages are counted")
    sandbox.fault("mapping", "GET", "/health/ping", kind="status", status=503)
    until(lambda: requests.get(f"{address}/health", timeout=10).status_code == 503, "the outage is shown")
    assert requests.get(f"{address}/health/liveness", timeout=10).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONGEST_SECONDS) == 0


def test_second_scheduler_works_without_the_port(installed: App, running: Callable[..., ForkedCommand]) -> None:
    """If the port of the health pages is taken, a scheduler logs this and works without the pages."""
    installed.make_queues()
    running("scheduler")
    until(lambda: len(logged(installed, "scheduler-started")) == 1, "the first has started")
    port = str(logged(installed, "health-pages-started")[0]["port"])
    second = running("scheduler", HEALTH_PORT=port)
    until(lambda: len(logged(installed, "scheduler-started")) == 2, "the second has started")
    (off,) = logged(installed, "health-pages-off")
    assert "HEALTH_PORT" in str(off["reason"])
    second.send_signal(signal.SIGTERM)
    assert second.wait(LONGEST_SECONDS) == 0
