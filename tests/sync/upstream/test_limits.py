"""Health pings and their time limit, and the limit on the size of responses."""

from __future__ import annotations

import functools
import gzip
import resource
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import orjson
import pytest

from sandbox import Sandbox
from sync.errors import UpstreamError
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName
from sync.upstream.services import Services


@contextmanager
def responding(first: bytes, again: bytes = b"") -> Iterator[str]:
    """A server that sends `first`, and then sends `again` endlessly or, if `again` is empty, waits.

    Yields the server's address.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                accepted.append(connection)
                with connection, suppress(OSError):
                    connection.recv(65_536)
                    connection.sendall(first)
                    while again:
                        connection.sendall(again)
                    connection.recv(1)

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for connection in accepted:
        # A client may keep a connection once it has read the whole response.
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    serving.join(10)
    assert not serving.is_alive()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@functools.cache
def bomb() -> bytes:
    """A response with 200 MB of zeros, compressed with gzip."""
    packer = zlib.compressobj(level=1, wbits=31)
    body = b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(200)), packer.flush()])
    return HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


#: The pieces of each response: the first is sent once, the second repeatedly. The "gzip" response is made when needed.
ENDLESS: dict[str, tuple[bytes, ...]] = {
    "gzip": (),
    "without a length": (HEAD + b"\r\n", bytes(1_000_000)),
    "in chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + bytes(0x100000) + b"\r\n"),
    "a head": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65_536),
}


@pytest.mark.parametrize("pieces", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("kind", ["call", "write", "token", "ping"])
def test_no_response_is_read_beyond_the_size_limit(sandbox: Sandbox, kind: str, pieces: tuple[bytes, ...]) -> None:
    """Calls, token requests and pings end when the response exceeds a size limit, whatever its form.

    The outcome of a write is then unknown.
    """
    with responding(*pieces or (bomb(),)) as address:
        what = "API_BASE_URL_OAUTH" if kind == "token" else "API_BASE_URL_NOMIS"
        services = Services(load_settings({**sandbox.environment(), what: address, "API_TIMEOUT_SECONDS": "20"}))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if kind == "ping":
            assert services.ping(UpstreamName.NOMIS, 20)
        else:
            with pytest.raises(UpstreamError) as caught:
                services.nomis.call("PUT" if kind == "write" else "GET", "/x")
            assert (caught.value.status, caught.value.outcome_unknown) == (None, kind == "write")
        services.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_an_incomplete_compressed_body_is_refused(sandbox: Sandbox) -> None:
    """Part of a compressed body never counts as the whole, even if it has the declared length."""
    body = gzip.compress(orjson.dumps(list(range(5_000))), mtime=0)[:-100]
    with responding(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as address:
        services = Services(load_settings({**sandbox.environment(), "API_BASE_URL_NOMIS": address}))
        with pytest.raises(UpstreamError) as caught:
            services[UpstreamName.NOMIS].call("GET", "/x")
        assert (caught.value.status, caught.value.recoverable) == (None, True)
        services.close()


def test_a_slow_ping_is_given_up(sandbox: Sandbox) -> None:
    """The time limit of a ping applies to the head and the body of the response together."""
    services = Services(load_settings(sandbox.environment()))
    sandbox.fault("nomis", path="/health/ping", kind="trickle", ms=400)
    assert services.ping(UpstreamName.NOMIS, 0.5) == "timed out"
    services.close()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 503}, "status 503"),
        ({"status": 302, "text": "", "headers": {"Location": "/health/ping"}}, "status 302"),
        (
            {"status": 200, "text": "<html>Sign in</html>"},
            'status 200, but the response does not say "status": "UP"',
        ),
        ({"status": 200, "text": ""}, 'status 200, but the response does not say "status": "UP"'),
        ({"status": 200, "text": '["UP"]'}, 'status 200, but the response does not say "status": "UP"'),
        (
            {"status": 200, "body": {"status": "DOWN"}},
            'status 200, but the response does not say "status": "UP"',
        ),
        ({"status": 204, "text": ""}, "status 204"),
    ],
)
def test_only_the_services_own_status_shows_that_it_is_up(sandbox: Sandbox, fault: dict[str, Any], reason: str) -> None:
    """A redirect, a server error, or a response without the status `UP` does not show that the service is up."""
    services = Services(load_settings(sandbox.environment()))
    sandbox.fault("nomis", path="/health/ping", kind="status", **fault)
    assert services.ping(UpstreamName.NOMIS) == reason
    assert services.reach(UpstreamName.NOMIS) == reason
    services.close()


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_calls_replace_a_missing_ping(sandbox: Sandbox, status: int) -> None:
    """If a service does not offer a ping, `reach` reports no problem, so calls show whether the service is up."""
    services = Services(load_settings(sandbox.environment()))
    sandbox.fault("nomis", path="/health/ping", kind="status", status=status)
    assert services.ping(UpstreamName.NOMIS) == f"status {status}"
    assert services.reach(UpstreamName.NOMIS) is None
    services.close()


def test_a_ping_needs_no_token(sandbox: Sandbox) -> None:
    """A service is pinged without a token, so HMPPS Auth is not asked for one first."""
    services = Services(load_settings(sandbox.environment()))
    assert services.ping(UpstreamName.NOMIS) is None
    assert services.ping(UpstreamName.OAUTH) is None
    assert sandbox.requests("auth")[0]["path"] == "/auth/health/ping"
    services.close()
