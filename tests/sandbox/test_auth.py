"""The tokens and roles of the fake services."""

from __future__ import annotations

import base64
import json

import pytest

from sandbox import Sandbox
from tests.harness.sandboxes import PREFIXES, Caller

READS = {
    "nomis": ("/prisoners/ids", "SYNCHRONISATION_REPORTING"),
    "mapping": ("/mapping/incentives/incentive-id/1", "NOMIS_INCENTIVES"),
    "visits": ("/visits/aa-bb-cc-dd", "VISIT_SCHEDULER"),
    "prisoner-search": ("/events/prisoner/received/A1234BC", "EVENTS_ADMIN"),
}


def test_a_token_has_client_roles_and_expiry(caller: Caller) -> None:
    """The token states its client, roles and expiry. The response also gives the lifetime of the token."""
    response = caller.ask_token("nomis").json()
    claims = json.loads(base64.urlsafe_b64decode(response["access_token"].split(".")[1] + "=="))
    assert response["token_type"] == "bearer"
    assert response["expires_in"] == 3600
    assert claims["client_id"] == caller.environment["SYSTEM_CLIENT_ID"]
    assert "ROLE_SYNCHRONISATION_REPORTING" in claims["authorities"]
    assert claims["exp"] - claims["iat"] == 3600


def test_wrong_secret_gets_no_token(caller: Caller) -> None:
    """If the secret is wrong, a request for a token gets 401."""
    assert caller.ask_token("nomis", secret="wrong").status_code == 401


@pytest.mark.parametrize("service", sorted(PREFIXES))
def test_a_service_accepts_only_tokens_of_its_client(caller: Caller, service: str) -> None:
    """Without a token, with an invented token or with the token of another service's client, a call gets 401."""
    other = "mapping" if service != "mapping" else "nomis"
    for token in ("", "made.up.token", caller.token(other)):
        assert caller.call(service, "GET", "/anything", token=token).status_code == 401
    assert caller.call(service, "GET", "/anything").status_code == 404


def test_expired_token_is_refused(sandbox: Sandbox) -> None:
    """A token is refused after its expiry, or once the sandbox has expired all tokens."""
    sandbox.reset(prisoners=20, token_seconds=0, tell_expiry=False)
    caller = Caller(sandbox)
    response = caller.ask_token("nomis").json()
    assert "expires_in" not in response
    assert caller.call("nomis", "GET", "/prisoners/ids", token=response["access_token"]).status_code == 401
    sandbox.reset(prisoners=20)
    assert caller.call("nomis", "GET", "/prisoners/ids").status_code == 200
    sandbox.expire_tokens()
    assert caller.call("nomis", "GET", "/prisoners/ids").status_code == 401


@pytest.mark.parametrize("service", sorted(READS))
def test_missing_role_is_forbidden(sandbox: Sandbox, caller: Caller, service: str) -> None:
    """A call whose token lacks the role that the endpoint requires gets 403. With the role, it does not."""
    path, role = READS[service]
    method = "PUT" if service == "prisoner-search" else "GET"
    sandbox.grant(service, ["SOMETHING_ELSE"])
    assert caller.call(service, method, path, json={}).status_code == 403
    sandbox.grant(service, [role])
    assert Caller(sandbox).call(service, method, path, json={}).status_code in (200, 400, 404)


def test_health_needs_no_token(caller: Caller) -> None:
    """Every service reports its health without a token."""
    for service in PREFIXES:
        assert caller.call(service, "GET", "/health/ping", token="").json() == {"status": "UP"}
    assert caller.call("auth", "GET", "/auth/health/ping", token="").json() == {"status": "UP"}


def test_unknown_paths_and_methods_are_distinguished(caller: Caller) -> None:
    """An unknown path gets 404, and a known path with a method that it does not support gets 405."""
    assert caller.call("nomis", "GET", "/nowhere").status_code == 404
    assert caller.call("nomis", "DELETE", "/prisoners/ids").status_code == 405
