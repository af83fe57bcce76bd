"""The sandboxes that all tests in one pytest worker share.

Each sandbox starts once. A test that uses the fixture `sandbox` gets a new world.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from sandbox import Sandbox
from sandbox.domains import CLIENTS

#: The number of open prisons in a small world. Some of them have no activities.
PRISONS = 24
#: The prefix of the settings that have the credentials of a client, by the service that the client calls.
PREFIXES = {client.service: client.prefix for client in CLIENTS}


class SmallSandbox(Sandbox):
    """A sandbox whose worlds have few prisons unless a test asks for more.

    A reconciliation by prison reads each open prison. In a world with few prisoners, these reads take most of the
    reconciliation's time.
    """

    def reset(self, prisoners: int = 200, seed: int = 1, latency_ms: float = 0, **options: object) -> None:
        """Replaces the current world with a new one, as `Sandbox.reset` does, but by default with few prisons."""
        super().reset(prisoners, seed, latency_ms, **{"prisons": PRISONS, **options})


class Caller:
    """Calls the fake services as the program would, by default with a token of the program's client for the service."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Takes the sandbox whose services are called."""
        self.sandbox = sandbox
        self.environment = sandbox.environment()
        self._tokens: dict[str, str] = {}
        self._session = requests.Session()
        # Otherwise each call would read the proxies and `.netrc` of this machine, which the sandbox does not need.
        self._session.trust_env = False

    def ask_token(self, service: str, secret: str | None = None) -> requests.Response:
        """Requests a token from auth for a service's client, with `secret` or, by default, the client's own secret."""
        prefix = PREFIXES[service]
        pair = f"{self.environment[f'{prefix}_CLIENT_ID']}:{secret or self.environment[f'{prefix}_CLIENT_SECRET']}"
        headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        where = f"{self.environment['API_BASE_URL_OAUTH']}/oauth/token"
        return self._session.post(where, {"grant_type": "client_credentials"}, headers=headers, timeout=30)

    def token(self, service: str) -> str:
        """Returns a token of a service's client. Repeated calls return the same token."""
        if service not in self._tokens:
            self._tokens[service] = self.ask_token(service).json()["access_token"]
        return self._tokens[service]

    def call(
        self, service: str, method: str, path: str, json: Any = None, token: str | None = None
    ) -> requests.Response:
        """Calls a service with `token` or, if `token` is None, with a token of the service's client.

        If `token` is empty, no token is sent.
        """
        held = self.token(service) if token is None else token
        headers = {"Authorization": f"Bearer {held}"} if held else {}
        return self._session.request(method, self.sandbox.url(service) + path, json=json, headers=headers, timeout=30)

    def get(self, service: str, path: str) -> Any:
        """Returns the decoded body of the response to a GET, or None if the status is 404."""
        response = self.call(service, "GET", path)
        if response.status_code == requests.codes.not_found:
            return None
        response.raise_for_status()
        return response.json()


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[Sandbox]:
    """A sandbox with an emulator of AWS. Its processes run as long as the worker does."""
    with Sandbox.start() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def unpatched_sandbox() -> Iterator[Sandbox]:
    """A sandbox with unpatched moto, for modules that test how queues behave."""
    with Sandbox.start(patched=False) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def quiet_sandbox() -> Iterator[Sandbox]:
    """A sandbox without queues. Its process runs as long as the worker does."""
    with SmallSandbox.start(prisoners=20, moto=False) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running_sandbox: Sandbox) -> Sandbox:
    """A sandbox with a new world of 200 prisoners, and without queues, faults or recorded requests."""
    running_sandbox.reset()
    return running_sandbox


@pytest.fixture
def caller(sandbox: Sandbox) -> Caller:
    """A caller for the services of the sandbox."""
    return Caller(sandbox)
