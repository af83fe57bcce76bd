"""HTTP over real sockets: every form of response that HTTP/1.1 allows, and calls without a complete response."""

from __future__ import annotations

import gzip
import socket
import sys
import threading
import time
import zlib
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest
from urllib3 import HTTPConnectionPool

from sync.upstream.http import (
    ConnectionLost,
    HttpResponse,
    NotSent,
    TimedOut,
    connection_pool,
    fetch,
    send,
    tls_context,
)
from tests.harness.certificates import server_context, write_certificate
from tests.harness.scripted_host import Host, host, pool_of
from tests.harness.waiting import failure_of, in_thread, result_of

#: The offset in `struct tcp_info` of the number of received packets with data.
_DATA_SEGMENTS_IN = 152
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def get(pool: HTTPConnectionPool) -> HttpResponse:
    """Makes one GET request."""
    return send(pool, "GET", "/a?b=1", {"Accept": "application/json"}, None)


def test_a_request_is_sent_completely() -> None:
    """A request is sent with its method, target, host, headers, length and body.

    The only other headers are those that name the program and ask for an uncompressed response.
    """
    with host([OK, OK, OK]) as (made, pool):
        response = send(pool, "PUT", "/x%20y", {"Authorization": "Bearer t"}, b"{}")
        send(pool, "POST", "/empty", {}, None)
        send(pool, "DELETE", "/visits/1", {}, None)
        assert (response.status, response.data, response.headers["content-length"]) == (200, b"hi", "2")
        head, _, body = made.requests[0].partition(b"\r\n\r\n")
        assert body == b"{}"
        first, *fields = head.decode().split("\r\n")
        assert first == "PUT /x%20y HTTP/1.1"
        assert sorted(fields) == [
            "Accept-Encoding: identity",
            "Authorization: Bearer t",
            "Content-Length: 2",
            f"Host: 127.0.0.1:{made.port}",
            "User-Agent: prisoner-to-nomis",
        ]
        assert b"Content-Length: 0" in made.requests[1]
        assert b"Content-Length" not in made.requests[2]


def test_a_connection_is_reused() -> None:
    """Three successive calls use the same connection."""
    with host([OK, OK, OK]) as (made, pool):
        assert [get(pool).data for _ in range(3)] == [b"hi"] * 3
        assert made.connections == 1


def test_a_closed_connection_is_not_reused() -> None:
    """If the service has closed a kept connection, a new connection is used without an error, even for a POST."""
    with host([OK], [OK]) as (made, pool):
        get(pool)
        assert made.closed[0].wait(10)
        assert send(pool, "POST", "/", {}, b"{}").status == 200
        assert made.connections == 2


@pytest.mark.parametrize(
    ("response", "data"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n",
            b"abcde",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", b"a"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200\r\ncontent-length:1\r\n\r\na", b"a"),
    ],
)
def test_every_form_of_response_keeps_the_connection(response: bytes, data: bytes) -> None:
    """Chunked responses, a `100 Continue` and responses without a body are read to the end. The connection is kept."""
    with host([response, OK]) as (made, pool):
        assert get(pool).data == data
        assert get(pool).data == b"hi"
        assert made.connections == 1


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n\r\nhi",
    ],
)
def test_a_connection_that_ends_with_its_response_is_not_reused(response: bytes) -> None:
    """If a response uses HTTP/1.0, has `Connection: close` or has no length, the connection is not reused."""
    with host([response], [OK]) as (made, pool):
        assert get(pool).data == b"hi"
        assert get(pool).data == b"hi"
        assert made.connections == 2


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(b"hello", mtime=0)), ("deflate", zlib.compress(b"hello")), ("identity", b"hello")],
    ids=["gzip", "deflate", "identity"],
)
def test_compressed_bodies_are_decompressed(encoding: str, body: bytes) -> None:
    """A body is decompressed even if compression was not requested, whether it has a length or comes in chunks."""
    encoded = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n".encode()
    whole = encoded + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunked = encoded + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    with host([whole, chunked, OK]) as (made, pool):
        assert [get(pool).data for _ in range(3)] == [b"hello", b"hello", b"hi"]
        assert made.connections == 1


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 20\r\n\r\n",
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 60\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(300)) + b"\r\n",
    ],
)
def test_a_malformed_response_is_a_lost_connection(response: bytes) -> None:
    """If a response ends too early or is not a valid final response, the connection counts as lost.

    It is not reused.
    """
    with host([response], [OK]) as (_, pool):
        with pytest.raises(ConnectionLost):
            get(pool)
        assert get(pool).data == b"hi"


@pytest.mark.parametrize("response", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_silence_is_a_timeout(response: bytes) -> None:
    """If a service is silent for too long, before or during its response, the call times out."""
    with host([response], hold=True) as (_, pool), pytest.raises(TimedOut, match=r"^timed out$"):
        get(pool)


def test_a_request_that_was_not_sent_is_distinguished() -> None:
    """The error is `NotSent` if the port is closed, the host is unknown or the pool is closed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(NotSent, match=r"^connection refused$"):
            get(pool_of(port))
        with pytest.raises(NotSent, match=r"^connection refused$"):
            fetch("GET", f"http://127.0.0.1:{port}", None, 0.5)
    with pytest.raises(NotSent, match=r"^host not found$"):
        get(connection_pool("http://no-such-host.invalid", None, 1, 0.5))
    closed = pool_of(1)
    closed.close()
    with pytest.raises(NotSent, match="are closed"):
        get(closed)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/", {"X": "a\r\nY: b"}),
        ("/", {"X\r\nY": "b"}),
        ("/", {"X": "a\r\n b"}),
        ("/", {"X": "a\0"}),
        ("/", {"X": "a\u2028"}),
        ("/\nX", {}),
        ("/ HTTP/1.1\r\nX: y\r\n\r\n", {}),
        ("/\u00e9", {}),
    ],
)
def test_line_breaks_cannot_be_smuggled_in(target: str, headers: dict[str, str]) -> None:
    """A header or target with a forbidden character is refused before anything is sent."""
    with host([OK]) as (made, pool):
        with pytest.raises(NotSent, match="not valid HTTP"):
            send(pool, "GET", target, headers, None)
        assert made.connections == 0


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n0\r\n\r\n",
        b'HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{"id":99}',
        OK + b"and more than was said",
        OK + b"x" * 300_000,
    ],
)
def test_excess_bytes_are_never_the_next_response(response: bytes) -> None:
    """Bytes after the end of a response are not read as the response to the next call."""
    with host([response, OK], [OK]) as (_, pool):
        get(pool)
        assert send(pool, "POST", "/", {}, b"{}").data == b"hi"


#: The beginnings of a response, each of which is followed by single bytes without end.
BEGINNINGS = {
    "status line": b"",
    "header": b"HTTP/1.1 200 OK\r\nX: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "body without a length": b"HTTP/1.1 200 OK\r\n\r\n",
    "length of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n",
}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_the_time_limit_applies_to_the_whole_call(certificate: Path, secure: bool) -> None:
    """If a response arrives byte by byte, the call still ends at its time limit."""
    over = threading.Event()

    def drip(listening: socket.socket, beginning: bytes) -> None:
        connection, _ = listening.accept()
        spoken = server_context(certificate).wrap_socket(connection, server_side=True) if secure else connection
        with suppress(OSError), spoken:
            spoken.recv(65_536)
            spoken.sendall(beginning)
            while not over.wait(0.05):
                spoken.sendall(b"1")

    def call(beginning: bytes) -> HttpResponse:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            dripping = in_thread(drip, listening, beginning)
            base_url = f"{'https' if secure else 'http'}://localhost:{listening.getsockname()[1]}"
            try:
                return get(connection_pool(base_url, tls_context(str(certificate)) if secure else None, 1, 1.0))
            finally:
                ended.append(dripping)

    ended: list[Future[None]] = []
    started = time.monotonic()
    # The calls run out of time together, so that the test waits only once.
    calls = {name: in_thread(call, beginning) for name, beginning in BEGINNINGS.items()}
    assert {name: type(failure_of(each)) for name, each in calls.items()} == dict.fromkeys(BEGINNINGS, TimedOut)
    assert time.monotonic() - started < 30
    over.set()
    for dripping in ended:
        result_of(dripping)


@pytest.mark.parametrize("secure", [False, True])
def test_the_time_limit_applies_to_a_slow_server(certificate: Path, secure: bool) -> None:
    """If a server reads the request slowly, the call still ends at its time limit."""
    over = threading.Event()

    def sip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        spoken = server_context(certificate).wrap_socket(connection, server_side=True) if secure else connection
        with suppress(OSError), spoken:
            while spoken.recv(100_000) and not over.wait(0.02):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sipping = threading.Thread(target=sip, args=(listening,), daemon=True)
        sipping.start()
        base_url = f"{'https' if secure else 'http'}://localhost:{listening.getsockname()[1]}"
        pool = connection_pool(base_url, tls_context(str(certificate)) if secure else None, 1, 1.0)
        started = time.monotonic()
        with pytest.raises(TimedOut):
            send(pool, "POST", "/", {}, b"1" * 60_000_000)
        assert time.monotonic() - started < 5
        over.set()
        sipping.join()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """The path of a file with a certificate for localhost. The certificate is not trusted by default."""
    path = tmp_path / "certificate.pem"
    write_certificate(path)
    return path


@pytest.mark.parametrize("secure", [False, True])
def test_head_and_body_are_sent_together(certificate: Path, secure: bool) -> None:
    """A small request is sent as one packet or one TLS record.

    Therefore, a server that has received the head also has the body.
    """
    pieces: list[bytes | int] = []

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        spoken = server_context(certificate).wrap_socket(connection, server_side=True) if secure else connection
        with spoken:
            # With TLS, one read returns one record. Without TLS, one read may return several packets.
            pieces.append(spoken.recv(65_536))
            if not secure:
                pieces.append(_data_packets(spoken))
            spoken.sendall(OK)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve, args=(listening,), daemon=True)
        serving.start()
        base_url = f"{'https' if secure else 'http'}://localhost:{listening.getsockname()[1]}"
        pool = connection_pool(base_url, tls_context(str(certificate)) if secure else None, 1, 5)
        assert send(pool, "POST", "/", {}, b"a small body").data == b"hi"
        serving.join()
        pool.close()
    assert isinstance(pieces[0], bytes)
    assert pieces[0].startswith(b"POST / HTTP/1.1\r\n")
    assert pieces[0].endswith(b"\r\n\r\na small body")
    assert pieces[1:] == ([] if secure else [1])


def _data_packets(connection: socket.socket) -> int:
    """The number of packets with data that a connection has received so far (Linux)."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    return int.from_bytes(info[_DATA_SEGMENTS_IN : _DATA_SEGMENTS_IN + 4], sys.byteorder)


def test_tls_is_verified(certificate: Path) -> None:
    """A trusted service is called over TLS, and the connection is kept. An untrusted service never gets the request."""
    made = Host([OK, OK], [OK], [], [], context=server_context(certificate))
    base_url = f"https://localhost:{made.port}"
    trusting = tls_context(str(certificate))
    pool = connection_pool(base_url, trusting, 4, 5)
    assert [get(pool).data, get(pool).data] == [b"hi", b"hi"]
    assert made.connections == 1
    assert fetch("GET", base_url, trusting, 5).data == b"hi"
    pool.close()
    reason = r"^connection lost \(SSLCertVerificationError\)$"
    with pytest.raises(NotSent, match=reason):
        get(connection_pool(base_url, tls_context(None), 4, 5))
    with pytest.raises(NotSent, match=reason):
        fetch("GET", base_url, tls_context(None), 5)
    assert len(made.requests) == 3
    made.close()


def test_a_handshake_that_fails_was_not_sent() -> None:
    """If a server is silent or closes the connection during the TLS handshake, the error is `NotSent`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pool = connection_pool(f"https://127.0.0.1:{listening.getsockname()[1]}", tls_context(None), 1, 0.5)
        with pytest.raises(NotSent, match=r"^timed out$"):
            send(pool, "POST", "/", {}, b"{}")
    with host([]) as (made, _):
        pool = connection_pool(f"https://127.0.0.1:{made.port}", tls_context(None), 1, 5)
        with pytest.raises(NotSent, match="connection lost"):
            send(pool, "POST", "/", {}, b"{}")


def test_a_token_or_ping_uses_no_proxy_and_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token request or a ping uses no proxy, follows no redirect, and keeps neither its connection nor cookies."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    redirect = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    with host([redirect], [OK]) as (made, _):
        url = f"http://127.0.0.1:{made.port}/oauth/token"
        assert (
            fetch("POST", url, None, 5, data={"grant_type": "client_credentials"}, auth=("id", "secret")).status == 302
        )
        assert fetch("GET", url, None, 5).data == b"hi"
        assert [request.split(b" ")[0] for request in made.requests] == [b"POST", b"GET"]
        assert made.requests[0].endswith(b"grant_type=client_credentials")
        assert b"Authorization: Basic aWQ6c2VjcmV0\r\n" in made.requests[0]
        assert b"Accept-Encoding: identity\r\n" in made.requests[0]
        assert b"ookie" not in made.requests[1]
