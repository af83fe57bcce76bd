"""A server that sends given bytes, so that tests can use any response, whether HTTP/1.1 allows it or not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from urllib3 import HTTPConnectionPool

from sync.upstream.http import connection_pool


class Host:
    """A server that sends the n-th list of byte strings on its n-th connection, one string for each request.

    It then closes the connection. With `hold`, it first waits until the server is closed, for at most 20 seconds.
    """

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
        """Closes the server."""
        self._over.set()
        self._listening.close()

    def _serve(self) -> None:
        for number, script in enumerate(self._scripts):
            try:
                connection, _ = self._listening.accept()
                self.connections += 1
                spoken = self._context.wrap_socket(connection, server_side=True) if self._context else connection
                for response in script:
                    self.requests.append(self._read(spoken))
                    spoken.sendall(response)
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


def pool_of(port: int) -> HTTPConnectionPool:
    """A pool of connections to a port of this machine. Calls have a time limit of half a second."""
    return connection_pool(f"http://127.0.0.1:{port}", None, 4, 0.5)


@contextmanager
def host(*scripts: list[bytes], hold: bool = False) -> Iterator[tuple[Host, HTTPConnectionPool]]:
    """A host that sends `scripts`, and a pool of connections to it. Both are closed at the end of the `with` block."""
    made = Host(*scripts, hold=hold)
    pool = pool_of(made.port)
    try:
        yield made, pool
    finally:
        pool.close()
        made.close()
