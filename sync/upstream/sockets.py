"""Sockets with a timeout that limits a whole request and its response, not each piece of them."""

import math
import socket
import ssl
import struct
import time
from typing import Any

#: The limit of a piece may exceed the remaining time by a twentieth, since each change of the limit takes system calls.
_CLOSE_ENOUGH = 1.05


class _TotalTimeout(socket.socket):
    """A socket with a timeout that covers everything sent or received after it was set.

    A timeout for each piece would not be enough: a server that sends or accepts a few bytes now and then would never
    exceed it.
    """

    _deadline = math.inf
    #: The limit of a single piece, in seconds.
    _limit: float | None = None

    def settimeout(self, value: float | None) -> None:
        """Limits everything sent or received from now on to `value` seconds in total; None means no limit."""
        self._deadline = math.inf if value is None else time.monotonic() + value
        self._limit_piece(value)

    def recv_into(self, *args: Any) -> int:
        """Receives within the remaining time. Raises `TimeoutError` when there is none left."""
        self._limit_next_piece()
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        """Sends within the remaining time. Raises `TimeoutError` when there is none left."""
        self._limit_next_piece()
        return super().send(*args)

    def _limit_next_piece(self) -> None:
        if self._deadline < math.inf:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("timed out")
            self._limit_piece(remaining)

    def _limit_piece(self, seconds: float | None) -> None:
        if seconds is None or self._limit is None or not seconds <= self._limit <= seconds * _CLOSE_ENOUGH:
            self._set_limit(seconds)
            self._limit = seconds

    def _set_limit(self, seconds: float | None) -> None:
        super().settimeout(seconds)


class TlsSocket(_TotalTimeout, ssl.SSLSocket):
    """A TLS socket with a timeout that covers everything sent or received after it was set."""


class PlainSocket(_TotalTimeout):
    """A socket without TLS, with a timeout that covers everything sent or received after it was set.

    The kernel enforces the limit for each piece. With an ordinary timeout, Python would first wait for the socket and
    then receive, and the thread would queue for the interpreter lock after each of these two steps. With 64 messages in
    flight, that would slow a drain by a twentieth.
    """

    def recv_into(self, *args: Any) -> int:
        """Receives within the remaining time. Raises `TimeoutError` when there is none left."""
        try:
            return super().recv_into(*args)
        except BlockingIOError as error:
            raise TimeoutError("timed out") from error

    def send(self, *args: Any) -> int:
        """Sends within the remaining time. Raises `TimeoutError` when there is none left."""
        try:
            return super().send(*args)
        except BlockingIOError as error:
            raise TimeoutError("timed out") from error

    def sendall(self, data: Any, *args: Any) -> None:
        """Sends everything within the remaining time, although the kernel limits each piece separately."""
        left = memoryview(data)
        while left:
            left = left[self.send(left, *args) :]

    def _set_limit(self, seconds: float | None) -> None:
        if self._limit is None:
            self.setblocking(True)
        # The kernel treats 0 as no limit.
        microseconds = 0 if seconds is None else max(1, int(seconds * 1_000_000))
        limit = struct.pack("@ll", *divmod(microseconds, 1_000_000))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
