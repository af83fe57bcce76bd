"""Tokens of HMPPS Auth: fetched once, renewed in time, and clear errors."""

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

import pytest
import requests
import responses

from sync.failures import UpstreamError
from sync.settings import UpstreamName, UpstreamSettings
from sync.upstream.tokens import TokenSource

BASE = "http://auth.test/auth"
CLIENT = UpstreamSettings(UpstreamName.NOMIS, "http://nomis.test", "the-client", "s3cret", ("ID", "SECRET"))


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """The time it stands at, in seconds."""
        return self.seconds


@pytest.fixture
def auth() -> Iterator[responses.RequestsMock]:
    """An auth service that answers what a test tells it."""
    with responses.RequestsMock() as mock:
        yield mock


def answer(auth: responses.RequestsMock, token: str, **more: object) -> None:
    """Lets auth answer once with a token."""
    auth.post(f"{BASE}/oauth/token", json={"access_token": token, "token_type": "bearer", **more})


def source(clock: Clock | None = None) -> TokenSource:
    """A source of the client's tokens."""
    return TokenSource(BASE, CLIENT, requests.Session(), 5, clock or Clock())


def test_asks_with_basic_credentials_and_grant(auth: responses.RequestsMock) -> None:
    """A token is asked for with the client's id and secret in the Basic header and the grant in the body."""
    answer(auth, "one", expires_in=3600)
    assert source().token() == "one"
    request = auth.calls[0].request
    assert request.headers["Authorization"] == f"Basic {base64.b64encode(b'the-client:s3cret').decode()}"
    assert parse_qs(str(request.body)) == {"grant_type": ["client_credentials"]}


def test_one_fetch_for_many_threads(auth: responses.RequestsMock) -> None:
    """Thirty-two threads that need a token at the same moment make one call."""
    answer(auth, "one", expires_in=3600)
    tokens = source()
    together = threading.Barrier(32)

    def ask() -> str:
        together.wait()
        return tokens.token()

    with ThreadPoolExecutor(32) as pool:
        got = {future.result() for future in [pool.submit(ask) for _ in range(32)]}
    assert got == {"one"}
    assert len(auth.calls) == 1


def test_renews_a_minute_before_expiry(auth: responses.RequestsMock) -> None:
    """A token is kept until a minute before it expires, and renewed then."""
    answer(auth, "one", expires_in=600)
    answer(auth, "two", expires_in=600)
    clock = Clock()
    tokens = source(clock)
    assert tokens.token() == "one"
    clock.seconds += 539
    assert tokens.token() == "one"
    clock.seconds += 2
    assert tokens.token() == "two"


def test_short_lived_token_is_used_more_than_once(auth: responses.RequestsMock) -> None:
    """A token that lives less than the margin is still used for half of its life."""
    answer(auth, "one", expires_in=40)
    answer(auth, "two", expires_in=40)
    clock = Clock()
    tokens = source(clock)
    tokens.token()
    clock.seconds += 19
    assert tokens.token() == "one"
    clock.seconds += 2
    assert tokens.token() == "two"


def test_missing_expiry_has_a_default(auth: responses.RequestsMock) -> None:
    """An answer that does not say how long the token lives is good for some minutes."""
    answer(auth, "one")
    answer(auth, "two")
    clock = Clock()
    tokens = source(clock)
    tokens.token()
    clock.seconds += 200
    assert tokens.token() == "one"
    clock.seconds += 60
    assert tokens.token() == "two"


def test_discards_only_the_refused_token(auth: responses.RequestsMock) -> None:
    """A refused token is forgotten; one that was fetched meanwhile is kept."""
    answer(auth, "one", expires_in=3600)
    answer(auth, "two", expires_in=3600)
    tokens = source()
    old = tokens.token()
    tokens.discard(old)
    assert tokens.token() == "two"
    tokens.discard(old)
    assert tokens.token() == "two"


def test_bad_credentials_name_service_and_client(auth: responses.RequestsMock) -> None:
    """Bad credentials are an error that names auth, the call, the status and the client's service, not the secret."""
    auth.post(f"{BASE}/oauth/token", status=401, json={"error": "invalid_client"})
    with pytest.raises(UpstreamError) as caught:
        source().token()
    assert str(caught.value) == (
        "hmpps-auth: POST /oauth/token: status 401: no token for client of nomis; set ID and SECRET"
    )
    assert CLIENT.client_secret not in str(caught.value)


@pytest.mark.parametrize("body", ["<html>", "{}", "[]", '{"access_token": "x", "expires_in": "soon"}'])
def test_unusable_answer(auth: responses.RequestsMock, body: str) -> None:
    """An answer without a token is an error, whatever it is instead."""
    auth.post(f"{BASE}/oauth/token", body=body)
    with pytest.raises(UpstreamError, match="no access_token"):
        source().token()


def test_auth_away_is_recoverable(auth: responses.RequestsMock) -> None:
    """Auth that cannot be reached is an error without status, which a later attempt may mend."""
    auth.post(f"{BASE}/oauth/token", body=requests.ConnectionError())
    with pytest.raises(UpstreamError) as caught:
        source().token()
    assert caught.value.status is None
    assert caught.value.recoverable
