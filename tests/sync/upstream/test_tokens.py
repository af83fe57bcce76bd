"""Tokens from HMPPS Auth are fetched once and renewed in time, and a failure to get a token raises a clear error."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox import Sandbox
from sync.errors import NoToken
from sync.settings.upstreams import UpstreamName, UpstreamSettings
from sync.upstream.tokens import TokenSource, authorities


class Clock:
    """A monotonic clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """The time in seconds to which the clock is set."""
        return self.seconds


def issue_token(sandbox: Sandbox, token: object, **more: object) -> None:
    """Makes HMPPS Auth respond once with `token` and the fields in `more`."""
    body = {"access_token": token, "token_type": "bearer", **more}
    sandbox.fault("auth", "POST", "/auth/oauth/token", status=200, body=body, times=1)


def source(sandbox: Sandbox, clock: Clock | None = None, secret: str | None = None) -> TokenSource:
    """A source of tokens for the client of NOMIS, with `secret` if given, or else the right secret."""
    environment = sandbox.environment()
    base = environment["API_BASE_URL_OAUTH"]
    client_id, right = environment["SYSTEM_CLIENT_ID"], environment["SYSTEM_CLIENT_SECRET"]
    client = UpstreamSettings(UpstreamName.NOMIS, "http://nomis.test", client_id, secret or right, ("ID", "SECRET"))
    return TokenSource(base, client, None, 1, clock or Clock())


def test_a_token_is_given_for_the_credentials(sandbox: Sandbox) -> None:
    """HMPPS Auth gives a token with the client's roles in return for the client's id and secret."""
    held = authorities(source(sandbox).token())
    assert held is not None
    assert "ROLE_NOMIS_VISITS" in held


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.W10.c", "....", "a.\u00e9.c"])
def test_a_token_that_is_not_a_jwt_has_unknown_roles(token: str) -> None:
    """A token that cannot be decoded has unknown roles, which differs from having no roles."""
    assert authorities(token) is None
    assert authorities("a.e30.c") == frozenset()


def test_one_fetch_for_many_threads(sandbox: Sandbox) -> None:
    """Thirty-two threads that need a token at the same time share one call to HMPPS Auth."""
    issue_token(sandbox, "one", expires_in=3600)
    tokens = source(sandbox)
    together = threading.Barrier(32)

    def ask() -> str:
        together.wait()
        return tokens.token()

    with ThreadPoolExecutor(32) as pool:
        got = {future.result() for future in [pool.submit(ask) for _ in range(32)]}
    assert got == {"one"}
    assert len(sandbox.requests("auth")) == 1


def test_a_token_is_renewed_a_minute_before_its_expiry(sandbox: Sandbox) -> None:
    """Callers get the same token until a minute before it expires, and then a new one."""
    issue_token(sandbox, "one", expires_in=600)
    issue_token(sandbox, "two", expires_in=600)
    clock = Clock()
    tokens = source(sandbox, clock)
    assert tokens.token() == "one"
    clock.seconds += 539
    assert tokens.token() == "one"
    clock.seconds += 2
    assert tokens.token() == "two"


def test_short_lived_token_is_used_more_than_once(sandbox: Sandbox) -> None:
    """A token with a short lifetime is renewed only after half of that lifetime."""
    issue_token(sandbox, "one", expires_in=40)
    issue_token(sandbox, "two", expires_in=40)
    clock = Clock()
    tokens = source(sandbox, clock)
    tokens.token()
    clock.seconds += 19
    assert tokens.token() == "one"
    clock.seconds += 2
    assert tokens.token() == "two"


def test_missing_expiry_has_a_default(sandbox: Sandbox) -> None:
    """A token that comes without a lifetime is used for four minutes."""
    issue_token(sandbox, "one")
    issue_token(sandbox, "two")
    clock = Clock()
    tokens = source(sandbox, clock)
    tokens.token()
    clock.seconds += 200
    assert tokens.token() == "one"
    clock.seconds += 60
    assert tokens.token() == "two"


def test_only_the_refused_token_is_discarded(sandbox: Sandbox) -> None:
    """Only the refused token is discarded. A token that has since replaced it is kept."""
    issue_token(sandbox, "one", expires_in=3600)
    issue_token(sandbox, "two", expires_in=3600)
    tokens = source(sandbox)
    old = tokens.token()
    tokens.discard(old)
    assert tokens.token() == "two"
    tokens.discard(old)
    assert tokens.token() == "two"


def test_bad_credentials_name_service_and_client(sandbox: Sandbox) -> None:
    """The error about refused credentials names HMPPS Auth, the call, the status and the service that the token is for.

    It also names the settings to correct, but does not show the secret.
    """
    with pytest.raises(NoToken) as caught:
        source(sandbox, secret="s3cret").token()
    assert str(caught.value) == (
        "hmpps-auth: POST /oauth/token: status 401: no token for the client of nomis; set ID and SECRET"
    )
    assert caught.value.recoverable


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 503])
@pytest.mark.parametrize("text", ["<html>Sign in</html>", "{}", "[]", "null", "", '{"error": "server_error"}'])
def test_a_response_without_a_token_is_recoverable(sandbox: Sandbox, status: int, text: str) -> None:
    """If a response has no token, the error is recoverable, whatever the status. No redirect is followed."""
    headers = {"Location": "/auth/health/ping"} if status == 302 else {}
    sandbox.fault("auth", "POST", "/auth/oauth/token", status=status, text=text, headers=headers)
    with pytest.raises(NoToken) as caught:
        source(sandbox).token()
    assert (caught.value.status, caught.value.recoverable, caught.value.outcome_unknown) == (status, True, False)
    assert [each["path"] for each in sandbox.requests("auth")] == ["/auth/oauth/token"]


@pytest.mark.parametrize("token", [None, "", " ", 7, ["a"], {"a": 1}, True, "two words", "line\nbreak", "\u00e9"])
def test_only_text_that_fits_a_header_is_a_token(sandbox: Sandbox, token: object) -> None:
    """An `access_token` that is not text, or that does not fit in a header, is refused."""
    issue_token(sandbox, token, expires_in=3600)
    with pytest.raises(NoToken, match="no valid access_token"):
        source(sandbox).token()


@pytest.mark.parametrize("expires_in", ["soon", "", 0, -1, True, [], {}, "NaN", "Infinity", "-inf"])
def test_an_invalid_lifetime_is_refused(sandbox: Sandbox, expires_in: object) -> None:
    """A lifetime must be a positive, finite number. Otherwise the token would be renewed for every call or never."""
    issue_token(sandbox, "one", expires_in=expires_in)
    with pytest.raises(NoToken, match="expires_in"):
        source(sandbox).token()


@pytest.mark.parametrize("expires_in", ["1e400", "3600"])
def test_a_lifetime_may_be_text(sandbox: Sandbox, expires_in: str) -> None:
    """A lifetime may be a number written as text, but a number that is too large for a float is refused."""
    text = json.dumps({"access_token": "one", "expires_in": expires_in})
    sandbox.fault("auth", "POST", "/auth/oauth/token", status=200, text=text)
    if expires_in == "3600":
        assert source(sandbox).token() == "one"
    else:
        with pytest.raises(NoToken, match="expires_in"):
            source(sandbox).token()


def test_unavailable_auth_is_recoverable(sandbox: Sandbox) -> None:
    """If HMPPS Auth cannot be reached, the error has no status, and a later attempt may succeed."""
    sandbox.fault("auth", kind="reset")
    with pytest.raises(NoToken) as caught:
        source(sandbox).token()
    assert caught.value.status is None
    assert caught.value.recoverable


@pytest.mark.parametrize("kind", ["trickle", "delay"])
def test_a_slow_token_is_given_up(sandbox: Sandbox, kind: str) -> None:
    """The time limit for fetching a token applies to the whole call, not to each read."""
    sandbox.fault("auth", kind=kind, ms=400 if kind == "trickle" else 3000)
    with pytest.raises(NoToken, match="timed out"):
        source(sandbox).token()
