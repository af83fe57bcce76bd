"""Kept connections: every form of answer that HTTP/1.1 allows, and what is known when there is none."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sync.upstream.connections import ConnectionLost, Connections, HttpAnswer, NotSent, TimedOut
from tests.harness.certificates import write_certificate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Host:
    """A server that answers the requests of its n-th connection with the n-th list of byte strings, then closes it."""

    def __init__(self, *scripts: list[bytes], context: ssl.SSLContext | None = None, hold: bool = False) -> None:
        self._scripts = scripts
        self._context = context
        self._hold = hold
        self._over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed = [threading.Event() for _ in scripts]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the server."""
        self._over.set()
        self._listening.close()

    def _serve(self) -> None:
        for number, script in enumerate(self._scripts):
            try:
                connection, _ = self._listening.accept()
                self.connections += 1
                spoken = self._context.wrap_socket(connection, server_side=True) if self._context else connection
                for answer in script:
                    self.requests.append(self._read(spoken))
                    spoken.sendall(answer)
                if self._hold:
                    self._over.wait(20)
                spoken.close()
            except OSError:
                pass
            self.closed[number].set()

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65_536)
            if not piece:
                raise ConnectionError("no further request")
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)
        while len(body) < length:
            body += connection.recv(65_536)
        return head + b"\r\n\r\n" + body


@contextmanager
def host(*scripts: list[bytes], hold: bool = False) -> Iterator[tuple[Host, Connections]]:
    """A host, and connections to it with time-outs of half a second."""
    made = Host(*scripts, hold=hold)
    connections = Connections("127.0.0.1", made.port, None, 4, 0.5, 0.5)
    try:
        yield made, connections
    finally:
        connections.close()
        made.close()


def get(connections: Connections) -> HttpAnswer:
    """One GET."""
    return connections.exchange("GET", "/a?b=1", {"Accept": "application/json"}, None)


def test_a_request_is_sent_as_it_should_be() -> None:
    """Method, target, host, headers, length and body are on the wire, and nothing else of the caller's."""
    with host([OK, OK]) as (made, connections):
        answer = connections.exchange("PUT", "/x%20y", {"Authorization": "Bearer t"}, b"{}")
        connections.exchange("POST", "/empty", {}, None)
        assert (answer.status, answer.data, answer.headers["content-length"]) == (200, b"hi", "2")
        head, _, body = made.requests[0].partition(b"\r\n\r\n")
        assert body == b"{}"
        assert head.decode().split("\r\n") == [
            "PUT /x%20y HTTP/1.1",
            f"Host: 127.0.0.1:{made.port}",
            "Accept-Encoding: identity",
            "User-Agent: prisoner-to-nomis",
            "Authorization: Bearer t",
            "Content-Length: 2",
        ]
        assert b"Content-Length: 0" in made.requests[1]


def test_a_connection_is_used_again() -> None:
    """Three calls one after the other take one connection."""
    with host([OK, OK, OK]) as (made, connections):
        assert [get(connections).data for _ in range(3)] == [b"hi"] * 3
        assert made.connections == 1


def test_a_connection_that_was_closed_meanwhile_is_not_used() -> None:
    """A service that closed an idle connection is called over a new one, a POST too, without an error."""
    with host([OK], [OK]) as (made, connections):
        get(connections)
        assert made.closed[0].wait(10)
        assert connections.exchange("POST", "/", {}, b"{}").status == 200
        assert made.connections == 2


@pytest.mark.parametrize(
    ("answer", "data"),
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
def test_forms_of_answers(answer: bytes, data: bytes) -> None:
    """Chunks with extensions and trailers, provisional answers, no body, and a bare head: the connection is kept."""
    with host([answer, OK]) as (made, connections):
        assert get(connections).data == data
        assert get(connections).data == b"hi"
        assert made.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n\r\nhi",
    ],
)
def test_a_connection_that_ends_with_its_answer_is_not_used_again(answer: bytes) -> None:
    """Old servers, those that say so, and bodies without a length end the connection."""
    with host([answer], [OK]) as (made, connections):
        assert get(connections).data == b"hi"
        assert get(connections).data == b"hi"
        assert made.connections == 2


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(b"hello", mtime=0)), ("deflate", zlib.compress(b"hello")), ("identity", b"hello")],
    ids=["gzip", "deflate", "identity"],
)
def test_compressed_bodies(encoding: str, body: bytes) -> None:
    """Bodies are decompressed, asked for or not."""
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with host([head + body]) as (_, connections):
        assert get(connections).data == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: magic\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 1\n\na",
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(300)) + b"\r\n",
    ],
)
def test_answers_that_are_none(answer: bytes) -> None:
    """What ends too early or is no HTTP is a lost connection, and that is not used again."""
    with host([answer], [OK]) as (_, connections):
        with pytest.raises(ConnectionLost):
            get(connections)
        assert get(connections).data == b"hi"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_silence_is_a_time_out(answer: bytes) -> None:
    """A service that says nothing for too long, at first or in the midst, has timed out."""
    with host([answer], hold=True) as (_, connections), pytest.raises(TimedOut, match=r"^timed out$"):
        get(connections)


def test_what_was_not_sent_is_told_apart() -> None:
    """A port where nobody listens, and a host that is unknown: the service cannot have seen the request."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(NotSent, match=r"^connection refused$"):
            get(Connections("127.0.0.1", free.getsockname()[1], None, 1, 0.5, 0.5))
    with pytest.raises(NotSent, match=r"^host not found$"):
        get(Connections("no-such-host.invalid", 80, None, 1, 0.5, 0.5))


def test_line_breaks_cannot_be_smuggled_in() -> None:
    """A header or target with a line break is refused before anything of it is sent."""
    with host([OK], [OK]) as (made, connections):
        for target, headers in (("/", {"X": "a\r\nY: b"}), ("/\nX", {})):
            with pytest.raises(NotSent, match="no HTTP"):
                connections.exchange("GET", target, headers, None)
        assert made.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n0\r\n\r\n",
        b'HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{"id":99}',
        OK + b"and more than was told",
    ],
)
def test_what_is_left_of_an_answer_is_never_the_next_one(answer: bytes) -> None:
    """Bytes beyond the end of an answer are not taken for the answer of the next call."""
    with host([answer, OK], [OK]) as (made, connections):
        get(connections)
        assert connections.exchange("POST", "/", {}, b"{}").data == b"hi"
        assert made.connections == 2


def test_the_limit_is_that_of_the_whole_call() -> None:
    """A body that drips, and so never falls silent, is given up when the call takes too long."""
    over = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        with suppress(OSError):
            while not over.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        dripping = threading.Thread(target=drip, args=(listening,), daemon=True)
        dripping.start()
        with pytest.raises(TimedOut):
            get(Connections("127.0.0.1", listening.getsockname()[1], None, 1, 5, 0.5))
        over.set()
        dripping.join()


def test_no_more_idle_connections_are_kept_than_allowed() -> None:
    """Connections above the size are closed after their call."""
    with host([OK], [OK], [OK], hold=True) as (made, _):
        connections = Connections("127.0.0.1", made.port, None, 0, 0.5, 5)
        get(connections)
        assert list(connections._idle) == []


def test_tls_is_verified(tmp_path: Path) -> None:
    """Over TLS a trusted service is called, its connection kept; one that is not trusted never sees the request."""
    cert = tmp_path / "certificate.pem"
    write_certificate(cert)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert)
    made = Host([OK, OK], [OK], context=serving)
    trusting = Connections("localhost", made.port, ssl.create_default_context(cafile=str(cert)), 4, 5, 5)
    assert [get(trusting).data, get(trusting).data] == [b"hi", b"hi"]
    assert made.connections == 1
    doubting = Connections("localhost", made.port, ssl.create_default_context(), 4, 5, 5)
    with pytest.raises(NotSent, match=r"^connection lost \(SSLCertVerificationError\)$"):
        get(doubting)
    assert len(made.requests) == 2
    trusting.close()
    made.close()
