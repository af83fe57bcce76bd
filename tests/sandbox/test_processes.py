"""How a sandbox is started, by Python code or by the foreground command, how it is reset, and how it ends.

A sandbox's processes end with their parent.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import boto3
import pytest
import requests

from sandbox import Sandbox, SandboxError
from sync.settings.upstreams import UpstreamName
from tests.harness.app import App
from tests.harness.processes import started
from tests.harness.sandboxes import Caller
from tests.harness.waiting import LONGEST_SECONDS, until

HOLDER = """
import sys, time
from sandbox import Sandbox
sandbox = Sandbox.start(prisoners=5)
print(sandbox.url("nomis"), sandbox.emulator_url, flush=True)
time.sleep(300)
"""


def listens(url: str) -> bool:
    """Whether a server accepts connections at the address `url`."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, int(port))) == 0


def test_no_process_outlives_a_killed_parent() -> None:
    """The services and the emulator end when the process that started them is killed."""
    with started([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        urls = holder.stdout.readline().split()
        assert len(urls) == 2
        assert all(listens(url) for url in urls)
    until(lambda: not any(listens(url) for url in urls))


def test_foreground_command_prints_settings() -> None:
    """`python -m sandbox` prints settings to export, serves until it is interrupted, and exits 0."""
    command = [sys.executable, "-m", "sandbox", "--port-base", "0", "--prisoners", "12", "--seed", "3"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        control = re.search(r"http://\S+", process.stderr.readline())
        assert control is not None
        assert requests.get(control[0].rstrip(";"), timeout=60).json()["prisoners"] == 12
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=LONGEST_SECONDS)
        assert process.returncode == 0, errors
    settings = dict(re.findall(r"^export (\w+)=(.*)$", output, re.MULTILINE))
    assert len(settings) == len(output.splitlines())
    assert settings["HMPPS_SQS_PROVIDER"] == "localstack"
    assert settings["API_BASE_URL_OAUTH"].endswith("/auth")


def test_foreground_command_serves_mocks() -> None:
    """With `--mock-publishers`, every visit exists, at the prison in `MOCK_VISITS_PRISON_ID`.

    If a visitor in `MOCK_VISITS_VISITORS` is not a number, the command exits 2.
    """
    command = [sys.executable, "-m", "sandbox", "--port-base", "0", "--prisoners", "5", "--mock-publishers"]
    command += ["--emulator-url", "http://127.0.0.1:1"]
    environment = {**os.environ, "MOCK_VISITS_PRISON_ID": "LEI", "MOCK_VISITS_VISITORS": ""}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        settings = dict(re.findall(r"^export (\w+)=(\S+)", "".join(printed_settings(process.stdout)), re.MULTILINE))
        token = requests.post(
            f"{settings['API_BASE_URL_OAUTH']}/oauth/token",
            {"grant_type": "client_credentials"},
            auth=(settings["VISITS_CLIENT_ID"], settings["VISITS_CLIENT_SECRET"]),
            timeout=30,
        ).json()["access_token"]
        address, headers = f"{settings['API_BASE_URL_VISITS']}/visits/any", {"Authorization": f"Bearer {token}"}
        visit = requests.get(address, headers=headers, timeout=30).json()
        assert (visit["prisonId"], len(visit["visitors"])) == ("LEI", 2)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONGEST_SECONDS)
    refused = subprocess.run(
        command, env={**environment, "MOCK_VISITS_VISITORS": "Anne"}, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "['Anne'] is not a list of visitors for a mock visit" in refused.stderr


def printed_settings(output: IO[str]) -> Iterator[str]:
    """The lines that the command prints, up to the last setting that is needed to call the visits service."""
    wanted = {"API_BASE_URL_OAUTH", "API_BASE_URL_VISITS", "VISITS_CLIENT_ID", "VISITS_CLIENT_SECRET"}
    while wanted:
        line = output.readline()
        assert line, "the sandbox ended before it had printed its settings"
        wanted.discard(line.removeprefix("export ").partition("=")[0])
        yield line


def test_environment_names_every_service_and_client(sandbox: Sandbox) -> None:
    """The settings have an address and credentials for each service, and the address of the queues."""
    environment = sandbox.environment()
    for service in UpstreamName:
        assert environment[service.address_variable].startswith("http://127.0.0.1:")
        assert all(environment[variable] for variable in service.credential_variables)
    assert environment["HMPPS_SQS_LOCALSTACK_URL"] == sandbox.emulator_url


def test_reset_empties_everything(sandbox: Sandbox) -> None:
    """After a reset, earlier queues, faults, requests and changes are gone."""
    before = sandbox.prisoners()
    sqs = boto3.session.Session().client(
        "sqs",
        region_name="eu-west-2",
        endpoint_url=sandbox.emulator_url,
        aws_access_key_id="t",
        aws_secret_access_key="t",
    )
    sqs.create_queue(QueueName="left_over")
    sandbox.fault("nomis", kind="reset")
    sandbox.release(before[0]["offenderNo"])
    requests.get(sandbox.url("mapping") + "/health/ping", timeout=30)
    assert len(sandbox.prisoners()) == 199
    sandbox.reset()
    assert sandbox.prisoners() == before
    assert (sandbox.faults(), sandbox.requests(), sandbox.journal()) == ([], [], [])
    assert "QueueUrls" not in sqs.list_queues()


def test_no_event_of_an_earlier_world_arrives_after_a_reset(app: App, sandbox: Sandbox, caller: Caller) -> None:
    """Events that had not been published when the world was replaced do not reach the queues of the new world."""
    arrival = {"reason": "NEW_ADMISSION", "prisonId": "MDI", "occurredAt": "2023-05-22T10:00:00"}
    for each in sandbox.prisoners()[:30]:
        path = f"/events/prisoner/received/{each['offenderNo']}"
        assert caller.call("prisoner-search", "PUT", path, arrival).status_code == 202
    sandbox.reset()
    app.forget_queues()
    app.make_queues()
    # Events are published in order, so any earlier event would arrive before this one.
    sandbox.publish("incentives.iep-review.inserted", {"id": 1, "nomsNumber": "A1234BC"})
    assert app.main_queue("incentive").counts().total == 1


def test_wrong_options_are_named(sandbox: Sandbox) -> None:
    """A world with an unknown option is refused. The error names the option, and the old world remains."""
    sandbox.reset(prisoners=20, seed=7)
    before = sandbox.prisoners()
    with pytest.raises(SandboxError, match="unknown option of a world: colour"):
        sandbox.reset(colour="blue")
    assert sandbox.prisoners() == before


def test_sandbox_without_queues_says_so() -> None:
    """A sandbox without the emulator works. A read of the queues' address raises an error that names `moto=True`."""
    with Sandbox.start(prisoners=5, moto=False) as sandbox:
        assert "HMPPS_SQS_LOCALSTACK_URL" not in sandbox.environment()
        assert len(sandbox.prisoners()) == 5
        with pytest.raises(SandboxError, match="moto=True"):
            _ = sandbox.emulator_url
